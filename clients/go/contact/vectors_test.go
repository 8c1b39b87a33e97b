package contact_test

// The cases that the packages of all languages are tested with.

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
)

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("../../vectors/" + name)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// statusOf decodes the status of a row.
func statusOf(t *testing.T, encoded string) *status.Status {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(encoded)
	var decoded rpcstatus.Status
	if err == nil {
		err = proto.Unmarshal(text, &decoded)
	}
	if err != nil {
		t.Fatal(err)
	}
	return status.FromProto(&decoded)
}

func codeOf(t *testing.T, name string) (code codes.Code) {
	t.Helper()
	if err := code.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil {
		t.Fatal(err)
	}
	return code
}

func TestTargets(t *testing.T) {
	var vectors struct {
		Targets []struct {
			Target, Dials, Refused string
			Loopback               bool
		}
	}
	readVectors(t, "targets.json", &vectors)
	if len(vectors.Targets) < 40 {
		t.Fatalf("only %d rows", len(vectors.Targets))
	}
	for _, row := range vectors.Targets {
		dials, loopback, err := contact.ParseTarget(row.Target)
		if row.Refused == "" {
			if err != nil || dials != row.Dials || loopback != row.Loopback {
				t.Errorf("%q: %q, %t, %v", row.Target, dials, loopback, err)
			}
			if client, err := contact.Dial(row.Target); err == nil {
				client.Close()
			} else if !strings.HasPrefix(row.Target, "xds:") || !strings.Contains(err.Error(), "grpc/xds") {
				t.Errorf("%q: %v", row.Target, err)
			}
			continue
		}
		client, err := contact.Dial(row.Target)
		var refused *contact.Error
		if client != nil || !errors.As(err, &refused) || refused.Code != codes.InvalidArgument || refused.Field != "target" {
			t.Errorf("%q: %v", row.Target, err)
			continue
		}
		text := err.Error()
		named := strings.Contains(text, "the "+row.Refused+" of the target") || strings.Contains(text, "the "+row.Refused+" is")
		if !named || strings.Contains(text, "secret") {
			t.Errorf("%q: the error does not name the %s: %s", row.Target, row.Refused, text)
		}
	}
}

func TestTargetsOfGRPCInGo(t *testing.T) {
	for text, want := range map[string]bool{
		"dns:localhost:50051":              true,
		"dns://10.0.0.53/localhost:50051":  false,
		"passthrough:///127.0.0.1:50051":   false,
		"unix-abstract:contacts":           true,
		"ipv4:127.0.0.1:50051":             true,
		"ipv6:[::1]:50051,[::1]:50052":     true,
		"dns:///[::ffff:127.0.0.1]:50051":  true,
		"[::ffff:10.0.0.1]:50051":          false,
		"ipv6:[2001:db8::1]:50051":         false,
		"dns://127.0.0.1/127.0.0.1:50051":  false,
		"dns:///under_score.example:50051": false,
	} {
		if dials, loopback, err := contact.ParseTarget(text); err != nil || loopback != want || !strings.HasSuffix(dials, text) {
			t.Errorf("%s: %q, %t, %v", text, dials, loopback, err)
		}
	}
	for _, text := range []string{
		"ipv4:", "ipv4:localhost:50051", "ipv4:[::1]:50051", "ipv6:127.0.0.1:50051", "ipv4:127.0.0.1:0", "dns://contacts:50051",
		"ipv4:127.0.0.1:50051,", "[127.0.0.1]:50051", "[::1%eth0]:50051", "b\u00fccher:50051", "x:50051?a", "DNS:///x:50051",
	} {
		if dials, _, err := contact.ParseTarget(text); err == nil {
			t.Errorf("%s is accepted as %s", text, dials)
		}
	}
}

func TestErrorsOfStatuses(t *testing.T) {
	var vectors struct {
		Errors []struct {
			Name, Status, Code, Reason, Field string
			RetryAfterMs                      int64
			Retryable                         bool
		}
	}
	readVectors(t, "errors.json", &vectors)
	source, err := os.ReadFile("reasons.gen.go")
	if err != nil || len(vectors.Errors) < 40 {
		t.Fatalf("%d rows, %v", len(vectors.Errors), err)
	}
	for _, row := range vectors.Errors {
		received := statusOf(t, row.Status)
		read, ok := contact.FromError(received.Err())
		if !ok {
			t.Errorf("%s: not read", row.Name)
			continue
		}
		wait := (read.RetryAfter + time.Millisecond - 1) / time.Millisecond
		if read.Code != codeOf(t, row.Code) || string(read.Reason) != row.Reason || read.Field != row.Field ||
			int64(wait) != row.RetryAfterMs || contact.IsRetryable(read) != row.Retryable || read.Message != "a message" {
			t.Errorf("%s: %#v", row.Name, read)
		}
		if !proto.Equal(read.GRPCStatus().Proto(), received.Proto()) {
			t.Errorf("%s: the status has changed", row.Name)
		}
		known := strings.Contains(string(source), `= "`+row.Reason+`"`)
		if row.Reason != "" && known == (row.Reason == "A_LATER_REASON") {
			t.Errorf("there is no constant for %s, or one too many", row.Reason)
		}
		for _, check := range []struct {
			holds bool
			codes string
		}{
			{contact.IsNotOnWhatsApp(read), "NOT_ON_WHATSAPP"},
			{contact.IsNotCached(read), "NOT_CACHED"},
			{contact.IsRateLimited(read), "RATE_LIMITED UPSTREAM_RATE_LIMITED"},
			{contact.IsCallerUnknown(read), "CALLER_UNKNOWN"},
			{contact.IsReason(read, contact.ReasonOverloaded, contact.ReasonInternal), "OVERLOADED INTERNAL"},
		} {
			if want := row.Reason != "" && strings.Contains(" "+check.codes+" ", " "+row.Reason+" "); check.holds != want {
				t.Errorf("%s is or is not one of %s", row.Name, check.codes)
			}
		}
	}
}

func TestWaitsOfBrokenStreams(t *testing.T) {
	var vectors struct {
		Waits []struct {
			Name, Status, Code  string
			Pushback            *string
			Failures            int
			Again               bool
			AtLeastMs, AtMostMs int64
		}
	}
	readVectors(t, "waits.json", &vectors)
	if len(vectors.Waits) < 30 {
		t.Fatalf("only %d rows", len(vectors.Waits))
	}
	for _, row := range vectors.Waits {
		broken, _ := contact.FromError(statusOf(t, row.Status).Err())
		var pushback []string
		if row.Pushback != nil {
			pushback = []string{*row.Pushback}
		}
		if broken.Code != codeOf(t, row.Code) {
			t.Errorf("%s: the code is %v", row.Name, broken.Code)
		}
		waits := map[time.Duration]bool{}
		for range 200 {
			wait, again := contact.Pause(broken, pushback, row.Failures)
			atLeast, atMost := time.Duration(row.AtLeastMs)*time.Millisecond, time.Duration(row.AtMostMs)*time.Millisecond
			if again != row.Again || (again && (wait < atLeast || wait > atMost)) {
				t.Fatalf("%s: %v, %t", row.Name, wait, again)
			}
			waits[wait] = true
		}
		if row.Again && len(waits) < 100 {
			t.Errorf("%s: only %d different waits", row.Name, len(waits))
		}
	}
	later := &contact.Error{Code: codes.Unavailable}
	if _, again := contact.Pause(later, []string{"5", "5"}, 1); again {
		t.Error("two pushbacks must end the stream")
	}
	for _, wait := range []time.Duration{1<<63 - 1, time.Hour} {
		if got, again := contact.Pause(&contact.Error{RetryAfter: wait}, nil, 1000); got < wait/2 || !again {
			t.Errorf("after %v the wait is %v", wait, got)
		}
	}
}
