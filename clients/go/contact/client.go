// Package contact calls a hypersender-grpc server, the gRPC front door to WhatsApp contacts.
//
// A [Client] looks up the profile pictures of one contact, of a batch, or of any number in a stream that
// resumes when it breaks. It balances over all replicas of the target, obeys their health, repeats calls as
// the server asks for, and sets deadlines. Every error is an [*Error].
//
// The generated code is public, in package contactv1 beside this one. [Client.Service] gives it out with the
// token of the client, [Client.Conn] the connection without.
//
// The wire contract, hypersender.contact.v1, only grows: an older package works with a newer server. Within
// version 0 of the module, options and fields are added; the notes of a version name what else changes.
package contact

import (
	"cmp"
	"context"
	_ "embed"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/health" // makes healthCheckConfig work
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Version is that of the package.
const Version = "0.1.0"

// The times of calls whose context has no deadline.
const (
	singleTime = 5 * time.Second
	batchTime  = 30 * time.Second
)

//go:embed service_config.json
var serviceConfig string

// Client calls a server. Make one and share it: it is safe for concurrent use. Its connections are made by
// the first call.
type Client struct {
	connection *grpc.ClientConn
	settings   settings
	// Tokens are sent over TLS only.
	secure bool
	// Ends with Close.
	life  context.Context
	close func() error
}

// Dial returns a client for a target: host:port, or a name of gRPC such as dns:///host:port,
// ipv4:10.0.0.1:50051,10.0.0.2:50051 or unix:/run/contacts.sock. It makes no call and does not wait.
//
// TLS is on unless every address is on this machine; see WithTLS and WithPlaintext. An error is an *Error
// with INVALID_ARGUMENT.
func Dial(target string, options ...Option) (*Client, error) {
	parsed, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	if parsed.scheme == "xds" && resolver.Get("xds") == nil {
		return nil, refused("target", `the scheme of the target needs: import _ "google.golang.org/grpc/xds"`)
	}
	c := &Client{settings: settings{call: call{attempts: attemptsUsual, silence: silenceUsual}}}
	WithTLS(nil).client(&c.settings)
	if parsed.loopback {
		WithPlaintext().client(&c.settings)
	}
	for _, option := range options {
		if option != nil {
			option.client(&c.settings)
		}
	}
	c.secure = !parsed.loopback && !c.settings.plaintextToken
	if err := c.check(&c.settings.call); err != nil {
		return nil, err
	}
	if c.connection, err = grpc.NewClient(parsed.dials, c.settings.allDialOptions(parsed)...); err != nil {
		return nil, &Error{Code: codes.InvalidArgument, Message: "gRPC refuses the target or a dial option", cause: err}
	}
	life, end := context.WithCancel(context.Background())
	c.life, c.close = life, sync.OnceValue(func() error {
		end()
		return c.connection.Close()
	})
	return c, nil
}

// allDialOptions are those of the package, followed by those of the program.
func (s *settings) allDialOptions(parsed target) []grpc.DialOption {
	agent := "hypersender-contact-go/" + Version
	if s.userAgent != "" {
		agent += " " + s.userAgent
	}
	// A call during the pause between two connections fails, even when the server is up again: the pauses must
	// be shorter than those of a stream that is resumed.
	pauses := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(s.transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithUserAgent(agent),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: 20 * time.Second}),
		// A connection that a firewall or a NAT has forgotten is closed after 40 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if parsed.scheme == "dns" {
		// Else gRPC asks for a TXT record, too, whose service config would replace the one above.
		options = append(options, grpc.WithDisableServiceConfig())
	}
	if parsed.addresses != nil {
		options = append(options, grpc.WithResolvers(parsed.resolver()))
	}
	return append(options, s.dialOptions...)
}

// Close ends all calls and frees the connections. Closing again does nothing.
func (c *Client) Close() error { return c.close() }

// Conn returns the connection, for other services of the server such as reflection. Its calls carry neither
// token nor deadline. It belongs to the client: do not close it.
func (c *Client) Conn() *grpc.ClientConn { return c.connection }

// Service returns the generated client. Its calls carry the token of the client, but no deadline and no
// default instance. FromError reads their errors.
func (c *Client) Service() contactv1.ContactServiceClient { return c.service(&c.settings.call) }

func (c *Client) service(of *call) contactv1.ContactServiceClient {
	return contactv1.NewContactServiceClient(authorized{c.connection, bearer{of.token, c.secure}})
}

// check refuses options, and a token that would cross the network in plain text.
func (c *Client) check(of *call) error {
	exposed := of.token != nil && c.secure && !c.settings.transport.isTLS()
	of.refuse(exposed, "token", "the token would be sent in plain text: use WithTLS, or allow it with WithPlaintextToken")
	return of.err
}

// settle applies the options of a call to the defaults of the client, and refuses text that protobuf cannot
// send, of which gRPC would say INTERNAL.
func settle[O StreamOption](c *Client, options []O, chatIDs []string) (*call, error) {
	with := c.settings.call
	for _, option := range options {
		if any(option) != nil {
			option.call(&with)
		}
	}
	with.known = with.knownOf(chatIDs)
	for index, chatID := range chatIDs {
		field := "chat_ids[" + strconv.Itoa(index) + "]"
		with.refuse(!utf8.ValidString(chatID), field, field+" is not valid UTF-8")
		with.refuse(!utf8.ValidString(with.known[chatID]), "known_fingerprints", "the fingerprint of "+field+" is not valid UTF-8")
	}
	return &with, c.check(&with)
}

// knownOf returns the known fingerprints of these chat ids.
func (c *call) knownOf(chatIDs []string) map[string]string {
	known := map[string]string{}
	for _, chatID := range chatIDs {
		if fingerprint := c.known[chatID]; fingerprint != "" {
			known[chatID] = fingerprint
		}
	}
	return known
}

// limited returns a context with a deadline.
func (c *Client) limited(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, cmp.Or(c.settings.timeout, usual))
}

// GetProfilePicture looks up one contact: a phone number in digits, or a chat id such as
// 15551234567@c.us. It returns false for a contact without a picture that the instance can see; the picture
// then has neither URL nor Fingerprint. Without a deadline of the context it takes at most 5 s.
func (c *Client) GetProfilePicture(ctx context.Context, chatID string, options ...CallOption) (Picture, bool, error) {
	with, err := settle(c, options, nil)
	if err != nil {
		return Picture{}, false, err
	}
	if !utf8.ValidString(chatID) {
		return Picture{}, false, refused("chat_id", "chat_id is not valid UTF-8")
	}
	ctx, cancel := c.limited(ctx, singleTime)
	defer cancel()
	request := &contactv1.GetProfilePictureRequest{Instance: with.instance, ChatId: chatID, CacheControl: with.cache}
	response, err := c.service(with).GetProfilePicture(ctx, request)
	if err != nil {
		return Picture{}, false, newError(ctx, err)
	}
	return newPicture(response.GetProfilePicture(), response.GetCacheInfo())
}

// BatchGetProfilePictures looks up 1 to 100 contacts in one call, and returns a result for each, in the order
// of chatIDs. Errors of contacts are in their results. Without a deadline of the context it takes at most
// 30 s.
func (c *Client) BatchGetProfilePictures(ctx context.Context, chatIDs []string, options ...BatchOption) ([]Result, error) {
	with, err := settle(c, options, chatIDs)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.limited(ctx, batchTime)
	defer cancel()
	response, err := c.service(with).BatchGetProfilePictures(ctx, &contactv1.BatchGetProfilePicturesRequest{
		Instance: with.instance, ChatIds: chatIDs, CacheControl: with.cache, KnownFingerprints: with.known,
	})
	if err != nil {
		return nil, newError(ctx, err)
	}
	if len(response.GetResults()) != len(chatIDs) {
		return nil, outdated()
	}
	results := make([]Result, len(chatIDs))
	for index, result := range response.GetResults() {
		results[index] = newResult(index, chatIDs[index], result)
	}
	return results, nil
}
