package com.hypersender.contact.example;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The built service with its sandbox, on a free port of this machine. */
final class Service implements AutoCloseable {
    /** Far above what a start, a call or a stop takes, so that only a service that hangs reaches it. */
    static final Duration PATIENCE = Duration.ofSeconds(30);

    private static final Pattern LISTENING =
        Pattern.compile("^\\{.*\"message\":\"listening\".*\"address\":\"([^\"]+)\".*\\}$", Pattern.MULTILINE);

    private final Process process;
    private final Path log;
    private String address;

    private Service(Process process, Path log) {
        this.process = process;
        this.log = log;
    }

    /** Starts the program that HYPERSENDER_GRPC_BIN names, and waits until it listens. */
    static Service start() throws IOException, InterruptedException {
        String binary = System.getenv("HYPERSENDER_GRPC_BIN");
        if (binary == null || !Path.of(binary).isAbsolute()) {
            throw new IllegalStateException("HYPERSENDER_GRPC_BIN must be the path of the service: see `make test-java`");
        }
        Path log = Files.createTempFile("hypersender-grpc", ".log");
        ProcessBuilder builder = new ProcessBuilder(
            binary, "serve", "--sandbox", "--listen", "127.0.0.1:0", "--admin-listen", "off",
            "--avatars-listen", "off", "--log-format", "json");
        // The settings of whoever runs the test must not reach the service.
        builder.environment().clear();
        builder.redirectOutput(ProcessBuilder.Redirect.DISCARD).redirectError(log.toFile());
        Service service = new Service(builder.start(), log);
        try {
            service.address = service.listening();
        } catch (IOException | InterruptedException | RuntimeException error) {
            service.close();
            throw error;
        }
        return service;
    }

    String address() {
        return address;
    }

    private String listening() throws IOException, InterruptedException {
        Instant end = Instant.now().plus(PATIENCE);
        while (process.isAlive() && Instant.now().isBefore(end)) {
            Matcher line = LISTENING.matcher(Files.readString(log));
            if (line.find()) {
                return line.group(1);
            }
            Thread.sleep(20);
        }
        throw new IllegalStateException("the service does not listen: " + Files.readString(log));
    }

    @Override
    public void close() throws IOException, InterruptedException {
        process.destroy();
        if (!process.waitFor(PATIENCE.toSeconds(), TimeUnit.SECONDS)) {
            process.destroyForcibly();
        }
        Files.delete(log);
    }
}
