// A member of a group with Kafka's own Java consumer (the classic group protocol); what it is told and what it says
// stands in tests/clients/member.py.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Member {
    static final ObjectMapper JSON = new ObjectMapper();
    static final Duration POLL_TIMEOUT = Duration.ofMillis(50);
    static final Map<String, String> ASSIGNORS = Map.of(
        "range", "org.apache.kafka.clients.consumer.RangeAssignor",
        "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
        "sticky", "org.apache.kafka.clients.consumer.StickyAssignor",
        "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
    static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    static final ConcurrentLinkedQueue<String> COMMANDS = new ConcurrentLinkedQueue<>();
    /** How far each partition it owns has been read: what a commit means. */
    static final Map<Integer, Long> POSITIONS = new HashMap<>();

    static void say(String event, String name, Object value) {
        try {
            OUT.println(JSON.writeValueAsString(name == null ? Map.of("event", event) : Map.of("event", event, name, value)));
            OUT.flush();
        } catch (IOException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    static void listen() {
        try {
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                COMMANDS.add(line.strip());
            }
        } catch (IOException error) {
            say("error", "message", error.toString());
        }
        COMMANDS.add("leave");
    }

    static List<Integer> numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).sorted().toList();
    }

    static KafkaConsumer<byte[], byte[]> consumer(JsonNode orders) {
        int sessionTimeoutMs = orders.get("session_timeout_ms").asInt();
        Properties settings = new Properties();
        settings.put("bootstrap.servers", orders.get("bootstrap").asText());
        settings.put("client.id", orders.get("client_id").asText());
        settings.put("group.id", orders.get("group").asText());
        settings.put("group.protocol", "classic");
        settings.put("partition.assignment.strategy", ASSIGNORS.get(orders.get("assignor").asText()));
        if (!orders.path("instance_id").isMissingNode() && !orders.get("instance_id").isNull()) {
            settings.put("group.instance.id", orders.get("instance_id").asText());
        }
        settings.put("session.timeout.ms", String.valueOf(sessionTimeoutMs));
        settings.put("heartbeat.interval.ms", String.valueOf(Math.max(sessionTimeoutMs / 10, 50)));
        settings.put("enable.auto.commit", String.valueOf(orders.path("auto_commit").asBoolean()));
        settings.put("auto.commit.interval.ms", "200");
        settings.put("auto.offset.reset", "earliest");
        settings.put("reconnect.backoff.max.ms", "500");
        settings.put("fetch.max.wait.ms", "100");
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    public static void main(String[] args) throws Exception {
        JsonNode orders = JSON.readTree(args[0]);
        String topic = orders.get("topic").asText();
        Thread listener = new Thread(Member::listen);
        listener.setDaemon(true);
        listener.start();
        KafkaConsumer<byte[], byte[]> consumer = consumer(orders);
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                // Called with the cooperative assignor, too, for what is new; the assignment holds all.
                say("assigned", "partitions", numbers(consumer.assignment()));
            }

            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                numbers(partitions).forEach(POSITIONS::remove);
                say("revoked", "partitions", numbers(partitions));
            }
        });
        boolean committing = false;
        try {
            while (true) {
                String command = COMMANDS.poll();
                if ("leave".equals(command)) {
                    break;
                }
                committing = committing || "commit".equals(command);
                if (committing) {
                    Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
                    POSITIONS.forEach((partition, at) -> wanted.put(new TopicPartition(topic, partition), new OffsetAndMetadata(at)));
                    try {
                        consumer.commitSync(wanted);
                        say("committed", "offsets", POSITIONS);
                        committing = false;
                    } catch (RebalanceInProgressException error) {
                        // Once more when the rebalance has ended.
                        say("error", "message", error.toString());
                    }
                }
                List<Object> read = new ArrayList<>();
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL_TIMEOUT)) {
                    String value = record.value() == null ? "" : new String(record.value(), StandardCharsets.UTF_8);
                    read.add(List.of(record.partition(), record.offset(), value));
                    POSITIONS.put(record.partition(), record.offset() + 1);
                }
                if (!read.isEmpty()) {
                    say("records", "records", read);
                }
            }
            consumer.close();
            say("left", null, null);
        } catch (RuntimeException error) {
            say("error", "message", error.toString());
            System.exit(1);
        }
    }
}
