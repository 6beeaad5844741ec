// Reads "key version code request message" a line, request and message in base64; parses the request with Kafka's own
// classes, and writes the response with which Kafka refuses the whole of it for an error of that code and message, and
// the sentence that Kafka always has for the code, both in base64 (or "null", where there is no response; or
// "error ..."), a line. Throttling is left out: 0 ms.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.requests.AbstractRequest;
import org.apache.kafka.common.requests.AbstractResponse;

public class ErrorResponses {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.split(" ", -1);
            try {
                short version = Short.parseShort(parts[1]);
                ByteBuffer body = ByteBuffer.wrap(Base64.getDecoder().decode(parts[3]));
                String message = new String(Base64.getDecoder().decode(parts[4]), StandardCharsets.UTF_8);
                ApiKeys api = ApiKeys.forId(Integer.parseInt(parts[0]));
                AbstractRequest request = AbstractRequest.parseRequest(api, version, new ByteBufferAccessor(body)).request;
                Errors code = Errors.forCode(Short.parseShort(parts[2]));
                AbstractResponse response = request.getErrorResponse(0, code.exception(message));
                out.println(response == null ? "null" : encode(response, version) + " " + encode(code.message()));
            } catch (Throwable error) {
                out.println("error " + error);
            }
        }
        out.flush();
    }

    private static String encode(AbstractResponse response, short version) {
        ByteBuffer encoded = MessageUtil.toByteBufferAccessor(response.data(), version).buffer();
        byte[] bytes = new byte[encoded.remaining()];
        encoded.get(bytes);
        return Base64.getEncoder().encodeToString(bytes);
    }

    private static String encode(String text) {
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }
}
