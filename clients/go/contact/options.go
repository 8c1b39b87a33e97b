package contact

import (
	"context"
	"crypto/tls"
	"regexp"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Option is an option of Dial.
type Option interface{ client(*settings) }

// StreamOption is an option of StreamProfilePictures.
type StreamOption interface{ call(*call) }

// BatchOption is an option of BatchGetProfilePictures, and of streams.
type BatchOption interface {
	StreamOption
	batch()
}

// CallOption is an option of every call.
type CallOption interface {
	BatchOption
	single()
}

// SharedOption is an option of every call, and of Dial, where it sets the default of all calls.
type SharedOption interface {
	Option
	CallOption
}

// settings are those of a client, with the defaults of its calls.
type settings struct {
	call
	transport      transport
	plaintextToken bool
	timeout        time.Duration
	userAgent      string
	dialOptions    []grpc.DialOption
}

// call are the settings of one call. err is that of the first option that is refused.
type call struct {
	err        error
	instance   string
	token      TokenFunc
	cache      *contactv1.CacheControl
	known      map[string]string
	onProgress func(Progress)
	onBroken   func(error, time.Duration)
	attempts   int
	silence    time.Duration
}

func (c *call) refuse(bad bool, field, message string) {
	if bad && c.err == nil {
		c.err = refused(field, message)
	}
}

type (
	clientOption func(*settings)
	streamOption func(*call)
	batchOption  struct{ streamOption }
	callOption   struct{ batchOption }
)

func (o clientOption) client(s *settings) { o(s) }
func (o streamOption) call(c *call)       { o(c) }
func (batchOption) batch()                {}
func (callOption) single()                {}
func (o callOption) client(s *settings)   { o.streamOption(&s.call) }

// WithInstance sets the instance to ask, usually a UUID. Without it, the server uses its default instance.
func WithInstance(instance string) SharedOption {
	return callOption{batchOption{func(c *call) {
		c.instance = instance
		c.refuse(!utf8.ValidString(instance), "instance", "instance is not valid UTF-8")
	}}}
}

// WithToken sets the bearer token of the caller. White space around it, such as the end of a line, is
// removed. Without TLS it is sent to this machine only; see WithPlaintextToken.
func WithToken(token string) SharedOption {
	clean, err := cleanToken(token)
	return callOption{batchOption{func(c *call) {
		c.token = func(context.Context) (string, error) { return clean, nil }
		c.refuse(err != nil, "token", "the token is empty or has other characters than visible ASCII")
	}}}
}

// WithTokenFunc sets a function that returns the bearer token; nil: no token. It is asked before each call,
// each retry, and each call that resumes a stream. Its time is part of the call's.
func WithTokenFunc(token TokenFunc) SharedOption {
	return callOption{batchOption{func(c *call) { c.token = token }}}
}

// WithTLS turns TLS on, also for this machine. A nil config stands for the certificate authorities of the
// system.
func WithTLS(config *tls.Config) Option {
	return clientOption(func(s *settings) { s.transport = transport{credentials.NewTLS(config)} })
}

// WithPlaintext turns TLS off, also for other machines.
func WithPlaintext() Option {
	return clientOption(func(s *settings) { s.transport = transport{insecure.NewCredentials()} })
}

// WithPlaintextToken allows tokens to other machines without TLS, where everyone on the way can read them:
// for a network that encrypts itself.
func WithPlaintextToken() Option { return clientOption(func(s *settings) { s.plaintextToken = true }) }

// WithTimeout sets the time of single calls and batches whose context has no deadline, in place of 5 s and
// 30 s. It must be positive. The server takes no longer than 30 s. Streams have no such limit.
func WithTimeout(timeout time.Duration) Option {
	return clientOption(func(s *settings) {
		s.timeout = timeout
		s.refuse(timeout <= 0, "timeout", "the timeout is not positive")
	})
}

var printable = regexp.MustCompile(`^[ -~]*$`)

// WithUserAgent names the program, such as shop/1.4, in ASCII. It follows the name of the package in the user
// agent.
func WithUserAgent(name string) Option {
	return clientOption(func(s *settings) {
		s.userAgent = name
		s.refuse(!printable.MatchString(name), "user_agent", "the user agent is not printable ASCII")
	})
}

// WithDialOptions adds options of gRPC, such as interceptors or the stats handler of OpenTelemetry. They are
// stronger than those of the package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return clientOption(func(s *settings) { s.dialOptions = append(s.dialOptions, options...) })
}

func cacheOption(set func(*contactv1.CacheControl)) CallOption {
	return callOption{batchOption{func(c *call) {
		if c.cache == nil {
			c.cache = &contactv1.CacheControl{}
		}
		set(c.cache)
	}}}
}

// WithMaxAge asks Hypersender again when the stored answer is older. 0 asks it, except within the refresh
// floor of the server. After a failure an older answer is returned all the same, unless WithStaleIfError(0).
func WithMaxAge(age time.Duration) CallOption {
	return cacheOption(func(c *contactv1.CacheControl) { c.MaxAge = durationpb.New(age) })
}

// WithMinFresh asks Hypersender for a new link when the stored one expires earlier than this.
func WithMinFresh(fresh time.Duration) CallOption {
	return cacheOption(func(c *contactv1.CacheControl) { c.MinFresh = durationpb.New(fresh) })
}

// WithStaleIfError sets the longest time that an answer may be past its freshness. 0: no stale answer.
func WithStaleIfError(stale time.Duration) CallOption {
	return cacheOption(func(c *contactv1.CacheControl) { c.StaleIfError = durationpb.New(stale) })
}

// OnlyIfCached does not ask Hypersender: contacts that are not cached fail; see IsNotCached.
func OnlyIfCached() CallOption {
	return cacheOption(func(c *contactv1.CacheControl) { c.OnlyIfCached = true })
}

// WithKnownFingerprints gives the fingerprints that the program has, by chat id exactly as in the call.
// Contacts whose picture still has its fingerprint are Unchanged. Other keys are not sent.
func WithKnownFingerprints(known map[string]string) BatchOption {
	return batchOption{func(c *call) { c.known = known }}
}

// OnProgress is called with the state of the stream, between results: when there was none for 10 s, and at
// the end of each call.
func OnProgress(report func(Progress)) StreamOption {
	return streamOption(func(c *call) { c.onProgress = report })
}

// OnBroken is called when a call of the stream broke, with its *Error and the wait before the next call.
func OnBroken(report func(err error, wait time.Duration)) StreamOption {
	return streamOption(func(c *call) { c.onBroken = report })
}
