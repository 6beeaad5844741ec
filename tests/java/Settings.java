import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.server.config.AbstractKafkaConfig;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.storage.internals.log.LogConfig;

/** Prints Kafka's settings: table, name, type, default, validator and update mode, separated by tabs. */
public class Settings {
    static String text(Object value) {
        if (value == null) return "null";
        if (value instanceof List<?> list) return list.stream().map(String::valueOf).collect(Collectors.joining(","));
        return value instanceof Class<?> type ? type.getName() : value.toString();
    }

    static void print(String table, ConfigDef definition, Map<String, String> updates) {
        for (ConfigDef.ConfigKey key : new TreeMap<>(definition.configKeys()).values()) {
            if (key.internalConfig) continue;
            String value = key.hasDefault() ? text(key.defaultValue) : "null";
            System.out.println(String.join("\t", table, key.name, key.type.name(), value, String.valueOf(key.validator),
                updates.getOrDefault(key.name, "")));
        }
    }

    public static void main(String[] arguments) {
        print("broker", AbstractKafkaConfig.CONFIG_DEF, DynamicBrokerConfig.dynamicConfigUpdateModes());
        print("topic", LogConfig.configDefCopy(), Map.of());
    }
}
