package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// franz-go; its administration stands in franz_admin.go.
type franz struct{}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

var franzBalancers = map[string]kgo.GroupBalancer{
	"range":              kgo.RangeBalancer(),
	"roundrobin":         kgo.RoundRobinBalancer(),
	"sticky":             kgo.StickyBalancer(),
	"cooperative-sticky": kgo.CooperativeStickyBalancer(),
}

func franzClient(bootstrap string, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap),
		// A broker that is being restarted is asked again as often as the others' clients do.
		kgo.RetryBackoffFn(func(int) time.Duration { return 200 * time.Millisecond }),
		kgo.MetadataMinAge(200 * time.Millisecond),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}, options...)...)
}

func (franz) produce(asked *asked) ([][3]*int64, error) {
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(franzCodecs[asked.Codec]),
		kgo.ProducerBatchMaxBytes(maxMessageBytes),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// Not its delivery timeout: that counts from the record's timestamp, which may be long ago.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.AllowAutoTopicCreation(),
	}
	if !asked.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := franzClient(asked.Bootstrap, options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deliveryTimeout)
	defer cancel()
	acknowledged := [][3]*int64{}
	size := len(asked.Records)
	if asked.Watched {
		size = step
	}
	for at := 0; at < len(asked.Records); at += size {
		var records []*kgo.Record
		for _, one := range asked.Records[at:min(at+size, len(asked.Records))] {
			sent := &kgo.Record{Topic: asked.Topic, Partition: asked.Partition, Key: data(one.Key), Value: data(one.Value)}
			for _, header := range one.Headers {
				sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: *header[0], Value: data(header[1])})
			}
			if one.Timestamp != nil {
				sent.Timestamp = time.UnixMilli(*one.Timestamp)
			}
			records = append(records, sent)
		}
		results := client.ProduceSync(ctx, records...)
		if err := results.FirstErr(); err != nil {
			return nil, err
		}
		// The results stand in the order they came in; the records in the order they were sent.
		for _, record := range records {
			partition, offset, timestamp := int64(record.Partition), record.Offset, record.Timestamp.UnixMilli()
			acknowledged = append(acknowledged, [3]*int64{&partition, &offset, &timestamp})
		}
		if asked.Watched {
			say(told{"progress": len(acknowledged)})
		}
	}
	return acknowledged, nil
}

func (franz) read(asked *asked) ([]stored, error) {
	start := kgo.NewOffset().AtStart()
	if asked.Start != nil {
		start = kgo.NewOffset().At(*asked.Start)
	}
	client, err := franzClient(asked.Bootstrap,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{asked.Topic: {asked.Partition: start}}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deliveryTimeout)
	defer cancel()
	found := []stored{}
	for len(found) < asked.Count {
		size := 10_000
		if asked.Watched {
			size = step
		}
		fetches := client.PollRecords(ctx, size)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%d of %d records", len(found), asked.Count)
		}
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(one *kgo.Record) {
			headers := [][]*string{}
			for _, header := range one.Headers {
				headers = append(headers, []*string{&header.Key, text(header.Value)})
			}
			timestamp := one.Timestamp.UnixMilli()
			found = append(found, stored{one.Offset, record{text(one.Key), text(one.Value), headers, &timestamp}})
		})
		if asked.Watched {
			say(told{"progress": len(found)})
		}
	}
	return found[:asked.Count], nil
}

func (franz) transact(asked *asked) error {
	client, err := franzClient(asked.Bootstrap, kgo.TransactionalID(asked.TransactionalID),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	end := func(value string, commit kgo.TransactionEndTry) error {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		record := &kgo.Record{Topic: asked.Topic, Partition: 0, Value: []byte(value)}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
		return client.EndTransaction(ctx, commit)
	}
	for round := 0; round < asked.Total; round++ {
		if err := end("aborted", kgo.TryAbort); err != nil {
			return err
		}
		if err := end("committed", kgo.TryCommit); err != nil {
			return err
		}
	}
	return nil
}

func (franz) member(orders *orders, commands <-chan string) error {
	owned := newOwned()
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		owned.revoked(append([]int32{}, partitions[orders.Topic]...)...)
	}
	options := []kgo.Opt{
		kgo.ClientID(orders.ClientID),
		kgo.ConsumerGroup(orders.Group),
		kgo.ConsumeTopics(orders.Topic),
		kgo.Balancers(franzBalancers[orders.Assignor]),
		kgo.SessionTimeout(orders.sessionTimeout()),
		kgo.HeartbeatInterval(orders.heartbeatInterval()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// What is read between two calls of poll belongs to what is owned then.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			owned.assigned(partitions[orders.Topic]...)
		}),
		kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost),
	}
	if orders.InstanceID != nil {
		options = append(options, kgo.InstanceID(*orders.InstanceID))
	}
	if orders.AutoCommit {
		options = append(options, kgo.AutoCommitInterval(200*time.Millisecond))
	} else {
		options = append(options, kgo.DisableAutoCommit())
	}
	client, err := franzClient(orders.Bootstrap, options...)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	committing := false
	for {
		select {
		case command, open := <-commands:
			if !open || command == "leave" {
				return nil
			}
			committing = command == "commit"
		default:
		}
		if committing {
			if err := commit(client, orders.Topic, owned.offsets()); err != nil {
				// Once more when the rebalance has ended.
				sayError(err)
				if errors.Is(err, kerr.FencedInstanceID) {
					return err
				}
			} else {
				committing = false
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		fetches := client.PollRecords(ctx, 1000)
		cancel()
		fetches.EachRecord(func(one *kgo.Record) { owned.received(one.Partition, one.Offset, one.Value) })
		client.AllowRebalance()
		for _, failed := range fetches.Errors() {
			if errors.Is(failed.Err, context.DeadlineExceeded) {
				continue
			}
			if errors.Is(failed.Err, kerr.FencedInstanceID) {
				return failed.Err
			}
			sayError(failed.Err)
		}
	}
}

func commit(client *kgo.Client, topic string, offsets map[int32]int64) error {
	wanted := map[int32]kgo.EpochOffset{}
	for partition, offset := range offsets {
		wanted[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	var failed error
	all := map[string]map[int32]kgo.EpochOffset{topic: wanted}
	client.CommitOffsetsSync(context.Background(), all,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
			failed = err
			for _, topic := range answer.Topics {
				for _, partition := range topic.Partitions {
					if failed == nil {
						failed = kerr.ErrorForCode(partition.ErrorCode)
					}
				}
			}
		})
	if failed != nil {
		return failed
	}
	say(told{"event": "committed", "offsets": offsets})
	return nil
}
