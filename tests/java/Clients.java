// Kafka's own Java clients, told what to do by lines of JSON on stdin: {"op": ..., "bootstrap": ..., ...}.
// Answers a line each: {"result": ...} or {"error": name, "message": text}; before it, {"progress": count} where asked.
// Bytes travel as base64. One process for a whole test session: starting a JVM costs more than any test.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Clients {
    static final ObjectMapper JSON = new ObjectMapper();
    static final int STEP = 20;
    static final long DELIVERY_TIMEOUT_MS = 60_000;
    static final long OPERATION_TIMEOUT_MS = 30_000;
    static PrintStream out;

    public static void main(String[] args) throws Exception {
        out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Map<String, Object> answer = new LinkedHashMap<>();
            try {
                answer.put("result", run(JSON.readTree(line)));
            } catch (Throwable thrown) {
                Throwable cause = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
                Errors known = Errors.forException(cause);
                answer.put("error", known == Errors.UNKNOWN_SERVER_ERROR ? cause.getClass().getSimpleName() : known.name());
                answer.put("message", String.valueOf(cause.getMessage()));
            }
            say(answer);
        }
    }

    static void say(Map<String, Object> answer) throws Exception {
        out.println(JSON.writeValueAsString(answer));
        out.flush();
    }

    static Object run(JsonNode asked) throws Exception {
        switch (asked.get("op").asText()) {
            case "produce": return produce(asked);
            case "read": return read(asked);
            case "watermarks": return watermarks(asked);
            case "offset_for_time": return offsetForTime(asked);
            case "transact": return transact(asked);
            default:
                Properties settings = settings(asked);
                settings.put("default.api.timeout.ms", String.valueOf(OPERATION_TIMEOUT_MS));
                try (Admin admin = Admin.create(settings)) {
                    return administer(admin, asked);
                }
        }
    }

    static Properties settings(JsonNode asked) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", asked.get("bootstrap").asText());
        settings.put("reconnect.backoff.max.ms", "500");
        return settings;
    }

    static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    static TopicPartition partition(JsonNode asked) {
        return new TopicPartition(asked.get("topic").asText(), asked.path("partition").asInt(0));
    }

    // --- records ------------------------------------------------------------------------------------------------------

    static KafkaProducer<byte[], byte[]> producer(Properties settings) {
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static Object produce(JsonNode asked) throws Exception {
        Properties settings = settings(asked);
        settings.put("acks", "all");
        settings.put("compression.type", asked.get("codec").asText());
        settings.put("enable.idempotence", asked.get("idempotent").asText());
        settings.put("linger.ms", "5");
        settings.put("max.request.size", "20000000");
        settings.put("delivery.timeout.ms", String.valueOf(DELIVERY_TIMEOUT_MS));
        boolean watched = asked.get("watched").asBoolean();
        TopicPartition to = partition(asked);
        List<List<Long>> told = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(settings)) {
            List<Future<RecordMetadata>> waiting = new ArrayList<>();
            int total = asked.get("records").size();
            for (JsonNode record : asked.get("records")) {
                Long timestamp = record.get("timestamp").isNull() ? null : record.get("timestamp").asLong();
                ProducerRecord<byte[], byte[]> sent = new ProducerRecord<>(
                    to.topic(), to.partition(), timestamp, bytes(record.get("key")), bytes(record.get("value")));
                for (JsonNode header : record.get("headers")) {
                    sent.headers().add(header.get(0).asText(), bytes(header.get(1)));
                }
                waiting.add(producer.send(sent));
                boolean last = told.size() + waiting.size() == total;
                if (last || watched && waiting.size() == STEP) {
                    for (Future<RecordMetadata> future : waiting) {
                        RecordMetadata metadata = future.get(DELIVERY_TIMEOUT_MS, TimeUnit.MILLISECONDS);
                        told.add(List.of((long) metadata.partition(), metadata.offset(), metadata.timestamp()));
                    }
                    waiting.clear();
                    if (watched) {
                        say(Map.of("progress", told.size()));
                    }
                }
            }
        }
        return told;
    }

    static KafkaConsumer<byte[], byte[]> consumer(JsonNode asked) {
        Properties settings = settings(asked);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("check.crcs", "true");
        if (asked.path("watched").asBoolean()) {
            settings.put("max.poll.records", String.valueOf(STEP));
        }
        settings.put("default.api.timeout.ms", String.valueOf(OPERATION_TIMEOUT_MS));
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static Object read(JsonNode asked) throws Exception {
        int count = asked.get("count").asInt();
        boolean watched = asked.get("watched").asBoolean();
        List<Map<String, Object>> found = new ArrayList<>();
        long deadline = System.nanoTime() + DELIVERY_TIMEOUT_MS * 1_000_000;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(asked)) {
            consumer.assign(List.of(partition(asked)));
            if (asked.get("start").isNull()) {
                consumer.seekToBeginning(List.of(partition(asked)));
            } else {
                consumer.seek(partition(asked), asked.get("start").asLong());
            }
            while (found.size() < count) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(found.size() + " of " + count + " records");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    List<List<String>> headers = new ArrayList<>();
                    for (Header header : record.headers()) {
                        List<String> pair = new ArrayList<>();
                        pair.add(header.key());
                        pair.add(text(header.value()));
                        headers.add(pair);
                    }
                    Map<String, Object> one = new HashMap<>();
                    one.put("offset", record.offset());
                    one.put("key", text(record.key()));
                    one.put("value", text(record.value()));
                    one.put("headers", headers);
                    one.put("timestamp", record.timestamp());
                    found.add(one);
                }
                if (watched) {
                    say(Map.of("progress", found.size()));
                }
            }
        }
        return found.subList(0, count);
    }

    static Object watermarks(JsonNode asked) {
        TopicPartition of = partition(asked);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(asked)) {
            return List.of(consumer.beginningOffsets(List.of(of)).get(of), consumer.endOffsets(List.of(of)).get(of));
        }
    }

    static Object offsetForTime(JsonNode asked) {
        TopicPartition of = partition(asked);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(asked)) {
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(of, asked.get("timestamp").asLong())).get(of);
            return found == null ? null : found.offset();
        }
    }

    static Object transact(JsonNode asked) throws Exception {
        Properties settings = settings(asked);
        settings.put("transactional.id", asked.get("transactional_id").asText());
        settings.put("max.block.ms", String.valueOf(OPERATION_TIMEOUT_MS));
        KafkaProducer<byte[], byte[]> producer = producer(settings);
        try {
            String topic = asked.get("topic").asText();
            producer.initTransactions();
            for (int round = 0; round < asked.get("total").asInt(); round++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, 0, null, "aborted".getBytes())).get();
                producer.abortTransaction();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, 0, null, "committed".getBytes()));
                producer.commitTransaction();
            }
            return null;
        } finally {
            producer.close(Duration.ZERO);
        }
    }

    // --- administration -----------------------------------------------------------------------------------------------

    static Object administer(Admin admin, JsonNode asked) throws Exception {
        String topic = asked.path("topic").asText();
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        switch (asked.get("op").asText()) {
            case "create_topic":
                Map<String, String> configs = new HashMap<>();
                asked.get("configs").fields().forEachRemaining(entry -> configs.put(entry.getKey(), entry.getValue().asText()));
                NewTopic created = new NewTopic(topic, asked.get("partitions").asInt(), (short) 1).configs(configs);
                return admin.createTopics(List.of(created)).all().get();
            case "delete_topic":
                return admin.deleteTopics(List.of(topic)).all().get();
            case "topics":
                return admin.listTopics().names().get();
            case "describe_topic":
                Map<String, Object> partitions = new HashMap<>();
                for (TopicPartitionInfo info : admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()) {
                    partitions.put(String.valueOf(info.partition()), Map.of("leader", info.leader().id(),
                        "replicas", info.replicas().stream().map(Node::id).toList(),
                        "isr", info.isr().stream().map(Node::id).toList()));
                }
                return partitions;
            case "create_partitions":
                return admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(asked.get("total").asInt()))).all().get();
            case "describe_configs":
                Map<String, String> described = new HashMap<>();
                for (ConfigEntry entry : admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()) {
                    described.put(entry.name(), entry.value());
                }
                return described;
            case "alter_config":
                ConfigEntry entry = new ConfigEntry(asked.get("name").asText(), asked.get("value").asText());
                AlterConfigOp change = new AlterConfigOp(entry, AlterConfigOp.OpType.SET);
                return admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
            case "describe_cluster":
                Map<String, String> nodes = new HashMap<>();
                for (Node node : admin.describeCluster().nodes().get()) {
                    nodes.put(String.valueOf(node.id()), node.host() + ":" + node.port());
                }
                return Map.of("cluster_id", admin.describeCluster().clusterId().get(),
                    "controller", admin.describeCluster().controller().get().id(), "nodes", nodes);
            case "delete_records":
                RecordsToDelete before = RecordsToDelete.beforeOffset(asked.get("before").asLong());
                return admin.deleteRecords(Map.of(partition(asked), before)).lowWatermarks().get(partition(asked)).get().lowWatermark();
            case "log_dir_sizes":
                Map<String, Long> sizes = new HashMap<>();
                for (Node node : admin.describeCluster().nodes().get()) {
                    for (LogDirDescription folder : admin.describeLogDirs(List.of(node.id())).allDescriptions().get().get(node.id()).values()) {
                        folder.replicaInfos().forEach((at, info) -> {
                            if (at.topic().equals(topic)) {
                                sizes.put(String.valueOf(at.partition()), info.size());
                            }
                        });
                    }
                }
                return sizes;
            case "list_offset":
                Map<String, OffsetSpec> specs = Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(),
                    "max_timestamp", OffsetSpec.maxTimestamp());
                var listed = admin.listOffsets(Map.of(partition(asked), specs.get(asked.get("spec").asText())))
                    .partitionResult(partition(asked)).get();
                return List.of(listed.offset(), listed.timestamp());
            case "describe_producers":
                List<Map<String, Object>> producers = new ArrayList<>();
                for (ProducerState state : admin.describeProducers(List.of(partition(asked))).partitionResult(partition(asked)).get().activeProducers()) {
                    producers.add(Map.of("producer_id", state.producerId(), "producer_epoch", state.producerEpoch(),
                        "last_sequence", state.lastSequence()));
                }
                return producers;
            case "list_groups":
                return admin.listGroups().all().get().stream().map(GroupListing::groupId).toList();
            case "describe_group":
                return describeGroup(admin, asked.get("group").asText());
            case "group_offsets":
                Map<String, Long> offsets = new HashMap<>();
                admin.listConsumerGroupOffsets(asked.get("group").asText()).partitionsToOffsetAndMetadata().get().forEach((at, offset) -> {
                    if (at.topic().equals(topic)) {
                        offsets.put(String.valueOf(at.partition()), offset.offset());
                    }
                });
                return offsets;
            case "alter_group_offsets":
                Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
                asked.get("offsets").fields().forEachRemaining(one -> wanted.put(
                    new TopicPartition(topic, Integer.parseInt(one.getKey())), new OffsetAndMetadata(one.getValue().asLong())));
                return admin.alterConsumerGroupOffsets(asked.get("group").asText(), wanted).all().get();
            case "delete_group_offsets":
                Set<TopicPartition> deleted = new HashSet<>();
                asked.get("partitions").forEach(one -> deleted.add(new TopicPartition(topic, one.asInt())));
                return admin.deleteConsumerGroupOffsets(asked.get("group").asText(), deleted).all().get();
            case "delete_group":
                return admin.deleteConsumerGroups(List.of(asked.get("group").asText())).all().get();
            default:
                throw new IllegalArgumentException(asked.toString());
        }
    }

    static Object describeGroup(Admin admin, String group) throws Exception {
        ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        List<Map<String, Object>> members = new ArrayList<>();
        for (MemberDescription member : described.members()) {
            Map<String, Object> one = new HashMap<>();
            one.put("client_id", member.clientId());
            one.put("instance_id", member.groupInstanceId().orElse(null));
            one.put("partitions", member.assignment().topicPartitions().stream().map(at -> List.of(at.topic(), at.partition())).toList());
            members.add(one);
        }
        return Map.of("state", described.groupState().toString(), "assignor", described.partitionAssignor(), "members", members);
    }
}
