package contact

import (
	"context"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TokenFunc returns a bearer token. It must obey the context, and be safe for concurrent use.
type TokenFunc func(context.Context) (string, error)

var visible = regexp.MustCompile(`^[!-~]+$`)

func isToken(text string) bool { return visible.MatchString(strings.TrimSpace(text)) }

// bearer gives gRPC the token of a call. gRPC asks it for each attempt. As an option of calls it is not asked
// for health checks, which must not fail because of it.
type bearer struct {
	// nil: no token.
	token TokenFunc
	// The token is sent over TLS only. gRPC obeys it also when dial options changed the connection.
	secure bool
}

func (b bearer) RequireTransportSecurity() bool { return b.secure && b.token != nil }

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if b.token == nil {
		return nil, nil
	}
	token, err := b.token(ctx)
	if err != nil && ctx.Err() != nil {
		// The time of the function is that of the call.
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err != nil || !isToken(token) {
		return nil, &Error{Code: codes.Unauthenticated, Field: "token", Message: "there is no valid token", cause: err}
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(token)}, nil
}
