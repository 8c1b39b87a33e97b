package com.hypersender.contact.example;

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.hypersender.contact.v1.ContactServiceGrpc;
import com.hypersender.contact.v1.ContactServiceGrpc.ContactServiceBlockingStub;
import com.hypersender.contact.v1.GetProfilePictureRequest;
import com.hypersender.contact.v1.ProfilePicture;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * Asks a hypersender-grpc server where the profile pictures of contacts are.
 *
 * <p>Arguments: the target and chat ids, such as {@code localhost:50051 15551230001}. The environment
 * variable CONTACT_TOKEN has the token of the caller, if the server wants one. Answers go to standard output,
 * failures to standard error; the exit code is 1 when a call failed.
 */
public final class GetProfilePicture {
    /** Enough for nearly every call for one contact. */
    static final Duration DEADLINE = Duration.ofSeconds(5);

    /** A name or an address of this machine, and a port. All other targets get TLS, for the token. */
    private static final Pattern LOOPBACK =
        Pattern.compile("(?i)(dns:///)?(localhost|127(\\.\\d{1,3}){3}|\\[::1\\]):\\d+");

    private GetProfilePicture() {}

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length < 2) {
            System.err.println("usage: GetProfilePicture TARGET CHAT_ID...");
            System.exit(2);
        }
        List<String> chatIds = Arrays.asList(arguments).subList(1, arguments.length);
        ManagedChannel channel = open(arguments[0]);
        ContactServiceBlockingStub contacts = withToken(channel, System.getenv("CONTACT_TOKEN"));
        int exit = 0;
        for (String chatId : chatIds) {
            try {
                System.out.println(chatId + ": " + describe(ask(contacts, chatId, DEADLINE)));
            } catch (StatusRuntimeException error) {
                System.err.println(chatId + ": " + describe(error));
                exit = 1;
            }
        }
        channel.shutdown().awaitTermination(DEADLINE.toSeconds(), TimeUnit.SECONDS);
        System.exit(exit);
    }

    /**
     * A channel with the service config of all clients: round robin over the addresses of a name, health
     * checks, and retries that obey the server. It speaks TLS, and plain text with this machine. It connects
     * at the first call. Share one channel between all threads.
     */
    static ManagedChannel open(String target) {
        ChannelCredentials credentials =
            isThisMachine(target) ? InsecureChannelCredentials.create() : TlsChannelCredentials.create();
        return Grpc.newChannelBuilder(target.contains("://") ? target : "dns:///" + target, credentials)
            .defaultServiceConfig(serviceConfig())
            // While a call is open, a PING finds out that a firewall has dropped the connection.
            .keepAliveTime(30, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .build();
    }

    static boolean isThisMachine(String target) {
        return LOOPBACK.matcher(target).matches();
    }

    /** A stub whose calls carry the token; without one, if it is null or empty. */
    static ContactServiceBlockingStub withToken(ManagedChannel channel, String token) {
        ContactServiceBlockingStub stub = ContactServiceGrpc.newBlockingStub(channel);
        if (token == null || token.isBlank()) {
            return stub;
        }
        Metadata headers = new Metadata();
        Metadata.Key<String> key = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
        headers.put(key, "Bearer " + token.strip());
        return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
    }

    /**
     * Makes one call. The server gets the deadline and obeys it, too.
     *
     * @throws StatusRuntimeException when there is no answer; see {@link Failure}
     */
    static ProfilePicture ask(ContactServiceBlockingStub contacts, String chatId, Duration deadline) {
        GetProfilePictureRequest request = GetProfilePictureRequest.newBuilder().setChatId(chatId).build();
        return contacts
            .withDeadlineAfter(deadline.toMillis(), TimeUnit.MILLISECONDS)
            .getProfilePicture(request)
            .getProfilePicture();
    }

    private static String describe(ProfilePicture picture) {
        return switch (picture.getState()) {
            case PROFILE_PICTURE_STATE_PRESENT -> {
                String text = "picture " + picture.getUrl();
                long seconds = picture.getExpireTime().getSeconds();
                yield picture.hasExpireTime() ? text + ", works until " + Instant.ofEpochSecond(seconds) : text;
            }
            case PROFILE_PICTURE_STATE_NOT_AVAILABLE -> "no picture";
            default -> "an answer that this client is too old to read";
        };
    }

    /** Without a reason, the cause helps: for example, the certificate of the server is not trusted. */
    private static String describe(StatusRuntimeException error) {
        Failure failure = Failure.of(error);
        Throwable cause = error.getStatus().getCause();
        if (!failure.reason().isEmpty() || cause == null) {
            return failure.toString();
        }
        while (cause.getCause() != null) {
            cause = cause.getCause();
        }
        return failure + " (" + cause.getMessage() + ")";
    }

    /** Gson reads every number as a Double. gRPC accepts no other class of numbers in a service config. */
    @SuppressWarnings("unchecked")
    private static Map<String, ?> serviceConfig() {
        var resource = GetProfilePicture.class.getResourceAsStream("/com/hypersender/contact/service_config.json");
        try (var reader = new InputStreamReader(resource, StandardCharsets.UTF_8)) {
            return new Gson().fromJson(reader, Map.class);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /**
     * The parts of an error that a program can act on.
     *
     * @param code the gRPC code
     * @param reason a reason of docs/errors.md, such as NOT_ON_WHATSAPP; empty when the error does not come
     *     from the service, such as a refused connection
     * @param retryAfter call again after this time; null when the same call fails again
     */
    record Failure(Status.Code code, String reason, Duration retryAfter) {
        private static final String DOMAIN = "hypersender-grpc";

        static Failure of(StatusRuntimeException error) {
            String reason = "";
            Duration retryAfter = null;
            // Never null: without details, the status has only the code and the message.
            for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
                try {
                    if (detail.is(ErrorInfo.class)) {
                        ErrorInfo info = detail.unpack(ErrorInfo.class);
                        reason = info.getDomain().equals(DOMAIN) ? info.getReason() : reason;
                    } else if (detail.is(RetryInfo.class)) {
                        var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                        retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                    }
                } catch (InvalidProtocolBufferException unreadable) {
                    // A detail that cannot be read says nothing. The code still does.
                }
            }
            return new Failure(error.getStatus().getCode(), reason, retryAfter);
        }

        @Override
        public String toString() {
            String text = reason.isEmpty() ? code.toString() : code + " " + reason;
            return retryAfter == null ? text : text + ", try again in " + retryAfter.toMillis() + " ms";
        }
    }
}
