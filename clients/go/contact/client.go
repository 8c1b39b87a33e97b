// Package contact calls a hypersender-grpc server, the gRPC front door to WhatsApp contacts.
//
// A [Client] looks up the profile pictures of one contact, of a batch, or of any number in a stream that
// resumes when it breaks. It balances over all replicas of the target, obeys their health, repeats calls as
// the server asks for, and sets deadlines. Every error is an [*Error].
//
// The generated code is public, in package contactv1 beside this one. [Client.Service] gives it out, and
// [Client.Conn] the connection, both with the token of the client.
//
// The wire contract, hypersender.contact.v1, only grows: an older package works with a newer server. Within
// version 0 of the module, options and fields are added; the notes of a version name what else changes.
package contact

import (
	"cmp"
	"context"
	_ "embed"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/health" // makes healthCheckConfig work
	"google.golang.org/grpc/keepalive"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Version is the version of this package.
const Version = "0.1.0"

const userAgent = "hypersender-contact-go/" + Version

//go:embed service_config.json
var serviceConfig string

// Client calls a server. Make one and share it: it is safe for concurrent use. Its connections are made by
// the first call.
type Client struct {
	connection *grpc.ClientConn
	settings   *settings
	// The context that Close ends, for streams that wait between two calls.
	life context.Context
	end  context.CancelFunc
}

// Dial returns a client for a target: host:port, or a name of gRPC such as dns:///host:port,
// ipv4:10.0.0.1:50051,10.0.0.2:50051 or unix:/run/contacts.sock. It makes no call and does not wait.
//
// TLS is on unless every address is on this machine; see WithTLS and WithPlaintext. An error is an *Error
// with INVALID_ARGUMENT.
func Dial(target string, opts ...Option) (*Client, error) {
	dials, option, loopback, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	usual := settings{attempts: attemptsUsual, silence: silenceUsual, bearer: bearer{secure: !loopback}}
	WithTLS(nil)(&usual)
	if loopback {
		WithPlaintext()(&usual)
		// A proxy of the environment would get the token, and cannot reach this machine.
		usual.dialOptions = []grpc.DialOption{grpc.WithNoProxy()}
	}
	settings, err := usual.with(opts, "")
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(dials, append(settings.connect(option), settings.dialOptions...)...)
	if err != nil {
		return nil, &Error{Code: codes.InvalidArgument, Message: "gRPC refuses the target or a dial option", cause: err}
	}
	settings.dialled, settings.dialOptions = true, nil
	life, end := context.WithCancel(context.Background())
	return &Client{connection, settings, life, end}, nil
}

// connect returns the dial options of the package, with that of the target.
func (s *settings) connect(target grpc.DialOption) []grpc.DialOption {
	// A call during the pause between two connections fails, even when the server is up again: the pauses
	// must be shorter than those of a stream that is resumed.
	pauses := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	return []grpc.DialOption{
		target,
		grpc.WithTransportCredentials(s.transport),
		grpc.WithDefaultCallOptions(grpc.PerRPCCredentials(s.bearer)),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithUserAgent(userAgent),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: 20 * time.Second}),
		// A connection that a firewall or a NAT has forgotten is closed after 40 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
}

// Close ends all calls and frees the connections. Closing again does nothing.
func (c *Client) Close() error {
	c.end()
	// It fails only when it is closed already.
	_ = c.connection.Close()
	return nil
}

// Conn returns the connection, for other services of the server such as reflection. Its calls carry the token
// of the client, but no deadline. It belongs to the client: do not close it.
func (c *Client) Conn() *grpc.ClientConn { return c.connection }

// Service returns the generated client. Its calls carry the token of the client, but no deadline and no
// default instance. IsReason and the functions beside it read their errors.
func (c *Client) Service() contactv1.ContactServiceClient {
	return contactv1.NewContactServiceClient(c.connection)
}

// limited returns a context with a deadline: that of ctx, else WithTimeout, else the usual time from now.
func (s *settings) limited(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, cmp.Or(s.timeout, usual))
}

// GetProfilePicture looks up one contact: a phone number in digits, or a chat id such as
// 15551234567@c.us. It returns false for a contact without a picture that the instance can see; the picture
// then has neither URL nor Fingerprint. Without a deadline of the context it takes at most 5 s.
func (c *Client) GetProfilePicture(ctx context.Context, chatID string, opts ...Option) (Picture, bool, error) {
	with, err := c.settings.with(opts, "chat_id", chatID)
	if err != nil {
		return Picture{}, false, err
	}
	ctx, cancel := with.limited(ctx, 5*time.Second)
	defer cancel()
	request := &contactv1.GetProfilePictureRequest{Instance: with.instance, ChatId: chatID, CacheControl: with.cache}
	response, err := c.Service().GetProfilePicture(ctx, request, grpc.PerRPCCredentials(with.bearer))
	if err != nil {
		return Picture{}, false, readError(ctx, err)
	}
	return newPicture(response.GetProfilePicture(), response.GetCacheInfo())
}

// BatchGetProfilePictures looks up 1 to 100 contacts in one call, and returns a result for each, in the order
// of chatIDs. Errors of contacts are in their results. Without a deadline of the context it takes at most
// 30 s.
func (c *Client) BatchGetProfilePictures(ctx context.Context, chatIDs []string, opts ...Option) ([]Result, error) {
	with, err := c.settings.with(opts, "chat_ids[#]", chatIDs...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := with.limited(ctx, 30*time.Second)
	defer cancel()
	request := &contactv1.BatchGetProfilePicturesRequest{
		Instance: with.instance, ChatIds: chatIDs, CacheControl: with.cache, KnownFingerprints: with.knownOf(chatIDs),
	}
	response, err := c.Service().BatchGetProfilePictures(ctx, request, grpc.PerRPCCredentials(with.bearer))
	if err != nil {
		return nil, readError(ctx, err)
	}
	if len(response.GetResults()) != len(chatIDs) {
		return nil, outdated
	}
	results := make([]Result, len(chatIDs))
	for index, result := range response.GetResults() {
		results[index] = newResult(index, chatIDs[index], result)
	}
	return results, nil
}
