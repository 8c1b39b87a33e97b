package contact

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
)

// The longest back-off after the first failure, and the longest of all. Each call without a result makes it
// twice as long; the shortest wait is half of it.
const backoffFirst, backoffLongest = 500 * time.Millisecond, 30 * time.Second

// breaks are the codes of a broken connection, or of a proxy that ended the stream.
var breaks = []codes.Code{
	codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled, codes.Aborted,
	codes.ResourceExhausted, codes.DeadlineExceeded,
}

// pause returns the wait before the call that resumes a stream, and false when the same call would fail
// again. The pushback is that of the trailer, which should have one value at most.
func pause(broken *Error, pushback []string, failures int) (time.Duration, bool) {
	// Clients that a restart disconnects at the same moment must not come back together.
	backoff := min(backoffFirst<<min(failures-1, 16), backoffLongest)
	jitter := rand.N(backoff / 2)
	switch {
	case broken.RetryAfter > 0:
		return min(broken.RetryAfter, math.MaxInt64-backoffLongest) + jitter, true
	case broken.Reason != "":
		return backoff/2 + jitter, IsRetryable(broken)
	case len(pushback) > 0:
		// Anything but one number of milliseconds, such as -1, says not to call again.
		wait, err := strconv.ParseUint(pushback[0], 10, 32)
		return time.Duration(wait)*time.Millisecond + jitter, err == nil && len(pushback) == 1
	default:
		return backoff/2 + jitter, slices.Contains(breaks, broken.Code)
	}
}
