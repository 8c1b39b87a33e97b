package com.hypersender.contact.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hypersender.contact.example.GetProfilePicture.Failure;
import com.hypersender.contact.v1.ContactServiceGrpc.ContactServiceBlockingStub;
import com.hypersender.contact.v1.ProfilePictureState;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The example against the built service, whose sandbox has a number for each answer. */
class GetProfilePictureTest {
    private static Service service;
    private static ManagedChannel channel;
    private static ContactServiceBlockingStub contacts;

    @BeforeAll
    static void open() throws Exception {
        service = Service.start();
        channel = GetProfilePicture.open(service.address());
        contacts = GetProfilePicture.withToken(channel, null);
    }

    @AfterAll
    static void close() throws Exception {
        if (channel != null) {
            channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
        }
        if (service != null) {
            service.close();
        }
    }

    private static Failure failure(String chatId, Duration deadline) {
        return Failure.of(assertThrows(
            StatusRuntimeException.class, () -> GetProfilePicture.ask(contacts, chatId, deadline)));
    }

    @Test
    void aPictureHasALinkAndItsExpiry() {
        var picture = GetProfilePicture.ask(contacts, "15551230001", Service.PATIENCE);
        assertEquals(ProfilePictureState.PROFILE_PICTURE_STATE_PRESENT, picture.getState());
        assertTrue(picture.getUrl().startsWith("http"));
        assertTrue(picture.hasExpireTime());
        assertFalse(picture.getFingerprint().isEmpty());
    }

    @Test
    void aContactWithoutAPictureIsAnAnswer() {
        var picture = GetProfilePicture.ask(contacts, "15551230004", Service.PATIENCE);
        assertEquals(ProfilePictureState.PROFILE_PICTURE_STATE_NOT_AVAILABLE, picture.getState());
        assertEquals("", picture.getUrl());
    }

    @Test
    void anErrorHasItsReason() {
        Failure failure = failure("15551230006", Service.PATIENCE);
        assertEquals(new Failure(Status.Code.NOT_FOUND, "NOT_ON_WHATSAPP", null), failure);
        assertEquals("NOT_FOUND NOT_ON_WHATSAPP", failure.toString());
    }

    /** Hypersender wants a wait of 5 s, which does not fit: the pushback ends the retries at once. */
    @Test
    void anErrorThatPassesHasItsWait() {
        Failure failure = failure("15551230014", Duration.ofSeconds(4));
        assertEquals(Status.Code.UNAVAILABLE, failure.code());
        assertEquals("UPSTREAM_QUEUED", failure.reason());
        assertTrue(failure.retryAfter().compareTo(Duration.ZERO) > 0, failure.toString());
    }

    @Test
    void theDeadlineEndsTheCall() {
        Failure failure = failure("15551230012", Duration.ofSeconds(1));
        assertEquals(Status.Code.DEADLINE_EXCEEDED, failure.code());
        assertNull(failure.retryAfter());
    }
}
