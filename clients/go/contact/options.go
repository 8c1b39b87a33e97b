package contact

import (
	"cmp"
	"context"
	"crypto/tls"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Option is an option of Dial and of calls. Those of Dial are the defaults of all calls. An option that says
// that it is one of Dial is refused by calls. An option for batches or streams does nothing in other calls.
type Option func(*settings)

// settings are those of a client or of one call.
type settings struct {
	// The error of the first option that is refused.
	err error
	// Set when the client is open: options of Dial are then refused.
	dialled     bool
	instance    string
	bearer      bearer
	cache       *contactv1.CacheControl
	known       map[string]string
	onProgress  func(Progress)
	onBroken    func(error, time.Duration)
	attempts    int
	silence     time.Duration
	transport   transport
	timeout     time.Duration
	dialOptions []grpc.DialOption
}

// with returns the settings after these options. It refuses a token that would cross the network in plain
// text, and text for these contacts that protobuf cannot send, of which gRPC would say INTERNAL. In the name
// of their field, # stands for the position.
func (s settings) with(options []Option, field string, chatIDs ...string) (*settings, error) {
	for _, option := range options {
		if option != nil {
			option(&s)
		}
	}
	exposed := s.bearer.RequireTransportSecurity() && s.transport.Info().SecurityProtocol != "tls"
	s.refuse(exposed, "token", "the token would be sent in plain text: use WithTLS, or allow it with WithPlaintextToken")
	for index, chatID := range chatIDs {
		field := strings.ReplaceAll(field, "#", strconv.Itoa(index))
		s.refuse(!utf8.ValidString(chatID), field, field+" is not valid UTF-8")
		s.refuse(!utf8.ValidString(s.known[chatID]), "known_fingerprints", "the fingerprint of "+field+" is not valid UTF-8")
	}
	return &s, s.err
}

func (s *settings) refuse(bad bool, field, message string) {
	if bad && s.err == nil {
		s.err = refused(field, message)
	}
}

// knownOf returns the known fingerprints of these contacts.
func (s *settings) knownOf(chatIDs []string) map[string]string {
	known := map[string]string{}
	for _, chatID := range chatIDs {
		if fingerprint := s.known[chatID]; fingerprint != "" {
			known[chatID] = fingerprint
		}
	}
	return known
}

// WithInstance sets the instance to ask, usually a UUID. Without it, the server uses its default instance.
func WithInstance(instance string) Option {
	return func(s *settings) {
		s.instance = instance
		s.refuse(!utf8.ValidString(instance), "instance", "instance is not valid UTF-8")
	}
}

// WithToken sets the bearer token of the caller. White space around it, such as the end of a line, is
// removed. Without TLS it is sent to this machine only; see WithPlaintextToken.
func WithToken(token string) Option {
	return func(s *settings) {
		s.bearer.token = func(context.Context) (string, error) { return token, nil }
		s.refuse(!isToken(token), "token", "the token is empty or has other characters than visible ASCII")
	}
}

// WithTokenFunc sets a function that returns the bearer token; nil: no token. It is called before each call,
// each retry, and each call that resumes a stream. Its time counts towards the deadline of the call.
func WithTokenFunc(token TokenFunc) Option {
	return func(s *settings) { s.bearer.token = token }
}

// dialOption is an option of Dial only.
func dialOption(name string, set Option) Option {
	return func(s *settings) {
		s.refuse(s.dialled, name, name+" is an option of Dial, not of a call")
		set(s)
	}
}

// WithTLS is an option of Dial. It turns TLS on, also for this machine. A nil config stands for the
// certificate authorities of the system.
func WithTLS(config *tls.Config) Option {
	return dialOption("WithTLS", func(s *settings) { s.transport = transport{credentials.NewTLS(config)} })
}

// WithPlaintext is an option of Dial. It turns TLS off, also for other machines.
func WithPlaintext() Option {
	return dialOption("WithPlaintext", func(s *settings) { s.transport = transport{insecure.NewCredentials()} })
}

// WithPlaintextToken is an option of Dial. It allows tokens to other machines without TLS, where everyone on
// the way can read them: for a network that encrypts itself.
func WithPlaintextToken() Option {
	return dialOption("WithPlaintextToken", func(s *settings) { s.bearer.secure = false })
}

// WithTimeout is an option of Dial. It sets the time of single calls and batches whose context has no
// deadline, in place of 5 s and 30 s, which 0 keeps. The server takes no longer than 30 s. Streams have no
// such limit.
func WithTimeout(timeout time.Duration) Option {
	return dialOption("WithTimeout", func(s *settings) { s.timeout = timeout })
}

// WithUserAgent is an option of Dial. It names the program, such as shop/1.4, in visible ASCII. The name
// follows that of the package in the user agent.
func WithUserAgent(name string) Option {
	return dialOption("WithUserAgent", WithDialOptions(grpc.WithUserAgent(userAgent+" "+name)))
}

// WithDialOptions is an option of Dial. It adds options of gRPC, such as interceptors or the stats handler of
// OpenTelemetry. They are stronger than those of the package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return dialOption("WithDialOptions", func(s *settings) { s.dialOptions = append(s.dialOptions, options...) })
}

func cacheOption(set func(*contactv1.CacheControl)) Option {
	return func(s *settings) {
		// A call must not change that of its client.
		s.cache = cmp.Or(proto.CloneOf(s.cache), &contactv1.CacheControl{})
		set(s.cache)
	}
}

// WithMaxAge asks Hypersender again when the stored answer is older. 0 asks it, except within the refresh
// floor of the server. After a failure an older answer is returned all the same, unless WithStaleIfError(0).
func WithMaxAge(age time.Duration) Option {
	return cacheOption(func(c *contactv1.CacheControl) { c.MaxAge = durationpb.New(age) })
}

// WithMinFresh asks Hypersender for a new link when the stored one expires earlier than this.
func WithMinFresh(fresh time.Duration) Option {
	return cacheOption(func(c *contactv1.CacheControl) { c.MinFresh = durationpb.New(fresh) })
}

// WithStaleIfError sets the longest time that an answer may be past its freshness. 0: no stale answer.
func WithStaleIfError(stale time.Duration) Option {
	return cacheOption(func(c *contactv1.CacheControl) { c.StaleIfError = durationpb.New(stale) })
}

// OnlyIfCached does not ask Hypersender: contacts that are not cached fail; see IsNotCached.
func OnlyIfCached() Option {
	return cacheOption(func(c *contactv1.CacheControl) { c.OnlyIfCached = true })
}

// WithKnownFingerprints is an option for batches and streams. It gives the fingerprints that the program has,
// by chat id exactly as in the call. Contacts whose picture still has its fingerprint are Unchanged. Other
// keys are not sent.
func WithKnownFingerprints(known map[string]string) Option {
	return func(s *settings) { s.known = known }
}

// OnProgress is an option for streams. The function is called with the state of the stream, between results:
// when there was none for 10 s, and at the end of each call.
func OnProgress(report func(Progress)) Option {
	return func(s *settings) { s.onProgress = report }
}

// OnBroken is an option for streams. The function is called when a call of the stream broke, with its *Error
// and the wait before the next call.
func OnBroken(report func(err error, wait time.Duration)) Option {
	return func(s *settings) { s.onBroken = report }
}
