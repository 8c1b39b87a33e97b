package com.hypersender.contact.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.hypersender.contact.example.GetProfilePicture.Failure;
import com.hypersender.contact.v1.ContactServiceGrpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The channel against a server of the test, which answers every call with UNIMPLEMENTED. */
class ChannelTest {
    private static final Metadata.Key<String> TOKEN =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final List<String> tokens = new CopyOnWriteArrayList<>();
    private final HealthStatusManager health = new HealthStatusManager();
    private Server server;
    private ManagedChannel channel;

    @BeforeEach
    void start() throws IOException {
        ServerInterceptor noting = new ServerInterceptor() {
            @Override
            public <Q, A> ServerCall.Listener<Q> interceptCall(
                    ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
                if (call.getMethodDescriptor().getServiceName().equals(ContactServiceGrpc.SERVICE_NAME)) {
                    tokens.add(String.valueOf(headers.get(TOKEN)));
                }
                return next.startCall(call, headers);
            }
        };
        server = NettyServerBuilder
            .forAddress(new InetSocketAddress("127.0.0.1", 0), InsecureServerCredentials.create())
            .addService(health.getHealthService())
            .addService(new ContactServiceGrpc.ContactServiceImplBase() {})
            .intercept(noting)
            .build()
            .start();
        channel = GetProfilePicture.open("127.0.0.1:" + server.getPort());
    }

    @AfterEach
    void stop() throws InterruptedException {
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
        server.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }

    private Status.Code call(String token) {
        var contacts = GetProfilePicture.withToken(channel, token);
        return Failure.of(assertThrows(
            StatusRuntimeException.class,
            () -> GetProfilePicture.ask(contacts, "15551230001", Service.PATIENCE))).code();
    }

    /** It needs grpc-services on the class path and the service config. gRPC reports neither if it lacks. */
    @Test
    void aServerThatDoesNotServeGetsNoCall() {
        health.setStatus(ContactServiceGrpc.SERVICE_NAME, ServingStatus.NOT_SERVING);
        assertEquals(Status.Code.UNAVAILABLE, call(null));
        assertEquals(List.of(), tokens);
    }

    @Test
    void everyCallHasTheToken() {
        health.setStatus(ContactServiceGrpc.SERVICE_NAME, ServingStatus.SERVING);
        assertEquals(Status.Code.UNIMPLEMENTED, call("one\n"));
        assertEquals(Status.Code.UNIMPLEMENTED, call(""));
        assertEquals(List.of("Bearer one", "null"), tokens);
    }

    @Test
    void plainTextStaysOnThisMachine() throws IOException {
        String vectors = Files.readString(Path.of("..", "vectors", "targets.json"));
        var rows = new Gson().fromJson(vectors, JsonObject.class).getAsJsonArray("targets");
        assertTrue(rows.size() > 20, "the targets are not where they were");
        for (JsonElement row : rows) {
            JsonElement loopback = row.getAsJsonObject().get("loopback");
            String target = row.getAsJsonObject().get("target").getAsString();
            if (loopback != null && !loopback.getAsBoolean()) {
                assertFalse(GetProfilePicture.isThisMachine(target), target);
            }
        }
        for (String target : List.of("localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1")) {
            assertTrue(GetProfilePicture.isThisMachine(target), target);
        }
    }
}
