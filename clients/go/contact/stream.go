package contact

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// idsMax is the number of chat ids that the server accepts in one call.
const idsMax = 10_000

// After this number of calls in a row without any new result, a stream gives up: usually, and for a fault of
// TLS before the first result.
const attemptsUsual, attemptsTLS = 10, 3

// silenceUsual is the time without a message after which a call is ended and counts as broken. The server
// sends one every 10 s. The time that the loop over the results takes for itself does not count.
const silenceUsual = time.Minute

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
func (c *Client) StreamProfilePictures(ctx context.Context, chatIDs []string, opts ...Option) iter.Seq2[Result, error] {
	with, _ := c.settings.with(opts, "chat_ids[#]", chatIDs...)
	chatIDs = slices.Clone(chatIDs)
	return func(yield func(Result, error) bool) {
		s := &stream{client: c, settings: with, chatIDs: chatIDs, yield: yield}
		for position := range chatIDs {
			s.missing = append(s.missing, position)
		}
		if err := s.run(ctx); err != nil {
			yield(Result{}, err)
		}
	}
}

// stream is one loop over the results.
type stream struct {
	*settings
	client  *Client
	chatIDs []string
	// The positions in chatIDs without a result. A call puts answered in the place of those that get one.
	missing      []int
	done, failed int
	// The number of calls since the last result.
	failures int
	yield    func(Result, error) bool
	// Set when the program has left the loop over the results.
	left bool
}

// answered is the mark in missing for a contact that got its result. It is no position.
const answered = -1

// run makes calls until every contact has a result or the loop is left. If an option is refused, it makes
// none.
func (s *stream) run(ctx context.Context) error {
	for s.err == nil && len(s.missing) > 0 && !s.left {
		trailer, err := s.call(ctx, s.missing[:min(len(s.missing), idsMax)])
		s.missing = slices.DeleteFunc(s.missing, func(position int) bool { return position == answered })
		if err == nil || len(s.missing) == 0 || s.left {
			continue
		}
		s.failures++
		broken := readError(ctx, err)
		wait, again := pause(broken, trailer.Get("grpc-retry-pushback-ms"), s.failures)
		// Without any result so far, a fault of TLS is rather a wrong option than a passing fault.
		isTLS := s.done == 0 && s.failures >= attemptsTLS && otherTransport.MatchString(broken.Message)
		// After a wait that does not fit, the error would be that of the deadline, which hides the cause.
		deadline, has := ctx.Deadline()
		isLate := has && time.Until(deadline) <= wait
		if !again || isTLS || isLate || s.failures >= s.attempts || ctx.Err() != nil || s.client.life.Err() != nil {
			return broken
		}
		if s.onBroken != nil {
			s.onBroken(broken, wait)
		}
		select {
		case <-time.After(wait):
		case <-s.client.life.Done():
			// The next call fails, and its error says why.
		case <-ctx.Done():
			return readError(ctx, ctx.Err())
		}
	}
	return s.err
}

var errSilent = status.Error(codes.Unavailable, "the stream sent nothing for too long")

// call asks for some of the missing contacts and yields what arrives. It returns nil when all of them have a
// result.
func (s *stream) call(ctx context.Context, asked []int) (trailer metadata.MD, err error) {
	before, chatIDs := s.done, make([]string, len(asked))
	for index, position := range asked {
		chatIDs[index] = s.chatIDs[position]
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	stream, err := s.client.Service().StreamProfilePictures(ctx, &contactv1.StreamProfilePicturesRequest{
		Instance: s.instance, ChatIds: chatIDs, CacheControl: s.cache, KnownFingerprints: s.knownOf(chatIDs),
	}, grpc.PerRPCCredentials(s.bearer))
	for err == nil && !s.left {
		var message *contactv1.StreamProfilePicturesResponse
		watchdog.Reset(s.silence)
		if message, err = stream.Recv(); err != nil {
			trailer = stream.Trailer()
		}
		watchdog.Stop()
		s.take(message, asked)
	}
	switch {
	case errors.Is(context.Cause(ctx), errSilent):
		err = errSilent
	case err == io.EOF && s.done-before == len(asked):
		err = nil
	case err == io.EOF:
		err = status.Error(codes.Unavailable, "the stream ended before its last result")
	}
	return trailer, err
}

// take passes a message on, if there is one. A result for a contact that has one, or was not asked for, is
// dropped.
func (s *stream) take(message *contactv1.StreamProfilePicturesResponse, asked []int) {
	if progress := message.GetProgress(); progress != nil && s.onProgress != nil {
		s.onProgress(Progress{
			Done: s.done, Failed: s.failed, Total: len(s.chatIDs),
			NextTurn: timeOf(progress.GetNextTurnTime()), PausedUntil: timeOf(progress.GetPausedUntil()),
		})
	}
	found, index := message.GetResult(), int(message.GetResult().GetIndex())
	if found == nil || index < 0 || index >= len(asked) || asked[index] == answered {
		return
	}
	result := newResult(asked[index], s.chatIDs[asked[index]], found)
	asked[index] = answered
	s.done++
	s.failures = 0
	if result.Outcome == Failed {
		s.failed++
	}
	s.left = !s.yield(result, nil)
}
