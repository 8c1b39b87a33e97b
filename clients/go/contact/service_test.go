package contact_test

// Calls of the built server.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

// dial returns a client that is closed after the test.
func dial(t *testing.T, target string, options ...contact.Option) *contact.Client {
	t.Helper()
	client, err := contact.Dial(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// errorOf returns the parts of an error of the package. It is the zero value for nil.
func errorOf(t *testing.T, err error) contact.Error {
	t.Helper()
	var read *contact.Error
	if err != nil && !errors.As(err, &read) {
		t.Fatalf("%v is a %T", err, err)
	}
	if read == nil {
		return contact.Error{}
	}
	return *read
}

func TestOneContact(t *testing.T) {
	client := dial(t, servicetest.StartSandbox(t))
	for _, row := range []struct {
		chatID  string
		present bool
	}{{"15551230001", true}, {"15551230001@c.us", true}, {"15551230004", false}} {
		picture, ok, err := client.GetProfilePicture(t.Context(), row.chatID)
		if err != nil || ok != row.present {
			t.Errorf("%s: %t, %v", row.chatID, ok, err)
		}
		if (picture.URL != "") != ok || (picture.Fingerprint != "") != ok || picture.ExpireTime.IsZero() == ok {
			t.Errorf("%s: %q, %q, %v", row.chatID, picture.URL, picture.Fingerprint, picture.ExpireTime)
		}
		if picture.ChatID != row.chatID || picture.Instance == "" || time.Since(picture.FetchTime) > time.Hour || picture.Stale {
			t.Errorf("%s: %q, %q, %v", row.chatID, picture.ChatID, picture.Instance, picture.FetchTime)
		}
	}
}

func TestErrorsOfTheService(t *testing.T) {
	address := servicetest.StartSandbox(t, "--attempts", "1")
	for _, row := range []struct {
		chatID string
		code   codes.Code
		reason contact.Reason
		field  string
		wait   bool
	}{
		{"abc", codes.InvalidArgument, contact.ReasonChatIDInvalid, "chat_id", false},
		{"15551230006", codes.NotFound, contact.ReasonNotOnWhatsApp, "", false},
		{"15551230007", codes.FailedPrecondition, contact.ReasonUpstreamCredentialsRejected, "", false},
		{"15551230010", codes.Unavailable, contact.ReasonUpstreamUnavailable, "", true},
		{"15551230013", codes.Internal, contact.ReasonUpstreamResponseInvalid, "", false},
		{"15551230014", codes.Unavailable, contact.ReasonUpstreamQueued, "", true},
		{"15551230015", codes.FailedPrecondition, contact.ReasonInstanceNotConnected, "", false},
		{"15551230008", codes.ResourceExhausted, contact.ReasonUpstreamRateLimited, "", true},
	} {
		// Some of these pause the instance.
		instance := contact.WithInstance(fmt.Sprintf("5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c%s", row.chatID[len(row.chatID)-2:]+"00"))
		if row.chatID == "abc" {
			instance = contact.WithInstance("")
		}
		_, ok, err := dial(t, address).GetProfilePicture(t.Context(), row.chatID, instance)
		read := errorOf(t, err)
		if ok || read.Code != row.code || read.Reason != row.reason || read.Field != row.field || (read.RetryAfter > 0) != row.wait {
			t.Errorf("%s: %t, %v, field %q", row.chatID, ok, err, read.Field)
		}
		if status.Code(err) != row.code || contact.IsRetryable(err) != row.wait || read.Message == "" {
			t.Errorf("%s: status %v, retryable %t", row.chatID, status.Code(err), contact.IsRetryable(err))
		}
	}
}

func TestABatchHasTheOrderOfTheRequest(t *testing.T) {
	client := dial(t, servicetest.StartSandbox(t))
	chatIDs := []string{"15551230001", "abc", "15551230004", "15551230006", "15551230001", "15552000001@c.us"}
	results, err := client.BatchGetProfilePictures(t.Context(), chatIDs)
	if err != nil || len(results) != len(chatIDs) {
		t.Fatalf("%d results, %v", len(results), err)
	}
	outcomes := []contact.Outcome{contact.Present, contact.Failed, contact.Absent, contact.Failed, contact.Present, contact.Present}
	reasons := []contact.Reason{"", contact.ReasonChatIDInvalid, "", contact.ReasonNotOnWhatsApp, "", ""}
	for index, result := range results {
		if result.Index != index || result.ChatID != chatIDs[index] || result.Outcome != outcomes[index] ||
			errorOf(t, result.Err).Reason != reasons[index] {
			t.Errorf("%s: %d, %s, %v", chatIDs[index], result.Index, result.Outcome, result.Err)
		}
		present, failed := result.Outcome == contact.Present, result.Outcome == contact.Failed
		if (result.Picture.URL != "") != present || (result.Err != nil) != failed || result.FetchTime.IsZero() != failed {
			t.Errorf("%s: %q, %v, %v", chatIDs[index], result.Picture.URL, result.Err, result.FetchTime)
		}
	}
	known := map[string]string{
		"15551230001": results[0].Picture.Fingerprint, "15552000001@c.us": "another", "unrelated": "x", "abc": "",
	}
	results, err = client.BatchGetProfilePictures(t.Context(), chatIDs, contact.WithKnownFingerprints(known))
	if err != nil {
		t.Fatal(err)
	}
	var unchanged []int
	for _, result := range results {
		if result.Outcome == contact.Unchanged {
			unchanged = append(unchanged, result.Index)
			if result.Picture.URL != "" || result.Err != nil || result.FetchTime.IsZero() {
				t.Errorf("%d: %v, %v", result.Index, result, result.FetchTime)
			}
		}
	}
	if !slices.Equal(unchanged, []int{0, 4}) {
		t.Errorf("unchanged are %v", unchanged)
	}
}

func TestBatchesHaveALimit(t *testing.T) {
	client := dial(t, servicetest.StartSandbox(t, "--rate", "0"))
	known := map[string]string{}
	for _, chatID := range servicetest.Numbers(200) {
		known[chatID] = "x"
	}
	for _, size := range []int{0, 101} {
		_, err := client.BatchGetProfilePictures(t.Context(), servicetest.Numbers(size), contact.WithKnownFingerprints(known))
		if read := errorOf(t, err); read.Reason != contact.ReasonBatchSizeInvalid || read.Field != "chat_ids" {
			t.Errorf("%d ids: %v, field %q", size, err, read.Field)
		}
	}
	// Of 200 known fingerprints those of the batch are sent, which may have 100.
	if _, err := client.BatchGetProfilePictures(t.Context(), servicetest.Numbers(100), contact.WithKnownFingerprints(known)); err != nil {
		t.Error(err)
	}
}

func TestAStreamHasAResultForEachContact(t *testing.T) {
	client := dial(t, servicetest.StartSandbox(t, "--rate", "0"))
	chatIDs := append(servicetest.Numbers(200), "abc", "15551230004", "15552000007")
	fingerprints := map[string]string{}
	check := func(want contact.Outcome) {
		seen := make([]int, len(chatIDs))
		for result, err := range client.StreamProfilePictures(t.Context(), chatIDs, contact.WithKnownFingerprints(fingerprints)) {
			if err != nil {
				t.Fatal(err)
			}
			seen[result.Index]++
			expected := map[string]contact.Outcome{"abc": contact.Failed, "15551230004": contact.Absent}[result.ChatID]
			if expected == "" {
				expected = want
			}
			if result.ChatID != chatIDs[result.Index] || result.Outcome != expected {
				t.Errorf("%s: %s, not %s", chatIDs[result.Index], result.Outcome, expected)
			}
			if result.Outcome == contact.Present {
				fingerprints[result.ChatID] = result.Picture.Fingerprint
			}
		}
		if slices.Min(seen) != 1 || slices.Max(seen) != 1 {
			t.Errorf("%v results", seen)
		}
	}
	check(contact.Present)
	check(contact.Unchanged)
}

func TestCacheControl(t *testing.T) {
	api := servicetest.StartRestAPI(t)
	client := dial(t, servicetest.StartServer(t, api.Settings, "--refresh-floor", "0").Address)
	get := func(options ...contact.Option) (contact.Picture, error) {
		picture, _, err := client.GetProfilePicture(t.Context(), "15551230001", options...)
		return picture, err
	}
	if _, err := get(contact.OnlyIfCached()); !contact.IsNotCached(err) {
		t.Errorf("nothing is cached yet, got %v", err)
	}
	for index, row := range []struct {
		options []contact.Option
		asked   int
	}{
		{nil, 1},
		{[]contact.Option{contact.OnlyIfCached()}, 1},
		{[]contact.Option{contact.WithMaxAge(time.Hour)}, 1},
		{[]contact.Option{contact.WithMaxAge(0)}, 2},
		{[]contact.Option{contact.WithMinFresh(time.Hour)}, 2},
		{[]contact.Option{contact.WithMinFresh(1000 * time.Hour)}, 3},
	} {
		if _, err := get(row.options...); err != nil || api.Asked() != row.asked {
			t.Errorf("row %d: %v, asked %d times", index, err, api.Asked())
		}
	}
	api.Order("POST", "script", map[string]any{"status": 504})
	if picture, err := get(contact.WithMaxAge(0)); err != nil || !picture.Stale {
		t.Errorf("a failure gives a stale answer, not %v, %v", picture, err)
	}
	if _, err := get(contact.WithMaxAge(0), contact.WithStaleIfError(0)); status.Code(err) != codes.Unavailable {
		t.Errorf("without a stale answer: %v", err)
	}
	if _, err := get(contact.WithMaxAge(-time.Second)); errorOf(t, err).Field != "cache_control.max_age" {
		t.Errorf("a negative age: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	address := servicetest.StartSandbox(t)
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// 15551230012 never gets an answer.
	_, _, ofContext := dial(t, address).GetProfilePicture(short, "15551230012")
	client := dial(t, address, contact.WithTimeout(200*time.Millisecond))
	_, _, ofOption := client.GetProfilePicture(t.Context(), "15551230012")
	short, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var ofStream error
	for _, err := range client.StreamProfilePictures(short, []string{"15551230012"}) {
		ofStream = err
	}
	for name, err := range map[string]error{"context": ofContext, "option": ofOption, "stream": ofStream} {
		if !errors.Is(err, context.DeadlineExceeded) || !contact.IsRetryable(err) || status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := client.GetProfilePicture(ended, "15551230001")
	if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || status.Code(err) != codes.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDeadlinesThatThePeerSees(t *testing.T) {
	var left time.Duration
	note := func(ctx context.Context) {
		deadline, has := ctx.Deadline()
		if left = time.Until(deadline); !has {
			left = 0
		}
	}
	server := startFake(t, &fake{
		single: func(ctx context.Context) (*contactv1.GetProfilePictureResponse, error) {
			note(ctx)
			return present(), nil
		},
		batch: func(ctx context.Context, _ *contactv1.BatchGetProfilePicturesRequest) (*contactv1.BatchGetProfilePicturesResponse, error) {
			note(ctx)
			return &contactv1.BatchGetProfilePicturesResponse{}, nil
		},
		streams: []answer{func(_ *streamRequest, stream sender) error {
			note(stream.Context())
			return results(1, nil)(&streamRequest{ChatIds: []string{"1"}}, stream)
		}},
	})
	usual, changed := dial(t, server.address), dial(t, server.address, contact.WithTimeout(20*time.Second))
	single := func(client *contact.Client, ctx context.Context) { client.GetProfilePicture(ctx, "1") }
	batch := func(client *contact.Client, ctx context.Context) { client.BatchGetProfilePictures(ctx, nil) }
	stream := func(client *contact.Client, ctx context.Context) {
		for range client.StreamProfilePictures(ctx, []string{"1"}) {
		}
	}
	long, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for index, row := range []struct {
		call   func(*contact.Client, context.Context)
		client *contact.Client
		ctx    context.Context
		want   time.Duration
	}{
		{single, usual, t.Context(), 5 * time.Second},
		{single, changed, t.Context(), 20 * time.Second},
		// The service config has the longest time of the server.
		{single, usual, long, 30 * time.Second},
		{batch, usual, t.Context(), 30 * time.Second},
		{batch, changed, t.Context(), 20 * time.Second},
		{stream, changed, t.Context(), 0},
		{stream, usual, long, time.Hour},
	} {
		left = -1
		if row.call(row.client, row.ctx); left > row.want || left < row.want/2 {
			t.Errorf("row %d: %v are left, not %v", index, left, row.want)
		}
	}
}

func TestTheGeneratedCodeStaysInReach(t *testing.T) {
	client := dial(t, target)
	response, err := client.Service().GetProfilePicture(t.Context(), &contactv1.GetProfilePictureRequest{ChatId: "15551230001"})
	if err != nil || response.GetProfilePicture().GetUrl() == "" {
		t.Errorf("%v, %v", response, err)
	}
	_, err = contactv1.NewContactServiceClient(client.Conn()).GetProfilePicture(t.Context(), &contactv1.GetProfilePictureRequest{ChatId: "15551230006"})
	if !contact.IsNotOnWhatsApp(err) || !contact.IsNotOnWhatsApp(fmt.Errorf("wrapped: %w", err)) || contact.IsRetryable(err) {
		t.Errorf("%v", err)
	}
	var typed *contact.Error
	for _, err := range []error{nil, typed} {
		if contact.IsReason(err, "") || contact.IsRetryable(err) {
			t.Errorf("%v has a reason", err)
		}
	}
}

// An interceptor may fail with any error.
func TestErrorsOfInterceptors(t *testing.T) {
	closed := errors.New("the shop is closed")
	for failure, want := range map[error]codes.Code{closed: codes.Unknown, context.DeadlineExceeded: codes.DeadlineExceeded} {
		refuse := func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
			return failure
		}
		err := one(t, dial(t, target, contact.WithDialOptions(grpc.WithUnaryInterceptor(refuse))))
		if !errors.Is(err, failure) || errorOf(t, err).Code != want || contact.IsRetryable(err) != (failure != closed) {
			t.Errorf("%v: %v", failure, err)
		}
	}
}

func TestTextThatIsNotUTF8IsNotSent(t *testing.T) {
	client := dial(t, target)
	bad := "secret\xff"
	known := contact.WithKnownFingerprints(map[string]string{"2": bad})
	_, _, one := client.GetProfilePicture(t.Context(), bad)
	_, _, instance := client.GetProfilePicture(t.Context(), "1", contact.WithInstance(bad))
	_, dialled := contact.Dial(target, contact.WithInstance(bad))
	_, batch := client.BatchGetProfilePictures(t.Context(), []string{"1", "2", "3", bad})
	_, fingerprint := client.BatchGetProfilePictures(t.Context(), []string{"1", "2"}, known)
	var stream error
	for _, stream = range client.StreamProfilePictures(t.Context(), []string{"1", bad}) {
	}
	for _, row := range []struct {
		err         error
		field, text string
	}{
		{one, "chat_id", "chat_id is"}, {instance, "instance", "instance is"}, {dialled, "instance", "instance is"},
		{batch, "chat_ids[3]", "chat_ids[3] is"}, {fingerprint, "known_fingerprints", "of chat_ids[1] is"},
		{stream, "chat_ids[1]", "chat_ids[1] is"},
	} {
		read := errorOf(t, row.err)
		if read.Code != codes.InvalidArgument || read.Field != row.field || !strings.Contains(read.Message, row.text) ||
			strings.Contains(fmt.Sprint(row.err), "secret") {
			t.Errorf("%s: %v, field %q", row.field, row.err, read.Field)
		}
	}
}
