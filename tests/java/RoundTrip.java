// Reads "class version base64" a line; decodes the message with Kafka's own classes, and writes what they encode and
// Kafka's JSON of it, "base64 json" (or "error ..."), a line.
import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.Readable;

public class RoundTrip {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.split(" ", -1);
            try {
                out.println(roundTrip(parts[0], Short.parseShort(parts[1]), Base64.getDecoder().decode(parts[2])));
            } catch (Throwable error) {
                Throwable cause = error.getCause() == null ? error : error.getCause();
                out.println("error " + cause);
            }
        }
        out.flush();
    }

    private static String roundTrip(String name, short version, byte[] bytes) throws Exception {
        Class<?> type = Class.forName(name);
        Class<?> converter = Class.forName(name + "JsonConverter");
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Object message = type.getConstructor(Readable.class, short.class).newInstance(new ByteBufferAccessor(buffer), version);
        if (buffer.hasRemaining()) {
            return "error " + buffer.remaining() + " bytes left";
        }
        Method write = converter.getMethod("write", type, short.class, boolean.class);
        JsonNode json = (JsonNode) write.invoke(null, message, version, true);
        ByteBuffer encoded = MessageUtil.toByteBufferAccessor((Message) message, version).buffer();
        byte[] result = new byte[encoded.remaining()];
        encoded.get(result);
        return Base64.getEncoder().encodeToString(result) + " " + json;
    }
}
