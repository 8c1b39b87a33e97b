// Package pictures streams the profile pictures of any number of contacts, and asks again for the missing
// ones when a stream breaks.
//
// Deliberately not here: CSV, files and downloads, which are in examples/sync_contacts.
package pictures

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// IDsMax is the number of chat ids that the server accepts in one stream. Stream makes several calls for
// more.
const IDsMax = 10_000

const (
	attemptsUsual = 10
	silenceUsual  = time.Minute

	// The longest wait after the first failure, and the longest of all. Each attempt without a result makes
	// it twice as long; the shortest wait is half of it. The waits between ten attempts are 61 to 121 s
	// together.
	backoffFirst   = 500 * time.Millisecond
	backoffLongest = 30 * time.Second
)

// Options of Stream. The zero value stands for the usual ones.
type Options struct {
	// Attempts is the number of calls in a row without any new result after which Stream gives up; usually
	// 10.
	Attempts int
	// Silence is the time without a message after which a call is ended and counts as broken; usually a
	// minute. The server sends a message every 10 s. The time that the loop over the messages takes for
	// itself does not count.
	Silence time.Duration
	// Broken, if set, is called when a call broke, with its error and the wait before the next one.
	Broken func(err error, wait time.Duration)
}

// Stream looks up all chat ids of request, of which there may be any number, and yields the messages of the
// server: each id has exactly one result. Calls that break are followed by calls for the missing ids, after
// the wait that the server asks for or a growing one. Index and progress are those of the whole request.
//
// An error is the last thing that Stream yields: ctx has ended, the server says that the same call fails
// again, text of request is not UTF-8, or no call of the last few brought a result. The results before it
// stay valid.
func Stream(
	ctx context.Context, client contactv1.ContactServiceClient, request *contactv1.StreamProfilePicturesRequest,
	options Options,
) iter.Seq2[*contactv1.StreamProfilePicturesResponse, error] {
	if options.Attempts == 0 {
		options.Attempts = attemptsUsual
	}
	if options.Silence == 0 {
		options.Silence = silenceUsual
	}
	return func(yield func(*contactv1.StreamProfilePicturesResponse, error) bool) {
		run := &run{client: client, request: request, silence: options.Silence}
		for index := range request.GetChatIds() {
			run.missing = append(run.missing, int32(index))
		}
		// gRPC would fail with INTERNAL, like a connection that broke.
		if err := checkUTF8(request); err != nil {
			yield(nil, err)
			return
		}
		failures := 0
		for len(run.missing) > 0 {
			before := len(run.missing)
			trailer, err := run.call(ctx, func(message *contactv1.StreamProfilePicturesResponse) bool {
				return yield(message, nil)
			})
			if errors.Is(err, errStopped) {
				return
			}
			if len(run.missing) < before {
				failures = 0
			}
			if err == nil || len(run.missing) == 0 {
				continue
			}
			failures++
			wait, again := pause(err, trailer, failures)
			if ctx.Err() != nil || !again || failures >= options.Attempts {
				yield(nil, err)
				return
			}
			if options.Broken != nil {
				options.Broken(err, wait)
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				yield(nil, status.FromContextError(ctx.Err()).Err())
				return
			}
		}
	}
}

// checkUTF8 returns an error when the request has text that protobuf cannot send.
func checkUTF8(request *contactv1.StreamProfilePicturesRequest) error {
	if !utf8.ValidString(request.GetInstance()) {
		return status.Error(codes.InvalidArgument, "instance is not UTF-8")
	}
	for index, chatID := range request.GetChatIds() {
		if !utf8.ValidString(chatID) {
			return status.Errorf(codes.InvalidArgument, "chat_ids[%d] is not UTF-8", index)
		}
		if !utf8.ValidString(request.GetKnownFingerprints()[chatID]) {
			return status.Errorf(codes.InvalidArgument, "known_fingerprints of chat_ids[%d] is not UTF-8", index)
		}
	}
	return nil
}

// errStopped says that the loop over the messages has ended.
var errStopped = errors.New("stopped")

type run struct {
	client  contactv1.ContactServiceClient
	request *contactv1.StreamProfilePicturesRequest
	silence time.Duration
	// Positions in request.ChatIds without a result so far.
	missing      []int32
	done, failed int32
}

// call asks for the first missing ids and passes on what arrives. It returns nil when all of them have a
// result.
func (r *run) call(
	ctx context.Context, yield func(*contactv1.StreamProfilePicturesResponse) bool,
) (metadata.MD, error) {
	asked := r.missing[:min(len(r.missing), IDsMax)]
	answered := make([]bool, len(asked))
	defer func() {
		var left []int32
		for index, position := range asked {
			if !answered[index] {
				left = append(left, position)
			}
		}
		r.missing = append(left, r.missing[len(asked):]...)
	}()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var silent atomic.Bool
	watchdog := time.AfterFunc(r.silence, func() {
		silent.Store(true)
		cancel()
	})
	defer watchdog.Stop()
	stream, err := r.client.StreamProfilePictures(ctx, r.part(asked))
	if err != nil {
		return nil, err
	}
	for {
		watchdog.Reset(r.silence)
		message, err := stream.Recv()
		watchdog.Stop()
		if errors.Is(err, io.EOF) {
			for _, has := range answered {
				if !has {
					return nil, status.Error(codes.Unavailable, "the stream ended before its last result")
				}
			}
			return nil, nil
		}
		if err != nil && silent.Load() {
			return nil, status.Errorf(codes.Unavailable, "the stream sent nothing for %v", r.silence)
		}
		if err != nil {
			return stream.Trailer(), err
		}
		if result := message.GetResult(); result != nil {
			index := result.GetIndex()
			if index < 0 || int(index) >= len(asked) || answered[index] {
				continue
			}
			answered[index] = true
			result.Index = asked[index]
			r.done++
			if result.GetError() != nil {
				r.failed++
			}
		} else if progress := message.GetProgress(); progress != nil {
			progress.Done, progress.Failed, progress.Total = r.done, r.failed, int32(len(r.request.GetChatIds()))
		}
		if !yield(message) {
			return nil, errStopped
		}
	}
}

// part is the request for some positions.
func (r *run) part(positions []int32) *contactv1.StreamProfilePicturesRequest {
	part := &contactv1.StreamProfilePicturesRequest{
		Instance:          r.request.GetInstance(),
		CacheControl:      r.request.GetCacheControl(),
		KnownFingerprints: map[string]string{},
	}
	for _, position := range positions {
		chatID := r.request.GetChatIds()[position]
		part.ChatIds = append(part.ChatIds, chatID)
		if known := r.request.GetKnownFingerprints()[chatID]; known != "" {
			part.KnownFingerprints[chatID] = known
		}
	}
	return part
}

// pause returns the wait before the next call, and false when the same call would fail again.
func pause(err error, trailer metadata.MD, failures int) (time.Duration, bool) {
	// Clients that a restart disconnects at the same moment must not come back together.
	backoff := min(backoffFirst<<min(failures-1, 16), backoffLongest)
	jitter := rand.N(backoff / 2)
	failure := Explain(status.Convert(err))
	switch {
	case failure.Wait > 0:
		return failure.Wait + jitter, true
	case failure.Reason != "":
		return backoff/2 + jitter, failure.Again
	}
	if pushback := trailer.Get("grpc-retry-pushback-ms"); len(pushback) > 0 {
		wait, err := time.ParseDuration(pushback[0] + "ms")
		return wait + jitter, err == nil && wait >= 0
	}
	// The error is not from the service: the connection broke, or a proxy ended the stream.
	switch failure.Code {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled, codes.Aborted,
		codes.ResourceExhausted, codes.DeadlineExceeded:
		return backoff/2 + jitter, true
	default:
		return 0, false
	}
}
