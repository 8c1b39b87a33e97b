package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

const (
	present      = contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT
	notAvailable = contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_NOT_AVAILABLE
	miss         = contactv1.CacheStatus_CACHE_STATUS_MISS
	hit          = contactv1.CacheStatus_CACHE_STATUS_HIT

	// Far above what a start, a call or a stop takes, so that only a server that hangs reaches it.
	patience = 30 * time.Second
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
	example := filepath.Join(t.TempDir(), "example")
	build := exec.Command("go", "build", "-o", example, "./examples/get_profile_picture")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	command := exec.CommandContext(deadline(t), example, "-address", startSandbox(t), "-timeout", patience.String(),
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

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, address string) contactv1.ContactServiceClient {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return contactv1.NewContactServiceClient(connection)
}

// startSandbox starts the server in front of its sandbox, returns its address, and stops it after the test.
func startSandbox(t *testing.T) string {
	binary := os.Getenv("HYPERSENDER_GRPC_BIN")
	if _, err := os.Stat(binary); err != nil || !filepath.IsAbs(binary) {
		t.Fatalf("HYPERSENDER_GRPC_BIN must be the absolute path of the built server, is %q; `make test-go` sets it", binary)
	}
	path := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, binary, "serve", "--sandbox", "--listen", "127.0.0.1:0",
		"--admin-listen", "off", "--log-format", "json")
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	server.WaitDelay = patience
	// The settings of whoever runs the test must not reach the server.
	server.Env = []string{}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		server.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		log.Close()
		if code := server.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the server ended with exit code %d", code)
		}
		if t.Failed() {
			lines, _ := os.ReadFile(path)
			t.Logf("log of the server:\n%s", lines)
		}
	})

	timeout := time.After(patience)
	for {
		lines, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(lines) {
			var entry struct{ Message, Address string }
			if json.Unmarshal(line, &entry) == nil && entry.Message == "listening" {
				return entry.Address
			}
		}
		select {
		case <-ended:
			t.Fatal("the server ended before it listened")
		case <-timeout:
			t.Fatal("the server does not say that it listens")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
