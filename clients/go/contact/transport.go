package contact

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"syscall"

	"google.golang.org/grpc/credentials"
)

// The error for a server that speaks TLS although the client does not.
var errTLS = errors.New("the server speaks TLS: use WithTLS")

// otherTransport finds that error, and the one of the handshake, in the text of a failed call.
var otherTransport = regexp.MustCompile("the server (speaks|does not speak) TLS: ")

// transport is TLS or plain text. Its errors say what to change when the server speaks the other one.
type transport struct {
	credentials.TransportCredentials
}

func (t transport) ClientHandshake(
	ctx context.Context, authority string, raw net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	connection, info, err := t.TransportCredentials.ClientHandshake(ctx, authority, raw)
	var record tls.RecordHeaderError
	if errors.As(err, &record) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = fmt.Errorf("the server does not speak TLS: to call it in plain text, use WithPlaintext (%w)", err)
	}
	return &suspicious{Conn: connection}, info, err
}

// suspicious looks at the first byte of a server.
type suspicious struct {
	net.Conn
	checked bool
}

func (s *suspicious) Read(buffer []byte) (int, error) {
	read, err := s.Conn.Read(buffer)
	// 21 begins an alert of TLS. HTTP/2 begins with the length of a settings frame, which never is that long.
	if read > 0 && !s.checked && buffer[0] == 21 {
		return 0, errTLS
	}
	s.checked = s.checked || read > 0
	return read, err
}
