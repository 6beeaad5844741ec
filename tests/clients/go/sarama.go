package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/IBM/sarama"
)

// sarama; its administration stands in sarama_admin.go.
type saramaClient struct{}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

var saramaStrategies = map[string]func() sarama.BalanceStrategy{
	"range":              sarama.NewBalanceStrategyRange,
	"roundrobin":         sarama.NewBalanceStrategyRoundRobin,
	"sticky":             sarama.NewBalanceStrategySticky,
	"cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky,
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	// A broker that is being restarted is asked again for as long as the others' clients do.
	const backoff = 200 * time.Millisecond
	config.Metadata.Retry.Max, config.Metadata.Retry.Backoff = int(deliveryTimeout/backoff), backoff
	config.Producer.Retry.Max, config.Producer.Retry.Backoff = int(deliveryTimeout/backoff), backoff
	config.Consumer.Retry.Backoff = backoff
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Return.Errors = true
	return config
}

func (saramaClient) produce(asked *asked) (_ [][3]*int64, err error) {
	config := saramaConfig()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = saramaCodecs[asked.Codec]
	config.Producer.MaxMessageBytes = maxMessageBytes
	config.Producer.Partitioner = sarama.NewManualPartitioner
	// As many requests in flight would change the order when one is sent again.
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent = asked.Idempotent
	producer, err := sarama.NewSyncProducer([]string{asked.Bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()
	acknowledged := [][3]*int64{}
	size := len(asked.Records)
	if asked.Watched {
		size = step
	}
	for at := 0; at < len(asked.Records); at += size {
		var messages []*sarama.ProducerMessage
		for _, one := range asked.Records[at:min(at+size, len(asked.Records))] {
			sent := &sarama.ProducerMessage{Topic: asked.Topic, Partition: asked.Partition}
			if one.Key != nil {
				sent.Key = sarama.ByteEncoder(data(one.Key))
			}
			if one.Value != nil {
				sent.Value = sarama.ByteEncoder(data(one.Value))
			}
			for _, header := range one.Headers {
				name := []byte(*header[0])
				sent.Headers = append(sent.Headers, sarama.RecordHeader{Key: name, Value: data(header[1])})
			}
			if one.Timestamp != nil {
				sent.Timestamp = time.UnixMilli(*one.Timestamp)
			}
			messages = append(messages, sent)
		}
		if err := producer.SendMessages(messages); err != nil {
			return nil, err
		}
		for _, message := range messages {
			partition, offset, timestamp := int64(message.Partition), message.Offset, message.Timestamp.UnixMilli()
			acknowledged = append(acknowledged, [3]*int64{&partition, &offset, &timestamp})
		}
		if asked.Watched {
			say(told{"progress": len(acknowledged)})
		}
	}
	return acknowledged, nil
}

func (saramaClient) read(asked *asked) (_ []stored, err error) {
	consumer, err := sarama.NewConsumer([]string{asked.Bootstrap}, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	start := sarama.OffsetOldest
	if asked.Start != nil {
		start = *asked.Start
	}
	partition, err := consumer.ConsumePartition(asked.Topic, asked.Partition, start)
	if err != nil {
		return nil, err
	}
	defer partition.AsyncClose()
	// It tells of errors, and goes on by itself.
	go func() {
		for range partition.Errors() {
		}
	}()
	deadline := time.After(deliveryTimeout)
	found := []stored{}
	for len(found) < asked.Count {
		select {
		case one := <-partition.Messages():
			headers := [][]*string{}
			for _, header := range one.Headers {
				name := string(header.Key)
				headers = append(headers, []*string{&name, text(header.Value)})
			}
			timestamp := one.Timestamp.UnixMilli()
			found = append(found, stored{one.Offset, record{text(one.Key), text(one.Value), headers, &timestamp}})
			if asked.Watched && len(found)%step == 0 {
				say(told{"progress": len(found)})
			}
		case <-deadline:
			return nil, fmt.Errorf("%d of %d records", len(found), asked.Count)
		}
	}
	return found, nil
}

func (saramaClient) transact(asked *asked) error {
	config := saramaConfig()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = asked.TransactionalID
	producer, err := sarama.NewSyncProducer([]string{asked.Bootstrap}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	send := func(value string) error {
		message := &sarama.ProducerMessage{Topic: asked.Topic, Partition: 0, Value: sarama.StringEncoder(value)}
		_, _, err := producer.SendMessage(message)
		return err
	}
	for round := 0; round < asked.Total; round++ {
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		if err := send("aborted"); err != nil {
			return err
		}
		if err := producer.AbortTxn(); err != nil {
			return err
		}
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		if err := send("committed"); err != nil {
			return err
		}
		if err := producer.CommitTxn(); err != nil {
			return err
		}
	}
	return nil
}

// --- a member of a group ---------------------------------------------------------------------------------------------

// One member over all its sessions; it owns what it has a running claim of.
type saramaMember struct {
	topic    string
	owned    *owned
	sessions chan sarama.ConsumerGroupSession
	ended    chan error
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.sessions <- session
	if len(session.Claims()[m.topic]) == 0 {
		m.owned.assigned()
	}
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.owned.assigned(claim.Partition())
	defer m.owned.revoked(claim.Partition())
	for {
		select {
		case one, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.owned.received(one.Partition, one.Offset, one.Value)
		case <-session.Context().Done():
			return nil
		}
	}
}

// The group's Commit says nothing of how it went: what then is committed does.
func (m *saramaMember) commit(session sarama.ConsumerGroupSession, admin sarama.ClusterAdmin, group string) error {
	wanted := m.owned.offsets()
	of := map[string][]int32{}
	for partition, offset := range wanted {
		session.MarkOffset(m.topic, partition, offset, "")
		of[m.topic] = append(of[m.topic], partition)
	}
	session.Commit()
	if len(wanted) > 0 {
		answer, err := admin.ListConsumerGroupOffsets(group, of)
		if err != nil {
			return err
		}
		found := map[int32]int64{}
		for partition := range wanted {
			found[partition] = answer.GetBlock(m.topic, partition).Offset
		}
		if !maps.Equal(found, wanted) {
			return fmt.Errorf("committed %v, not %v", found, wanted)
		}
	}
	say(told{"event": "committed", "offsets": wanted})
	return nil
}

func (saramaClient) member(orders *orders, commands <-chan string) error {
	config := saramaConfig()
	config.ClientID = orders.ClientID
	config.Consumer.Group.Session.Timeout = orders.sessionTimeout()
	config.Consumer.Group.Heartbeat.Interval = orders.heartbeatInterval()
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{saramaStrategies[orders.Assignor]()}
	config.Consumer.Offsets.AutoCommit.Enable = orders.AutoCommit
	config.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	if orders.InstanceID != nil {
		config.Consumer.Group.InstanceId = *orders.InstanceID
	}
	client, err := sarama.NewClient([]string{orders.Bootstrap}, config)
	if err != nil {
		return err
	}
	defer client.Close()
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return err
	}
	group, err := sarama.NewConsumerGroupFromClient(orders.Group, client)
	if err != nil {
		return err
	}
	go func() {
		for err := range group.Errors() {
			sayError(err)
		}
	}()
	member := &saramaMember{
		orders.Topic, newOwned(), make(chan sarama.ConsumerGroupSession, 1), make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			err := group.Consume(ctx, []string{orders.Topic}, member)
			if errors.Is(err, sarama.ErrFencedInstancedId) {
				member.ended <- err
				return
			}
			if err != nil && ctx.Err() == nil {
				// The next round asks again, as the program around sarama is meant to do.
				sayError(err)
				time.Sleep(config.Metadata.Retry.Backoff)
			}
		}
		member.ended <- nil
	}()
	var session sarama.ConsumerGroupSession
	var again <-chan time.Time
	for {
		select {
		case session = <-member.sessions:
			continue
		case err := <-member.ended:
			return errors.Join(err, group.Close())
		case command, open := <-commands:
			if !open || command == "leave" {
				cancel()
				<-member.ended
				return group.Close()
			}
		case <-again:
		}
		again = nil
		if session == nil {
			again = time.After(50 * time.Millisecond)
		} else if err := member.commit(session, admin, orders.Group); err != nil {
			sayError(err)
			again = time.After(50 * time.Millisecond)
		}
	}
}
