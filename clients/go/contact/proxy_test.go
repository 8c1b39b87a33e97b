package contact_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
)

// Go itself asks no proxy for localhost, but one for localhost with a dot. It reads the environment once, so
// that the call is in a process of its own.
func TestThisMachineIsNotBehindAProxy(t *testing.T) {
	if os.Getenv("CONTACT_TEST_CALL") != "" {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, _, err := dial(t, "localhost.:1", contact.WithToken("secret")).GetProfilePicture(ctx, "1")
		t.Log(err)
		return
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	asked := make(chan struct{})
	go func() {
		if connection, err := proxy.Accept(); err == nil {
			connection.Close()
			close(asked)
		}
	}()
	call := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
	call.Env = append(os.Environ(), "CONTACT_TEST_CALL=1", "NO_PROXY=", "HTTPS_PROXY=http://"+proxy.Addr().String())
	output, err := call.CombinedOutput()
	select {
	case <-asked:
		t.Errorf("the proxy was asked: %s", output)
	default:
		if err != nil {
			t.Errorf("%v: %s", err, output)
		}
	}
}
