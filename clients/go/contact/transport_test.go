package contact_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

// certificate writes a certificate for this machine, and returns what a client trusts.
func certificate(t *testing.T) (flags []string, config *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	paths := []string{filepath.Join(directory, "cert.pem"), filepath.Join(directory, "key.pem")}
	err = errors.Join(os.WriteFile(paths[0], chain, 0o600),
		os.WriteFile(paths[1], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	return []string{"--tls-cert", paths[0], "--tls-key", paths[1]}, &tls.Config{RootCAs: roots}
}

// callers is the flag of a callers file with one token.
func callers(t *testing.T, token string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "callers.toml")
	text := fmt.Sprintf("[callers.test]\ntoken_sha256 = \"%x\"\ninstances = [\"*\"]\n", sha256.Sum256([]byte(token)))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--callers-file", path}
}

func one(t *testing.T, client *contact.Client, options ...contact.Option) error {
	t.Helper()
	_, _, err := client.GetProfilePicture(servicetest.Deadline(t), "15551230001", options...)
	return err
}

func TestTLSAndTokensOfTheService(t *testing.T) {
	flags, config := certificate(t)
	address := servicetest.StartSandbox(t, append(flags, callers(t, "a-secret-token")...)...)
	client := dial(t, address, contact.WithTLS(config), contact.WithToken(" a-secret-token\r\n"))
	if err := one(t, client); err != nil {
		t.Error(err)
	}
	list := dial(t, "ipv4:127.0.0.1:1,"+address, contact.WithTLS(config))
	if err := one(t, list, contact.WithTokenFunc(func(context.Context) (string, error) { return "a-secret-token\n", nil })); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another token": one(t, client, contact.WithToken("another-secret")),
		"no token":      one(t, list),
		"nil function":  one(t, client, contact.WithTokenFunc(nil)),
	} {
		if !contact.IsCallerUnknown(err) || status.Code(err) != codes.Unauthenticated || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The server also refuses to answer a client that trusts other authorities.
	err := one(t, dial(t, address, contact.WithTLS(nil)))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
}

func TestTheOtherTransportIsNamed(t *testing.T) {
	flags, config := certificate(t)
	for _, row := range []struct {
		name, address, want string
		options             []contact.Option
	}{
		{"TLS to plain text", target, "the server does not speak TLS: to call it in plain text, use WithPlaintext",
			[]contact.Option{contact.WithTLS(config)}},
		{"TLS to grpc-go", startFake(t, &fake{}).address, "the server does not speak TLS: to call it in plain text, use WithPlaintext",
			[]contact.Option{contact.WithTLS(config)}},
		{"plain text to TLS", servicetest.StartSandbox(t, flags...), "the server speaks TLS: use WithTLS", nil},
	} {
		for _, call := range []func(*contact.Client) error{
			func(client *contact.Client) error { return one(t, client) },
			func(client *contact.Client) (err error) {
				broken := 0
				count := contact.OnBroken(func(error, time.Duration) { broken++ })
				for _, err = range client.StreamProfilePictures(t.Context(), []string{"1"}, count) {
				}
				if broken != 2 {
					t.Errorf("%s: the stream gave up after %d calls", row.name, broken+1)
				}
				return err
			},
		} {
			err := call(dial(t, row.address, row.options...))
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: %v", row.name, err)
			}
		}
	}
}

func TestATokenIsNotSentInPlainText(t *testing.T) {
	// No call may arrive here.
	server := startFake(t, &fake{})
	_, port, _ := net.SplitHostPort(server.address)
	elsewhere := "contacts.internal:" + port
	here := contact.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.address)
	}), grpc.WithDisableServiceConfig())
	fixed := "ipv4:192.0.2.1:" + port
	token := contact.WithToken("a-secret-token")
	_, dialled := contact.Dial(elsewhere, token, contact.WithPlaintext())
	_, function := contact.Dial(elsewhere, contact.WithTokenFunc(func(context.Context) (string, error) { return "x", nil }), contact.WithPlaintext())
	_, list := contact.Dial("ipv4:127.0.0.1:50051,192.0.2.1:50051", token, contact.WithPlaintext())
	plain := dial(t, fixed, contact.WithPlaintext(), here)
	single := one(t, plain, token)
	_, batch := plain.BatchGetProfilePictures(t.Context(), []string{"1"}, token)
	var stream error
	for _, stream = range plain.StreamProfilePictures(t.Context(), []string{"1"}, token) {
	}
	for name, err := range map[string]error{
		"dialled": dialled, "function": function, "list": list, "single": single, "batch": batch, "stream": stream,
	} {
		read := errorOf(t, err)
		if read.Code != codes.InvalidArgument || read.Field != "token" || !strings.Contains(read.Message, "WithPlaintextToken") ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Dial options took TLS away. The package cannot know it before the call.
	stripped := dial(t, fixed, token, here, contact.WithDialOptions(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err := one(t, stripped); status.Code(err) != codes.Unauthenticated || strings.Contains(err.Error(), "secret") {
		t.Errorf("stripped: %v", err)
	}
	if calls := server.calls(); len(calls) != 0 {
		t.Errorf("the server got %v", calls)
	}
	if err := one(t, dial(t, fixed, contact.WithPlaintext(), contact.WithPlaintextToken(), token, here)); err != nil {
		t.Error(err)
	}
	if err := one(t, plain); err != nil {
		t.Errorf("without a token: %v", err)
	}
	if calls := server.calls(); len(calls) != 2 || fmt.Sprint(calls[0].Get("authorization")) != "[Bearer a-secret-token]" ||
		len(calls[1].Get("authorization")) != 0 {
		t.Errorf("the server got %v", calls)
	}
}

func TestBadTokens(t *testing.T) {
	server := startStreams(t, results(1, nil))
	for _, token := range []string{"", " \n", "secret token", "secret\x00", "s\u00e9cret", "secret\nx"} {
		_, err := contact.Dial(server.address, contact.WithToken(token))
		if read := errorOf(t, err); read.Code != codes.InvalidArgument || read.Field != "token" || strings.Contains(err.Error(), "cret") {
			t.Errorf("%q: %v", token, err)
		}
		client := dial(t, server.address, contact.WithTokenFunc(func(context.Context) (string, error) { return token, nil }))
		err = one(t, client)
		if read := errorOf(t, err); read.Code != codes.Unauthenticated || read.Field != "token" || strings.Contains(err.Error(), "cret") {
			t.Errorf("%q of a function: %v", token, err)
		}
	}
	broken := errors.New("the vault is closed: secret")
	client := dial(t, server.address, contact.WithTokenFunc(func(context.Context) (string, error) { return "", broken }))
	var stream error
	for _, stream = range client.StreamProfilePictures(t.Context(), []string{"1"}) {
	}
	for _, err := range []error{one(t, client), stream} {
		if !errors.Is(err, broken) || status.Code(err) != codes.Unauthenticated || strings.Contains(err.Error(), "secret") {
			t.Errorf("a token function that fails: %v", err)
		}
	}
	if calls := server.calls(); len(calls) != 0 {
		t.Errorf("the server got %v", calls)
	}
	slow := dial(t, server.address, contact.WithTimeout(200*time.Millisecond), contact.WithTokenFunc(func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}))
	_, _, err := slow.GetProfilePicture(t.Context(), "1")
	if !errors.Is(err, context.DeadlineExceeded) || status.Code(err) != codes.DeadlineExceeded || !contact.IsRetryable(err) {
		t.Errorf("a token function that takes too long: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	waits := dial(t, server.address, contact.WithTokenFunc(func(ctx context.Context) (string, error) {
		cancel()
		return "", ctx.Err()
	}))
	_, _, err = waits.GetProfilePicture(cancelled, "1")
	if !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled {
		t.Errorf("a call that is cancelled in the token function: %v", err)
	}
}

func TestTheTokenIsAskedForEachCall(t *testing.T) {
	again := fails(codes.Unavailable, "OVERLOADED", time.Millisecond)
	server := startStreams(t, results(1, again), results(1, nil))
	var asked atomic.Int32
	client := dial(t, server.address, contact.WithTokenFunc(func(context.Context) (string, error) {
		return fmt.Sprint("token-", asked.Add(1)), nil
	}))
	if err := one(t, client); err != nil {
		t.Fatal(err)
	}
	if answered, err := collect(t, client, servicetest.Numbers(2)); answered != 2 || err != nil {
		t.Fatalf("%d answered, %v", answered, err)
	}
	if _, err := client.Service().GetProfilePicture(t.Context(), &contactv1.GetProfilePictureRequest{}); err != nil {
		t.Error(err)
	}
	if err := one(t, client, contact.WithToken("another")); err != nil {
		t.Error(err)
	}
	var got []string
	for _, call := range server.calls() {
		got = append(got, call.Get("authorization")...)
	}
	if want := "[Bearer token-1 Bearer token-2 Bearer token-3 Bearer token-4 Bearer another]"; fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
}

func TestWhatThePeerSees(t *testing.T) {
	server := startFake(t, &fake{})
	first := dial(t, server.address)
	named := dial(t, server.address, contact.WithUserAgent("shop/1.4"))
	list := dial(t, "ipv4:"+server.address+",127.0.0.1:1")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "7")
	for _, client := range []*contact.Client{first, named, list} {
		if _, _, err := client.GetProfilePicture(ctx, "1"); err != nil {
			t.Fatal(err)
		}
	}
	calls := server.calls()
	for index, want := range []string{
		"hypersender-contact-go/0.1.0 grpc-go/", "hypersender-contact-go/0.1.0 shop/1.4 grpc-go/", "hypersender-contact-go/0.1.0 grpc-go/",
	} {
		agent := calls[index].Get("user-agent")
		if len(agent) != 1 || !strings.HasPrefix(agent[0], want) || len(calls[index].Get("authorization")) != 0 ||
			fmt.Sprint(calls[index].Get("x-request-id"), calls[index].Get(":authority")) != "[7] ["+server.address+"]" {
			t.Errorf("the peer sees %v", calls[index])
		}
	}
}
