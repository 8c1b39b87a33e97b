package contact

import (
	"context"
	"time"
)

const (
	AttemptsUsual = attemptsUsual
	SilenceUsual  = silenceUsual
)

var Pause = pause

// ParseTarget returns what gRPC gets, and whether every address is on this machine.
func ParseTarget(text string) (dials string, loopback bool, err error) {
	dials, _, loopback, err = parseTarget(text)
	return dials, loopback, err
}

// ReadError reads an error of a call of the generated code.
func ReadError(err error) *Error { return readError(context.Background(), err) }

// WithLimits replaces the number of calls in a row without a result, and the longest silence.
func WithLimits(attempts int, silence time.Duration) Option {
	return func(s *settings) { s.attempts, s.silence = attempts, silence }
}
