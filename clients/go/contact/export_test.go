package contact

import "time"

const (
	AttemptsUsual = attemptsUsual
	SilenceUsual  = silenceUsual
)

var Pause = pause

// ParseTarget returns what gRPC gets, and whether every address is on this machine.
func ParseTarget(text string) (dials string, loopback bool, err error) {
	parsed, err := parseTarget(text)
	return parsed.dials, parsed.loopback, err
}

// WithLimits replaces the number of calls in a row without a result, and the longest silence.
func WithLimits(attempts int, silence time.Duration) StreamOption {
	return streamOption(func(c *call) { c.attempts, c.silence = attempts, silence })
}
