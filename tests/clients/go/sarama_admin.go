package main

import (
	"encoding/json"
	"fmt"

	"github.com/IBM/sarama"
)

func (saramaClient) administer(asked *asked) (any, error) {
	client, err := sarama.NewClient([]string{asked.Bootstrap}, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, err
	}
	if asked.Group != "" || asked.Op == "list_groups" {
		return saramaGroups(admin, asked)
	}
	topic, partition := asked.Topic, asked.Partition
	switch asked.Op {
	case "create_topic":
		detail := sarama.TopicDetail{ReplicationFactor: 1, ConfigEntries: map[string]*string{}}
		if err := json.Unmarshal(asked.Partitions, &detail.NumPartitions); err != nil {
			return nil, err
		}
		for name, value := range asked.Configs {
			detail.ConfigEntries[name] = &value
		}
		return nil, admin.CreateTopic(topic, &detail, false)
	case "delete_topic":
		return nil, admin.DeleteTopic(topic)
	case "topics":
		listed, err := admin.ListTopics()
		names := []string{}
		for name := range listed {
			names = append(names, name)
		}
		return names, err
	case "describe_topic":
		described, err := admin.DescribeTopics([]string{topic})
		if err != nil {
			return nil, err
		}
		found := map[int32]told{}
		for _, one := range described[0].Partitions {
			found[one.ID] = told{"leader": one.Leader, "replicas": one.Replicas, "isr": one.Isr}
		}
		return found, nil
	case "create_partitions":
		return nil, admin.CreatePartitions(topic, int32(asked.Total), nil, false)
	case "describe_configs":
		described, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
		found := map[string]string{}
		for _, one := range described {
			found[one.Name] = one.Value
		}
		return found, err
	case "alter_config":
		change := sarama.IncrementalAlterConfigsEntry{
			Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &asked.Value,
		}
		entries := map[string]sarama.IncrementalAlterConfigsEntry{asked.Name: change}
		return nil, admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
	case "describe_cluster":
		brokers, controller, err := admin.DescribeCluster()
		nodes := map[int32]string{}
		for _, one := range brokers {
			nodes[one.ID()] = one.Addr()
		}
		return told{"controller": controller, "nodes": nodes}, err
	case "delete_records":
		if err := admin.DeleteRecords(topic, map[int32]int64{partition: asked.Before}); err != nil {
			return nil, err
		}
		// It does not tell the new low watermark.
		return client.GetOffset(topic, partition, sarama.OffsetOldest)
	case "log_dir_sizes":
		_, controller, err := admin.DescribeCluster()
		if err != nil {
			return nil, err
		}
		described, err := admin.DescribeLogDirs([]int32{controller})
		sizes := map[int32]int64{}
		for _, folder := range described[controller] {
			for _, of := range folder.Topics {
				for _, one := range of.Partitions {
					if of.Topic == topic {
						sizes[one.PartitionID] = one.Size
					}
				}
			}
		}
		return sizes, err
	case "list_offset":
		spec := map[string]int64{"earliest": sarama.OffsetOldest, "latest": sarama.OffsetNewest}
		listed, err := admin.ListOffsets(map[string]map[int32]int64{topic: {partition: spec[asked.Spec]}}, nil)
		if err != nil {
			return nil, err
		}
		one := listed[topic][partition]
		if one.Err != sarama.ErrNoError {
			return nil, one.Err
		}
		return []int64{one.Offset, one.Timestamp}, nil
	case "watermarks":
		low, err := client.GetOffset(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		high, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
		return []int64{low, high}, err
	case "offset_for_time":
		found, err := client.GetOffset(topic, partition, asked.Timestamp)
		if err != nil || found < 0 {
			return nil, err
		}
		return found, nil
	}
	return nil, fmt.Errorf("no operation %q", asked.Op)
}

func saramaGroups(admin sarama.ClusterAdmin, asked *asked) (any, error) {
	group, topic := asked.Group, asked.Topic
	switch asked.Op {
	case "list_groups":
		listed, err := admin.ListConsumerGroups()
		names := []string{}
		for name := range listed {
			names = append(names, name)
		}
		return names, err
	case "describe_group":
		answer, err := admin.DescribeConsumerGroups([]string{group})
		if err != nil {
			return nil, err
		}
		described := answer[0]
		if described.Err != sarama.ErrNoError {
			return nil, described.Err
		}
		members := []told{}
		for _, one := range described.Members {
			assigned, err := one.GetMemberAssignment()
			if err != nil {
				return nil, err
			}
			partitions := [][]any{}
			if assigned != nil {
				for name, of := range assigned.Topics {
					for _, partition := range of {
						partitions = append(partitions, []any{name, partition})
					}
				}
			}
			members = append(members, told{
				"client_id": one.ClientId, "instance_id": one.GroupInstanceId, "partitions": partitions,
			})
		}
		return told{"state": described.State, "assignor": described.Protocol, "members": members}, nil
	case "group_offsets":
		answer, err := admin.ListConsumerGroupOffsets(group, nil)
		if err != nil {
			return nil, err
		}
		found := map[int32]int64{}
		if of := answer.GetGroup(group); of != nil {
			for partition, one := range of.Blocks[topic] {
				found[partition] = one.Offset
			}
		}
		return found, nil
	case "alter_group_offsets":
		wanted := map[int32]sarama.OffsetAndMetadata{}
		for partition, offset := range asked.Offsets {
			wanted[partition] = sarama.OffsetAndMetadata{Offset: offset, LeaderEpoch: -1}
		}
		answer, err := admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: wanted}, nil)
		if err != nil {
			return nil, err
		}
		for _, of := range answer.Errors[topic] {
			if of != sarama.ErrNoError {
				return nil, of
			}
		}
		return nil, nil
	case "delete_group_offsets":
		var partitions []int32
		if err := json.Unmarshal(asked.Partitions, &partitions); err != nil {
			return nil, err
		}
		for _, partition := range partitions {
			if err := admin.DeleteConsumerGroupOffset(group, topic, partition); err != nil {
				return nil, err
			}
		}
		return nil, nil
	case "delete_group":
		return nil, admin.DeleteConsumerGroup(group)
	}
	return nil, fmt.Errorf("no operation %q", asked.Op)
}
