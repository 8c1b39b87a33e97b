package contact_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

// collect runs a stream to its end and checks that no id has two results, nor that of another.
func collect(
	t *testing.T, client *contact.Client, chatIDs []string, options ...contact.Option,
) (answered int, err error) {
	t.Helper()
	seen := map[int]bool{}
	for result, err := range client.StreamProfilePictures(servicetest.Deadline(t), chatIDs, options...) {
		if err != nil {
			return len(seen), err
		}
		if seen[result.Index] || chatIDs[result.Index] != result.ChatID {
			t.Errorf("index %d has the result of %s, or two", result.Index, result.ChatID)
		}
		seen[result.Index] = true
	}
	return len(seen), nil
}

func TestABrokenStreamIsResumed(t *testing.T) {
	twice := func(request *streamRequest, stream sender) error {
		return errors.Join(stream.Send(result(request, 0)), stream.Send(result(request, 0)))
	}
	stranger := func(request *streamRequest, stream sender) error {
		foreign := result(request, 0)
		foreign.GetResult().Index = int32(len(request.GetChatIds()))
		return errors.Join(stream.Send(result(request, 1)), stream.Send(foreign))
	}
	for _, row := range []struct {
		name   string
		first  answer
		missed int
	}{
		{"the server stops", results(3, fails(codes.Unavailable, "SERVER_STOPPING", time.Millisecond)), 7},
		{"the connection breaks", results(4, status.Error(codes.Unavailable, "connection reset")), 6},
		{"a proxy resets the stream", results(4, status.Error(codes.Internal, "RST_STREAM")), 6},
		{"a proxy cancels the stream", results(4, status.Error(codes.Canceled, "RST_STREAM")), 6},
		{"a proxy aborts the stream", results(4, status.Error(codes.Aborted, "")), 6},
		{"a proxy gives no trailers", results(4, status.Error(codes.Unknown, "")), 6},
		{"a proxy has reasons of its own", results(4, failsFor("proxy.example", codes.Internal, "LIMIT", 0)), 6},
		{"the server ends the longest stream", results(9, fails(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", 0)), 1},
		{"too many streams", results(0, fails(codes.ResourceExhausted, "TOO_MANY_STREAMS", time.Millisecond)), 10},
		{"the stream ends early", results(5, nil), 5},
		{"a result comes twice", twice, 9},
		{"a result is for no contact", stranger, 9},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := startStreams(t, row.first, results(10, nil))
			client := dial(t, server.address, contact.WithInstance("one"))
			chatIDs, known := servicetest.Numbers(10), map[string]string{"unrelated": "x"}
			for _, chatID := range chatIDs {
				known[chatID] = "known of " + chatID
			}
			answered, err := collect(t, client, chatIDs, contact.WithKnownFingerprints(known))
			asked := server.requests()
			if answered != 10 || err != nil || len(asked) != 2 {
				t.Fatalf("%d answered, %v, after %d calls", answered, err, len(asked))
			}
			again := asked[1]
			if len(again.GetChatIds()) != row.missed || again.GetInstance() != "one" {
				t.Errorf("the second call is %v", again)
			}
			for _, chatID := range again.GetChatIds() {
				if again.GetKnownFingerprints()[chatID] != known[chatID] {
					t.Errorf("the fingerprint of %s is missing", chatID)
				}
			}
			if len(again.GetKnownFingerprints()) != row.missed {
				t.Error("fingerprints were sent of contacts that were not asked for")
			}
		})
	}
}

func TestCallsHaveAtMost10000Ids(t *testing.T) {
	server := startStreams(t, results(10_000, nil))
	answered, err := collect(t, dial(t, server.address), servicetest.Numbers(20_001))
	var sizes []int
	for _, request := range server.requests() {
		sizes = append(sizes, len(request.GetChatIds()))
	}
	if answered != 20_001 || err != nil || !slices.Equal(sizes, []int{10_000, 10_000, 1}) {
		t.Errorf("%d answered, %v, in calls of %v ids", answered, err, sizes)
	}
	if answered, err := collect(t, dial(t, server.address), nil); answered != 0 || err != nil || len(server.requests()) != 3 {
		t.Errorf("no ids: %d answered, %v", answered, err)
	}
}

func TestAStreamGivesUp(t *testing.T) {
	pushback := func(values ...string) answer {
		return func(_ *streamRequest, stream sender) error {
			for _, value := range values {
				stream.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", value))
			}
			return status.Error(codes.Unavailable, "")
		}
	}
	again := fails(codes.Unavailable, "OVERLOADED", time.Millisecond)
	for _, row := range []struct {
		name   string
		answer answer
		calls  int
	}{
		{"no result three times", results(0, again), 3},
		{"no result three times, after a pushback", pushback("1"), 3},
		{"the stream ends without a result", results(0, nil), 3},
		{"the pushback says no", pushback("-1"), 1},
		{"there are two pushbacks", pushback("1", "1"), 1},
		{"the instance is not connected", results(0, fails(codes.FailedPrecondition, "INSTANCE_NOT_CONNECTED", 0)), 1},
		{"the message is too large", results(0, fails(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", 0)), 1},
		{"the server lacks the method", results(0, status.Error(codes.Unimplemented, "")), 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := startStreams(t, row.answer)
			answered, err := collect(t, dial(t, server.address), servicetest.Numbers(2), contact.WithLimits(3, time.Minute))
			if answered != 0 || err == nil || len(server.requests()) != row.calls {
				t.Errorf("%d answered, %v, after %d calls", answered, err, len(server.requests()))
			}
		})
	}
	t.Run("not while each call has a result", func(t *testing.T) {
		server := startStreams(t, results(1, again))
		answered, err := collect(t, dial(t, server.address), servicetest.Numbers(8), contact.WithLimits(2, time.Minute))
		// The last call has its result and breaks all the same.
		if answered != 8 || err != nil || len(server.requests()) != 8 {
			t.Errorf("%d answered, %v, after %d calls", answered, err, len(server.requests()))
		}
	})
}

func TestTheUsualLimits(t *testing.T) {
	if contact.AttemptsUsual != 10 || contact.SilenceUsual != time.Minute {
		t.Errorf("%d calls, %v", contact.AttemptsUsual, contact.SilenceUsual)
	}
}

func TestTheWaitOfTheServerIsObeyed(t *testing.T) {
	server := startStreams(t, results(1, fails(codes.Unavailable, "SERVER_STOPPING", 1500*time.Millisecond)), results(2, nil))
	var waits []time.Duration
	broken := contact.OnBroken(func(err error, wait time.Duration) { waits = append(waits, wait) })
	begin := time.Now()
	if answered, err := collect(t, dial(t, server.address), servicetest.Numbers(2), broken); answered != 2 || err != nil {
		t.Fatalf("%d answered, %v", answered, err)
	}
	if len(waits) != 1 || waits[0] < 1500*time.Millisecond || time.Since(begin) < waits[0] {
		t.Errorf("waits of %v, over after %v", waits, time.Since(begin))
	}
}

func TestASilentStreamIsResumed(t *testing.T) {
	left, read := make(chan struct{}), make(chan struct{})
	server := startStreams(t, hangs(left), func(request *streamRequest, stream sender) error {
		err := stream.Send(result(request, 1))
		select {
		case <-read:
		case <-stream.Context().Done():
		}
		return errors.Join(err, stream.Send(result(request, 0)))
	})
	var broken []string
	options := []contact.Option{
		contact.WithLimits(10, 2*time.Second),
		contact.OnBroken(func(err error, _ time.Duration) { broken = append(broken, err.Error()) }),
	}
	seen := 0
	for _, err := range dial(t, server.address).StreamProfilePictures(servicetest.Deadline(t), servicetest.Numbers(3), options...) {
		if err != nil {
			t.Fatal(err)
		}
		// The time of the loop does not count.
		if seen++; seen == 2 {
			time.Sleep(3 * time.Second)
			close(read)
		}
	}
	if seen != 3 || len(server.requests()) != 2 || len(broken) != 1 || !strings.Contains(broken[0], "sent nothing for too long") {
		t.Errorf("%d results, %d calls, after %q", seen, len(server.requests()), broken)
	}
	await(t, left, "the silent call goes on")
}

func TestLeavingTheLoopEndsTheCall(t *testing.T) {
	left := make(chan struct{})
	server := startStreams(t, hangs(left))
	for _, err := range dial(t, server.address).StreamProfilePictures(t.Context(), servicetest.Numbers(2)) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	await(t, left, "the call goes on")
	if len(server.requests()) != 1 {
		t.Errorf("%d calls", len(server.requests()))
	}
}

func TestTheEndOfTheContextEndsAStream(t *testing.T) {
	pausing := startStreams(t, results(1, fails(codes.Unavailable, "SERVER_STOPPING", time.Hour)))
	left := make(chan struct{})
	hanging := startStreams(t, hangs(left))
	for name, server := range map[string]*fake{"in the pause": pausing, "in a call": hanging} {
		ctx, cancel := context.WithCancel(t.Context())
		broken := contact.OnBroken(func(error, time.Duration) { cancel() })
		var last error
		for result, err := range dial(t, server.address).StreamProfilePictures(ctx, servicetest.Numbers(2), broken) {
			if last = err; result.Outcome != "" && server == hanging {
				cancel()
			}
		}
		cancel()
		if status.Code(last) != codes.Canceled || !errors.Is(last, context.Canceled) || len(server.requests()) != 1 {
			t.Errorf("%s: %v, after %d calls", name, last, len(server.requests()))
		}
	}
	await(t, left, "the call goes on")
}

func TestAWaitThatDoesNotFitEndsTheStream(t *testing.T) {
	server := startStreams(t, results(1, fails(codes.Unavailable, "SERVER_STOPPING", time.Hour)))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var last error
	for _, err := range dial(t, server.address).StreamProfilePictures(ctx, servicetest.Numbers(2)) {
		last = err
	}
	read := errorOf(t, last)
	if read.Reason != contact.ReasonServerStopping || read.RetryAfter != time.Hour || ctx.Err() != nil {
		t.Errorf("%v, with %v for the context", last, ctx.Err())
	}
}

func TestCloseEndsCalls(t *testing.T) {
	left, asked := make(chan struct{}), make(chan struct{})
	server := startFake(t, &fake{streams: []answer{hangs(left)}, single: func(ctx context.Context) (*contactv1.GetProfilePictureResponse, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	pausing := dial(t, startStreams(t, results(0, fails(codes.Unavailable, "OVERLOADED", time.Hour))).address)
	var last error
	broken := 0
	report := contact.OnBroken(func(error, time.Duration) {
		broken++
		pausing.Close()
	})
	for _, last = range pausing.StreamProfilePictures(t.Context(), servicetest.Numbers(2), report) {
	}
	if status.Code(last) != codes.Canceled || errors.Is(last, context.Canceled) || broken != 1 {
		t.Errorf("in the pause: %v, after %d breaks", last, broken)
	}
	client := dial(t, server.address)
	single := make(chan error, 1)
	go func() {
		_, _, err := client.GetProfilePicture(context.Background(), "1")
		single <- err
	}()
	await(t, asked, "no call arrives")
	for result, err := range client.StreamProfilePictures(t.Context(), servicetest.Numbers(2)) {
		if last = err; result.Outcome != "" {
			client.Close()
		}
	}
	await(t, left, "the stream goes on")
	if err := <-single; status.Code(err) != codes.Canceled || status.Code(last) != codes.Canceled ||
		errors.Is(err, context.Canceled) || errors.Is(last, context.Canceled) {
		t.Errorf("the call ends with %v, the stream with %v", err, last)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := client.GetProfilePicture(t.Context(), "1"); status.Code(err) != codes.Canceled {
		t.Errorf("after Close: %v", err)
	}
}

func TestProgressIsThatOfAllCalls(t *testing.T) {
	progress := func(request *streamRequest, stream sender) error {
		failed := result(request, 0)
		failed.GetResult().Outcome = &contactv1.ProfilePictureResult_Error{}
		return errors.Join(stream.Send(failed), stream.Send(&contactv1.StreamProfilePicturesResponse{
			Event: &contactv1.StreamProfilePicturesResponse_Progress{Progress: &contactv1.StreamProgress{Done: 1, Total: 9}},
		}))
	}
	var seen []string
	report := contact.OnProgress(func(progress contact.Progress) {
		seen = append(seen, fmt.Sprint(progress.Failed, " of ", progress.Done, "/", progress.Total, progress.NextTurn.IsZero()))
	})
	if answered, err := collect(t, dial(t, startStreams(t, progress).address), servicetest.Numbers(2), report); answered != 2 || err != nil {
		t.Fatalf("%d answered, %v", answered, err)
	}
	if !slices.Equal(seen, []string{"1 of 1/2 true", "2 of 2/2 true"}) {
		t.Errorf("got %q", seen)
	}
}

func TestAStreamCanBeReadTwice(t *testing.T) {
	chatIDs := servicetest.Numbers(2)
	server := startStreams(t, results(2, nil))
	stream := dial(t, server.address).StreamProfilePictures(t.Context(), chatIDs)
	// What the caller does to its slice later does not count.
	clear(chatIDs)
	for range 2 {
		seen := 0
		for result, err := range stream {
			if seen++; err != nil || result.ChatID == "" {
				t.Errorf("%q, %v", result.ChatID, err)
			}
		}
		if seen != 2 {
			t.Errorf("%d results", seen)
		}
	}
	if len(server.requests()) != 2 {
		t.Errorf("%d calls", len(server.requests()))
	}
}
