// The same as tests/pipelines/confluent.py with franz-go: `clients pipeline BOOTSTRAP NAME INCARNATION SEED`. It is a
// static member of its group, so that the next incarnation takes over at once.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	batchMax           = 20
	abortsPercent      = 20
	transactionTimeout = 3 * time.Second
)

func pipelineTold(event, tag string, records [][2]any) {
	say(told{"event": event, "tag": tag, "records": records, "at_ns": time.Now().UnixNano()})
}

func pipeline(bootstrap, name, incarnation string, seed int64) error {
	chance := rand.New(rand.NewSource(seed))
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap),
		kgo.RetryBackoffFn(func(int) time.Duration { return 200 * time.Millisecond }),
		kgo.MetadataMinAge(200*time.Millisecond),
		kgo.FetchMaxWait(50*time.Millisecond),
		kgo.TransactionalID(name),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.ConsumerGroup(name),
		kgo.InstanceID(name),
		kgo.ConsumeTopics("in"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for number := 1; ; number++ {
		fetches := session.PollRecords(ctx, 1+chance.Intn(batchMax-1))
		if fetches.NumRecords() == 0 {
			continue
		}
		tag := fmt.Sprintf("%s-%d", incarnation, number)
		if err := session.Begin(); err != nil {
			return err
		}
		records := [][2]any{}
		failed := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(record *kgo.Record) {
			records = append(records, [2]any{record.Partition, string(record.Value)})
			session.Produce(ctx, &kgo.Record{
				Topic: "out-" + name, Partition: record.Partition, Value: []byte(tag + ":" + string(record.Value)),
			}, failed.Promise())
		})
		how := kgo.TransactionEndTry(failed.Err() == nil && chance.Intn(100) >= abortsPercent)
		if how == kgo.TryCommit {
			pipelineTold("committing", tag, records)
		} else {
			pipelineTold("aborting", tag, records)
		}
		committed, err := session.End(ctx, how)
		switch {
		case err != nil:
			return err
		case committed:
			say(told{"event": "committed", "tag": tag})
		default:
			say(told{"event": "aborted", "tag": tag})
		}
	}
}

func runPipeline(arguments []string) {
	seed, err := strconv.ParseInt(arguments[3], 10, 64)
	if err == nil {
		err = pipeline(arguments[0], arguments[1], arguments[2], seed)
	}
	say(told{"event": "ended", "error": err.Error()})
	os.Exit(1)
}
