import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A logging-service in one file: java Logging.java PORT. It keeps what it is sent in memory. */
public class Logging {
    private static final Pattern TEXT = Pattern.compile("\"msg\"\\s*:\\s*\"([^\"]*)\"");
    private static final List<String> TEXTS = Collections.synchronizedList(new ArrayList<>());

    public static void main(String[] words) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(words[0])), 128);
        server.createContext("/", Logging::answer);
        server.start();
    }

    private static void answer(HttpExchange call) throws IOException {
        String body = new String(call.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
        Matcher found = TEXT.matcher(body);
        while (call.getRequestMethod().equals("POST") && found.find()) {
            TEXTS.add(found.group(1));
            System.out.println("logged " + found.group(1));
        }
        String texts = TEXTS.isEmpty() ? "[]" : "[\"" + String.join("\", \"", TEXTS) + "\"]";
        byte[] data = (call.getRequestMethod().equals("POST") ? "{}" : texts).getBytes(StandardCharsets.UTF_8);
        call.sendResponseHeaders(200, data.length);
        call.getResponseBody().write(data);
        call.close();
    }
}
