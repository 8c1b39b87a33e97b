package contact

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// TokenFunc returns a bearer token. It must obey the context, and be safe for concurrent use.
type TokenFunc func(context.Context) (string, error)

var visible = regexp.MustCompile(`^[!-~]+$`)

// cleanToken removes white space around a token. The error does not show it.
func cleanToken(token string) (string, error) {
	token = strings.TrimSpace(token)
	if !visible.MatchString(token) {
		return "", refused("token", "the token is empty or has other characters than visible ASCII")
	}
	return token, nil
}

// authorized is a connection whose calls carry a token.
type authorized struct {
	*grpc.ClientConn
	bearer bearer
}

func (a authorized) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	return a.ClientConn.Invoke(ctx, method, args, reply, a.bearer.with(options)...)
}

func (a authorized) NewStream(
	ctx context.Context, about *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return a.ClientConn.NewStream(ctx, about, method, a.bearer.with(options)...)
}

// bearer gives gRPC the token of a call, which may be nil. gRPC asks it for each attempt.
type bearer struct {
	token TokenFunc
	// The token is sent over TLS only. gRPC obeys it also when dial options changed the connection.
	secure bool
}

func (b bearer) with(options []grpc.CallOption) []grpc.CallOption {
	if b.token == nil {
		return options
	}
	return append(slices.Clip(options), grpc.PerRPCCredentials(b))
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.token(ctx)
	if err == nil {
		token, err = cleanToken(token)
	}
	if err != nil {
		return nil, &Error{Code: codes.Unauthenticated, Field: "token", Message: "there is no valid token", cause: err}
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}
