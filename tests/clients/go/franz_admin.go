package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
)

func (franz) administer(asked *asked) (any, error) {
	client, err := franzClient(asked.Bootstrap)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), operationTimeout)
	defer cancel()
	admin := kadm.NewClient(client)
	if asked.Group != "" || asked.Op == "list_groups" {
		return franzGroups(ctx, admin, asked)
	}
	topic := asked.Topic
	switch asked.Op {
	case "create_topic":
		var partitions int32
		if err := json.Unmarshal(asked.Partitions, &partitions); err != nil {
			return nil, err
		}
		configs := map[string]*string{}
		for name, value := range asked.Configs {
			configs[name] = kadm.StringPtr(value)
		}
		_, err := admin.CreateTopic(ctx, partitions, 1, configs, topic)
		return nil, err
	case "delete_topic":
		_, err := admin.DeleteTopic(ctx, topic)
		return nil, err
	case "topics":
		details, err := admin.ListTopics(ctx)
		return details.Names(), err
	case "describe_topic":
		metadata, err := admin.Metadata(ctx, topic)
		if err != nil {
			return nil, err
		}
		found := map[int32]told{}
		for _, one := range metadata.Topics[topic].Partitions.Sorted() {
			found[one.Partition] = told{"leader": one.Leader, "replicas": one.Replicas, "isr": one.ISR}
		}
		return found, metadata.Topics[topic].Err
	case "create_partitions":
		answer, err := admin.UpdatePartitions(ctx, asked.Total, topic)
		if err != nil {
			return nil, err
		}
		return nil, answer[topic].Err
	case "describe_configs":
		answer, err := admin.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return nil, err
		}
		described, err := answer.On(topic, nil)
		found := map[string]*string{}
		for _, one := range described.Configs {
			found[one.Key] = one.Value
		}
		return found, err
	case "alter_config":
		change := kadm.AlterConfig{Op: kadm.SetConfig, Name: asked.Name, Value: &asked.Value}
		answer, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
		if err != nil {
			return nil, err
		}
		return nil, answer[0].Err
	case "describe_cluster":
		metadata, err := admin.BrokerMetadata(ctx)
		nodes := map[int32]string{}
		for _, one := range metadata.Brokers {
			nodes[one.NodeID] = one.Host + ":" + strconv.Itoa(int(one.Port))
		}
		return told{"cluster_id": metadata.Cluster, "controller": metadata.Controller, "nodes": nodes}, err
	case "delete_records":
		var before kadm.Offsets
		before.AddOffset(topic, asked.Partition, asked.Before, -1)
		answer, err := admin.DeleteRecords(ctx, before)
		if err != nil {
			return nil, err
		}
		one, _ := answer.Lookup(topic, asked.Partition)
		return one.LowWatermark, one.Err
	case "log_dir_sizes":
		answer, err := admin.DescribeAllLogDirs(ctx, nil)
		sizes := map[int32]int64{}
		for _, folders := range answer {
			folders.EachPartition(func(one kadm.DescribedLogDirPartition) {
				if one.Topic == topic {
					sizes[one.Partition] = one.Size
				}
			})
		}
		return sizes, err
	case "describe_producers":
		var of kadm.TopicsSet
		of.Add(topic, asked.Partition)
		answer, err := admin.DescribeProducers(ctx, of)
		if err != nil {
			return nil, err
		}
		described := answer[topic].Partitions[asked.Partition]
		found := []told{}
		for _, one := range described.ActiveProducers {
			found = append(found, told{
				"producer_id": one.ProducerID, "producer_epoch": one.ProducerEpoch, "last_sequence": one.LastSequence,
			})
		}
		return found, described.Err
	}
	return franzOffsets(ctx, admin, asked)
}

func franzOffsets(ctx context.Context, admin *kadm.Client, asked *asked) (any, error) {
	of := func(listed kadm.ListedOffsets, err error) (kadm.ListedOffset, error) {
		if err != nil {
			return kadm.ListedOffset{}, err
		}
		one, _ := listed.Lookup(asked.Topic, asked.Partition)
		return one, one.Err
	}
	switch asked.Op {
	case "watermarks":
		low, err := of(admin.ListStartOffsets(ctx, asked.Topic))
		if err != nil {
			return nil, err
		}
		high, err := of(admin.ListEndOffsets(ctx, asked.Topic))
		return []int64{low.Offset, high.Offset}, err
	case "offset_for_time":
		found, err := of(admin.ListOffsetsAfterMilli(ctx, asked.Timestamp, asked.Topic))
		// Where there is no such record it tells the end, without a time.
		if err != nil || found.Timestamp < 0 {
			return nil, err
		}
		return found.Offset, nil
	case "list_offset":
		list := map[string]func(context.Context, ...string) (kadm.ListedOffsets, error){
			"earliest":      admin.ListStartOffsets,
			"latest":        admin.ListEndOffsets,
			"max_timestamp": admin.ListMaxTimestampOffsets,
		}[asked.Spec]
		found, err := of(list(ctx, asked.Topic))
		return []int64{found.Offset, found.Timestamp}, err
	}
	return nil, fmt.Errorf("no operation %q", asked.Op)
}

func franzGroups(ctx context.Context, admin *kadm.Client, asked *asked) (any, error) {
	group, topic := asked.Group, asked.Topic
	switch asked.Op {
	case "list_groups":
		listed, err := admin.ListGroups(ctx)
		return listed.Groups(), err
	case "describe_group":
		answer, err := admin.DescribeGroups(ctx, group)
		if err != nil {
			return nil, err
		}
		described := answer[group]
		members := []told{}
		for _, one := range described.Members {
			partitions := [][]any{}
			if assigned, is := one.Assigned.AsConsumer(); is {
				for _, of := range assigned.Topics {
					for _, partition := range of.Partitions {
						partitions = append(partitions, []any{of.Topic, partition})
					}
				}
			}
			members = append(members, told{
				"client_id": one.ClientID, "instance_id": one.InstanceID, "partitions": partitions,
			})
		}
		return told{"state": described.State, "assignor": described.Protocol, "members": members}, described.Err
	case "group_offsets":
		answer, err := admin.FetchOffsets(ctx, group)
		found := map[int32]int64{}
		for partition, one := range answer[topic] {
			found[partition] = one.At
		}
		return found, err
	case "alter_group_offsets":
		var wanted kadm.Offsets
		for partition, offset := range asked.Offsets {
			wanted.AddOffset(topic, partition, offset, -1)
		}
		return nil, admin.CommitAllOffsets(ctx, group, wanted)
	case "delete_group_offsets":
		var partitions []int32
		if err := json.Unmarshal(asked.Partitions, &partitions); err != nil {
			return nil, err
		}
		var of kadm.TopicsSet
		of.Add(topic, partitions...)
		answer, err := admin.DeleteOffsets(ctx, group, of)
		if err != nil {
			return nil, err
		}
		return nil, answer.Error()
	case "delete_group":
		_, err := admin.DeleteGroup(ctx, group)
		return nil, err
	}
	return nil, fmt.Errorf("no operation %q", asked.Op)
}
