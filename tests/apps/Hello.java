import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;

/** A plain server: `java Hello.java PORT`. */
public class Hello {
    static String version() throws Exception {
        String version = System.getenv("VERSION");
        if (version != null) return version;
        return Files.exists(Path.of("VERSION")) ? Files.readString(Path.of("VERSION")).trim() : "v1";
    }

    public static void main(String[] arguments) throws Exception {
        String port = arguments.length > 0 ? arguments[0] : System.getenv().getOrDefault("PORT", "3000");
        String host = System.getenv("HOST");
        int number = Integer.parseInt(port);
        byte[] body = (version() + " " + ProcessHandle.current().pid() + "\n").getBytes();
        InetSocketAddress address = host == null ? new InetSocketAddress(number) : new InetSocketAddress(host, number);
        HttpServer server = HttpServer.create(address, 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
