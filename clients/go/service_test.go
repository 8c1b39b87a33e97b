package client_test

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

const (
	present      = contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT
	notAvailable = contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_NOT_AVAILABLE
	miss         = contactv1.CacheStatus_CACHE_STATUS_MISS
	hit          = contactv1.CacheStatus_CACHE_STATUS_HIT
)

func TestAnswers(t *testing.T) {
	client := dial(t, startSandbox(t))
	for _, row := range []struct {
		name, chatID string
		state        contactv1.ProfilePictureState
		cache        contactv1.CacheStatus
	}{
		{"picture", "15551230001", present, miss},
		{"same picture again", "15551230001", present, hit},
		{"no picture", "15551230004", notAvailable, miss},
	} {
		t.Run(row.name, func(t *testing.T) {
			response, err := client.GetProfilePicture(deadline(t), &contactv1.GetProfilePictureRequest{ChatId: row.chatID})
			if err != nil {
				t.Fatal(err)
			}
			picture := response.GetProfilePicture()
			if picture.GetChatId() != row.chatID || picture.GetState() != row.state {
				t.Errorf("got %v of %s", picture.GetState(), picture.GetChatId())
			}
			if status := response.GetCacheInfo().GetStatus(); status != row.cache {
				t.Errorf("got %v, want %v", status, row.cache)
			}
			linked := row.state == present
			if (picture.GetUrl() != "") != linked || (picture.GetFingerprint() != "") != linked {
				t.Errorf("url and fingerprint must be set exactly when the picture is present")
			}
		})
	}
}

func TestErrors(t *testing.T) {
	client := dial(t, startSandbox(t))
	for _, row := range []struct {
		name, chatID string
		code         codes.Code
		reason       string
		field        string
		wait         bool
	}{
		{name: "not on WhatsApp", chatID: "15551230006", code: codes.NotFound, reason: "NOT_ON_WHATSAPP"},
		{name: "bad chat id", chatID: "abc", code: codes.InvalidArgument, reason: "CHAT_ID_INVALID", field: "chat_id"},
		// Last, because it pauses the whole instance.
		{name: "rate limited", chatID: "15551230008", code: codes.ResourceExhausted, reason: "UPSTREAM_RATE_LIMITED", wait: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var trailer metadata.MD
			request := &contactv1.GetProfilePictureRequest{ChatId: row.chatID}
			_, err := client.GetProfilePicture(deadline(t), request, grpc.Trailer(&trailer))
			failure := status.Convert(err)
			if failure.Code() != row.code {
				t.Fatalf("got %v, want %v", failure, row.code)
			}

			var reason, domain, field string
			var wait time.Duration
			for _, detail := range failure.Details() {
				switch detail := detail.(type) {
				case *errdetails.ErrorInfo:
					reason, domain = detail.GetReason(), detail.GetDomain()
				case *errdetails.BadRequest:
					for _, violation := range detail.GetFieldViolations() {
						field += violation.GetField()
					}
				case *errdetails.RetryInfo:
					wait = detail.GetRetryDelay().AsDuration()
				}
			}
			if reason != row.reason || domain != "hypersender-grpc" || field != row.field {
				t.Errorf("got reason %q, domain %q, field %q", reason, domain, field)
			}
			pushback := strings.Join(trailer.Get("grpc-retry-pushback-ms"), ",")
			if (wait > 0) != row.wait || (pushback != "-1") != row.wait {
				t.Errorf("got wait %v, pushback %q", wait, pushback)
			}
		})
	}
}

func TestCacheControl(t *testing.T) {
	client := dial(t, startSandbox(t))
	get := func(control *contactv1.CacheControl) (*contactv1.GetProfilePictureResponse, error) {
		request := &contactv1.GetProfilePictureRequest{ChatId: "15551230001", CacheControl: control}
		return client.GetProfilePicture(deadline(t), request)
	}
	onlyIfCached := &contactv1.CacheControl{OnlyIfCached: true}
	if _, err := get(onlyIfCached); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("nothing is cached yet, got %v", err)
	}
	if _, err := get(nil); err != nil {
		t.Fatal(err)
	}
	if response, err := get(onlyIfCached); err != nil || response.GetCacheInfo().GetStatus() != hit {
		t.Errorf("got %v, %v", response.GetCacheInfo(), err)
	}
}

func TestExample(t *testing.T) {
	command := exec.CommandContext(deadline(t), example(t, "get_profile_picture"), "-address", startSandbox(t), "-timeout", patience.String(),
		"15551230001", "15551230004", "abc", "15551230008")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := command.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("calls that fail must end in exit code 1, got %v", err)
	}
	for _, row := range []struct {
		output *bytes.Buffer
		want   string
	}{
		{&stdout, "15551230001: picture http"},
		{&stdout, "15551230004: no picture\n"},
		{&stderr, "abc: InvalidArgument CHAT_ID_INVALID: "},
		{&stderr, "15551230008: ResourceExhausted UPSTREAM_RATE_LIMITED, try again in "},
	} {
		if !strings.Contains(row.output.String(), row.want) {
			t.Errorf("no %q in\n%s%s", row.want, &stdout, &stderr)
		}
	}
}
