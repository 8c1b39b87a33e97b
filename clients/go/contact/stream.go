package contact

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// idsMax is the number of chat ids that the server accepts in one call.
const idsMax = 10_000

const (
	// The number of calls in a row without any new result after which a stream gives up.
	attemptsUsual = 10
	// The time without a message after which a call is ended and counts as broken. The server sends one every
	// 10 s. The time that the loop over the results takes for itself does not count.
	silenceUsual = time.Minute
)

// Progress is the state of a stream.
type Progress struct {
	// The numbers of results so far, of those among them that failed, and of all chat ids.
	Done, Failed, Total int
	// NextTurn is when the server expects to ask Hypersender next; zero if no contact waits for its turn.
	NextTurn time.Time
	// PausedUntil is the end of the pause that Hypersender asked for; zero if there is none.
	PausedUntil time.Time
}

// StreamProfilePictures looks up any number of contacts. It yields one result for each, in any order, as soon
// as it is known. Errors of contacts are in their results.
//
// A call that breaks is followed by one for the missing contacts, after the wait that the server asks for, or
// a growing one of up to 30 s. The stream gives up after ten calls in a row without a new result. An error is
// the last thing that it yields; the results before it stay valid.
//
// Leaving the loop ends the call. The deadline of ctx counts for all calls together; without one, there is
// none. Read without long breaks: the server resets a stream that is not read for 5 minutes.
func (c *Client) StreamProfilePictures(ctx context.Context, chatIDs []string, options ...StreamOption) iter.Seq2[Result, error] {
	with, err := settle(c, options, chatIDs)
	chatIDs = slices.Clone(chatIDs)
	return func(yield func(Result, error) bool) {
		s := &stream{client: c, with: with, chatIDs: chatIDs, answered: make([]bool, len(chatIDs)), yield: yield}
		for index := range chatIDs {
			s.missing = append(s.missing, index)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.life, cancel)()
		failed := err
		if failed == nil {
			failed = s.run(ctx)
		}
		if failed != nil {
			yield(Result{}, failed)
		}
	}
}

// stream is one loop over the results.
type stream struct {
	client  *Client
	with    *call
	chatIDs []string
	// By position in chatIDs.
	answered []bool
	// The positions without a result, as of the last call.
	missing      []int
	done, failed int
	yield        func(Result, error) bool
	// The loop was left.
	left bool
}

// run makes calls until every contact has a result or the loop is left.
func (s *stream) run(ctx context.Context) error {
	for failures := 0; len(s.missing) > 0; {
		before := s.done
		trailer, err := s.call(ctx)
		s.missing = slices.DeleteFunc(s.missing, func(position int) bool { return s.answered[position] })
		if s.left {
			return nil
		}
		if s.done > before {
			failures = 0
		}
		if err == nil || len(s.missing) == 0 {
			continue
		}
		failures++
		broken := newError(ctx, err)
		wait, again := pause(broken, trailer.Get("grpc-retry-pushback-ms"), failures)
		if ctx.Err() != nil || !again || failures >= s.with.attempts {
			return broken
		}
		if s.with.onBroken != nil {
			s.with.onBroken(broken, wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return newError(ctx, status.FromContextError(ctx.Err()).Err())
		}
	}
	return nil
}

var errSilent = status.Error(codes.Unavailable, "the stream sent nothing for too long")

// call asks for the first missing contacts and yields what arrives. It returns nil when all of them have a
// result.
func (s *stream) call(ctx context.Context) (trailer metadata.MD, err error) {
	asked := s.missing[:min(len(s.missing), idsMax)]
	chatIDs := make([]string, len(asked))
	for index, position := range asked {
		chatIDs[index] = s.chatIDs[position]
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.with.silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	stream, err := s.client.service(s.with).StreamProfilePictures(ctx, &contactv1.StreamProfilePicturesRequest{
		Instance: s.with.instance, ChatIds: chatIDs, CacheControl: s.with.cache, KnownFingerprints: s.with.knownOf(chatIDs),
	})
	for err == nil {
		var message *contactv1.StreamProfilePicturesResponse
		watchdog.Reset(s.with.silence)
		message, err = stream.Recv()
		watchdog.Stop()
		if err != nil {
			trailer = stream.Trailer()
		} else if s.take(message, asked); s.left {
			return nil, nil
		}
	}
	switch {
	case errors.Is(context.Cause(ctx), errSilent):
		err = errSilent
	case !errors.Is(err, io.EOF):
	case slices.ContainsFunc(asked, func(position int) bool { return !s.answered[position] }):
		err = status.Error(codes.Unavailable, "the stream ended before its last result")
	default:
		err = nil
	}
	return trailer, err
}

// take passes a message on. A result for a contact that has one, or was not asked for, is dropped.
func (s *stream) take(message *contactv1.StreamProfilePicturesResponse, asked []int) {
	if progress := message.GetProgress(); progress != nil && s.with.onProgress != nil {
		s.with.onProgress(Progress{
			Done: s.done, Failed: s.failed, Total: len(s.chatIDs),
			NextTurn: timeOf(progress.GetNextTurnTime()), PausedUntil: timeOf(progress.GetPausedUntil()),
		})
	}
	found, index := message.GetResult(), int(message.GetResult().GetIndex())
	if found == nil || index < 0 || index >= len(asked) || s.answered[asked[index]] {
		return
	}
	position := asked[index]
	result := newResult(position, s.chatIDs[position], found)
	s.answered[position] = true
	s.done++
	if result.Outcome == Failed {
		s.failed++
	}
	s.left = !s.yield(result, nil)
}
