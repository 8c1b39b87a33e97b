package pictures_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/pictures"
)

// Far above what a call takes, so that only a stream that hangs reaches it.
const patience = 30 * time.Second

type sender = grpc.ServerStreamingServer[contactv1.StreamProfilePicturesResponse]

// breaker is a server that breaks streams on purpose: call number n is answered by the function n, and later
// ones by the last.
type breaker struct {
	contactv1.UnimplementedContactServiceServer
	answers []func(*contactv1.StreamProfilePicturesRequest, sender) error
	// The requests of the calls. Read it only between calls.
	asked []*contactv1.StreamProfilePicturesRequest
}

func (b *breaker) StreamProfilePictures(request *contactv1.StreamProfilePicturesRequest, stream sender) error {
	answer := b.answers[min(len(b.asked), len(b.answers)-1)]
	b.asked = append(b.asked, request)
	return answer(request, stream)
}

// results sends a result for the first so many ids, the last one first, and then ends the call with err.
func results(number int, err error) func(*contactv1.StreamProfilePicturesRequest, sender) error {
	return func(request *contactv1.StreamProfilePicturesRequest, stream sender) error {
		for index := min(number, len(request.GetChatIds())) - 1; index >= 0; index-- {
			if err := stream.Send(result(request, index)); err != nil {
				return err
			}
		}
		return err
	}
}

func result(request *contactv1.StreamProfilePicturesRequest, index int) *contactv1.StreamProfilePicturesResponse {
	return &contactv1.StreamProfilePicturesResponse{
		Event: &contactv1.StreamProfilePicturesResponse_Result{Result: &contactv1.ProfilePictureResult{
			Index: int32(index), RequestedChatId: request.GetChatIds()[index],
		}},
	}
}

// fails is an error of the service. With a wait it carries RetryInfo.
func fails(code codes.Code, reason string, wait time.Duration) error {
	return failsFor("hypersender-grpc", code, reason, wait)
}

// failsFor is an error whose reason has the domain.
func failsFor(domain string, code codes.Code, reason string, wait time.Duration) error {
	failure, err := status.New(code, "").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: domain})
	if err == nil && wait > 0 {
		failure, err = failure.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	return errors.Join(err, failure.Err())
}

func start(t *testing.T, answers ...func(*contactv1.StreamProfilePicturesRequest, sender) error) (
	*breaker, contactv1.ContactServiceClient,
) {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	breaker := &breaker{answers: answers}
	contactv1.RegisterContactServiceServer(server, breaker)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient("passthrough:///breaker", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return breaker, contactv1.NewContactServiceClient(connection)
}

func numbers(count int) *contactv1.StreamProfilePicturesRequest {
	request := &contactv1.StreamProfilePicturesRequest{Instance: "one", KnownFingerprints: map[string]string{}}
	for index := range count {
		chatID := fmt.Sprint(15552000000 + index)
		request.ChatIds = append(request.ChatIds, chatID)
		request.KnownFingerprints[chatID] = "known of " + chatID
	}
	return request
}

// collect runs a stream to its end and checks that no id has two results, nor that of another.
func collect(
	t *testing.T, client contactv1.ContactServiceClient, request *contactv1.StreamProfilePicturesRequest,
	options pictures.Options,
) (answered int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := map[int32]bool{}
	for message, err := range pictures.Stream(ctx, client, request, options) {
		if err != nil {
			return len(seen), err
		}
		result := message.GetResult()
		if seen[result.GetIndex()] || request.GetChatIds()[result.GetIndex()] != result.GetRequestedChatId() {
			t.Errorf("index %d has the result of %s, or two", result.GetIndex(), result.GetRequestedChatId())
		}
		seen[result.GetIndex()] = true
	}
	return len(seen), nil
}

func TestABrokenStreamIsResumed(t *testing.T) {
	stopping := fails(codes.Unavailable, "SERVER_STOPPING", time.Millisecond)
	twice := func(request *contactv1.StreamProfilePicturesRequest, stream sender) error {
		return errors.Join(stream.Send(result(request, 0)), stream.Send(result(request, 0)))
	}
	for _, row := range []struct {
		name   string
		first  func(*contactv1.StreamProfilePicturesRequest, sender) error
		missed int
	}{
		{"the server stops", results(3, stopping), 7},
		{"the connection breaks", results(4, status.Error(codes.Unavailable, "connection reset")), 6},
		{"a proxy resets the stream", results(4, status.Error(codes.Internal, "RST_STREAM")), 6},
		{"a proxy cancels the stream", results(4, status.Error(codes.Canceled, "RST_STREAM")), 6},
		{"a proxy aborts the stream", results(4, status.Error(codes.Aborted, "")), 6},
		{"a proxy gives no trailers", results(4, status.Error(codes.Unknown, "")), 6},
		{"a proxy has reasons of its own", results(4, failsFor("proxy.example.com", codes.Internal, "LIMIT", 0)), 6},
		{"the server ends the longest stream", results(9, fails(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", 0)), 1},
		{"too many streams", results(0, fails(codes.ResourceExhausted, "TOO_MANY_STREAMS", time.Millisecond)), 10},
		{"the stream ends early", results(5, nil), 5},
		{"a result comes twice", twice, 9},
	} {
		t.Run(row.name, func(t *testing.T) {
			breaker, client := start(t, row.first, results(10, nil))
			answered, err := collect(t, client, numbers(10), pictures.Options{})
			if answered != 10 || err != nil {
				t.Fatalf("%d answered, %v", answered, err)
			}
			again := breaker.asked[1]
			if len(breaker.asked) != 2 || len(again.GetChatIds()) != row.missed || again.GetInstance() != "one" {
				t.Errorf("%d calls, and the second is %v", len(breaker.asked), again)
			}
			for _, chatID := range again.GetChatIds() {
				if again.GetKnownFingerprints()[chatID] != "known of "+chatID {
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
	breaker, client := start(t, results(10_000, nil))
	answered, err := collect(t, client, numbers(20_001), pictures.Options{})
	if answered != 20_001 || err != nil {
		t.Fatalf("%d answered, %v", answered, err)
	}
	var sizes []int
	for _, request := range breaker.asked {
		sizes = append(sizes, len(request.GetChatIds()))
	}
	if !slices.Equal(sizes, []int{10_000, 10_000, 1}) {
		t.Errorf("got calls of %v ids", sizes)
	}
}

func TestStreamGivesUp(t *testing.T) {
	pushback := func(pushback string) func(*contactv1.StreamProfilePicturesRequest, sender) error {
		return func(_ *contactv1.StreamProfilePicturesRequest, stream sender) error {
			stream.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", pushback))
			return status.Error(codes.Unavailable, "")
		}
	}
	again := fails(codes.Unavailable, "OVERLOADED", time.Millisecond)
	for _, row := range []struct {
		name   string
		answer func(*contactv1.StreamProfilePicturesRequest, sender) error
		calls  int
	}{
		{"no result three times", results(0, again), 3},
		{"no result three times, after a pushback", pushback("1"), 3},
		{"pushback says no", pushback("-1"), 1},
		{"the instance is not connected", results(0, fails(codes.FailedPrecondition, "INSTANCE_NOT_CONNECTED", 0)), 1},
		{"the message is too large", results(0, fails(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", 0)), 1},
		{"the server lacks the method", results(0, status.Error(codes.Unimplemented, "")), 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			breaker, client := start(t, row.answer)
			answered, err := collect(t, client, numbers(2), pictures.Options{Attempts: 3})
			if answered != 0 || err == nil || len(breaker.asked) != row.calls {
				t.Errorf("%d answered, %v, after %d calls", answered, err, len(breaker.asked))
			}
		})
	}
	t.Run("each call has a result", func(t *testing.T) {
		breaker, client := start(t, results(1, again))
		answered, err := collect(t, client, numbers(8), pictures.Options{Attempts: 2})
		// The last call has its result and breaks all the same.
		if answered != 8 || err != nil || len(breaker.asked) != 8 {
			t.Errorf("%d answered, %v, after %d calls", answered, err, len(breaker.asked))
		}
	})
}

func TestTextThatIsNotUTF8IsNotSent(t *testing.T) {
	for _, row := range []struct {
		want    string
		request *contactv1.StreamProfilePicturesRequest
	}{
		{"chat_ids[1]", &contactv1.StreamProfilePicturesRequest{ChatIds: []string{"1", "2\xff"}}},
		{"instance", &contactv1.StreamProfilePicturesRequest{Instance: "\xff", ChatIds: []string{"1"}}},
		{"known_fingerprints of chat_ids[0]", &contactv1.StreamProfilePicturesRequest{
			ChatIds: []string{"1"}, KnownFingerprints: map[string]string{"1": "\xff"},
		}},
	} {
		breaker, client := start(t, results(2, nil))
		again := func(err error, _ time.Duration) { t.Errorf("tried again after %v", err) }
		answered, err := collect(t, client, row.request, pictures.Options{Attempts: 2, Broken: again})
		if message := status.Convert(err).Message(); message != row.want+" is not UTF-8" {
			t.Errorf("the error of %s is %q", row.want, message)
		}
		if answered != 0 || status.Code(err) != codes.InvalidArgument || len(breaker.asked) != 0 {
			t.Errorf("%d answered, %v, after %d calls", answered, err, len(breaker.asked))
		}
	}
}

func TestTheWaitOfTheServerIsObeyed(t *testing.T) {
	_, client := start(t, results(1, fails(codes.Unavailable, "SERVER_STOPPING", 1500*time.Millisecond)), results(2, nil))
	var waits []time.Duration
	options := pictures.Options{Broken: func(err error, wait time.Duration) { waits = append(waits, wait) }}
	begin := time.Now()
	if answered, err := collect(t, client, numbers(2), options); answered != 2 || err != nil {
		t.Fatalf("%d answered, %v", answered, err)
	}
	if len(waits) != 1 || waits[0] < 1500*time.Millisecond || time.Since(begin) < waits[0] {
		t.Errorf("waits of %v, over after %v", waits, time.Since(begin))
	}
}

func TestASilentStreamIsResumed(t *testing.T) {
	silent := func(request *contactv1.StreamProfilePicturesRequest, stream sender) error {
		if err := stream.Send(result(request, 1)); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	breaker, client := start(t, silent, results(2, nil))
	var broken string
	options := pictures.Options{
		Silence: 200 * time.Millisecond, Broken: func(err error, _ time.Duration) { broken = err.Error() },
	}
	if answered, err := collect(t, client, numbers(2), options); answered != 2 || err != nil {
		t.Fatalf("%d answered, %v", answered, err)
	}
	if len(breaker.asked) != 2 || !strings.Contains(broken, "sent nothing for 200ms") {
		t.Errorf("%d calls, after %s", len(breaker.asked), broken)
	}
}

func TestTheCallerCanStop(t *testing.T) {
	left := make(chan struct{})
	hangs := func(request *contactv1.StreamProfilePicturesRequest, stream sender) error {
		defer close(left)
		if err := stream.Send(result(request, 0)); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	breaker, client := start(t, hangs)
	for _, err := range pictures.Stream(t.Context(), client, numbers(2), pictures.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the call goes on")
	}
	if len(breaker.asked) != 1 {
		t.Errorf("%d calls", len(breaker.asked))
	}
}

func TestTheEndOfTheContextEndsThePause(t *testing.T) {
	breaker, client := start(t, results(1, fails(codes.Unavailable, "SERVER_STOPPING", time.Hour)))
	ctx, cancel := context.WithCancel(t.Context())
	options := pictures.Options{Broken: func(error, time.Duration) { cancel() }}
	var last error
	for _, err := range pictures.Stream(ctx, client, numbers(2), options) {
		last = err
	}
	if status.Code(last) != codes.Canceled || len(breaker.asked) != 1 {
		t.Errorf("%v, after %d calls", last, len(breaker.asked))
	}
}

func TestAFailureHasAText(t *testing.T) {
	for want, failure := range map[string]pictures.Failure{
		"Unavailable OVERLOADED, try again in 1.5s: busy": {Reason: "OVERLOADED", Wait: 1500 * time.Millisecond, Message: "busy"},
		"Unavailable OVERLOADED":                          {Reason: "OVERLOADED"},
		"Unavailable: refused":                            {Message: "refused"},
		"Unavailable":                                     {},
	} {
		failure.Code = codes.Unavailable
		if failure.String() != want {
			t.Errorf("got %q, not %q", failure, want)
		}
	}
}

func TestProgressIsThatOfAllCalls(t *testing.T) {
	progress := func(request *contactv1.StreamProfilePicturesRequest, stream sender) error {
		if err := stream.Send(result(request, 0)); err != nil {
			return err
		}
		return stream.Send(&contactv1.StreamProfilePicturesResponse{
			Event: &contactv1.StreamProfilePicturesResponse_Progress{Progress: &contactv1.StreamProgress{Done: 1, Total: 9}},
		})
	}
	_, client := start(t, progress)
	var seen []string
	for message, err := range pictures.Stream(t.Context(), client, numbers(2), pictures.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		if progress := message.GetProgress(); progress != nil {
			seen = append(seen, fmt.Sprint(progress.GetDone(), "/", progress.GetTotal()))
		}
	}
	if !slices.Equal(seen, []string{"1/2", "2/2"}) {
		t.Errorf("got %v", seen)
	}
}
