package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Far above what a start, a call or a stop takes, so that only a server that hangs reaches it.
const patience = 30 * time.Second

const anyPort = "127.0.0.1:0"

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, address string) contactv1.ContactServiceClient {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return contactv1.NewContactServiceClient(connection)
}

// Holds the programs of the examples for all tests.
var programs string

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "examples")
	if err != nil {
		panic(err)
	}
	programs = directory
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

// example returns the path of an example's program, which it builds for the first test that needs it.
func example(t *testing.T, name string) string {
	program := filepath.Join(programs, name)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if output, err := exec.Command("go", "build", "-o", program, "./examples/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// numbers are made up. The sandbox has a picture of each.
func numbers(count int) []string {
	var chatIDs []string
	for index := range count {
		chatIDs = append(chatIDs, fmt.Sprint(15552000000+index))
	}
	return chatIDs
}

func binary(t *testing.T) string {
	binary := os.Getenv("HYPERSENDER_GRPC_BIN")
	if _, err := os.Stat(binary); err != nil || !filepath.IsAbs(binary) {
		t.Fatalf("HYPERSENDER_GRPC_BIN must be the absolute path of the built server, is %q; `make test-go` sets it", binary)
	}
	return binary
}

// startSandbox starts the server in front of its own sandbox, and returns its address.
func startSandbox(t *testing.T, flags ...string) string {
	return startServer(t, []string{}, append(flags, "--sandbox")...).address
}

// server is a server that is stopped after the test. It keeps its address over restarts.
type server struct {
	t       *testing.T
	address string
	// An empty environment, not nil: the settings of whoever runs the test must not reach the server.
	environment []string
	flags       []string
	process     *exec.Cmd
	ended       chan struct{}
	killed      bool
}

func startServer(t *testing.T, environment []string, flags ...string) *server {
	s := &server{t: t, address: anyPort, environment: environment, flags: flags}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	path := filepath.Join(s.t.TempDir(), "log")
	log, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.process = exec.Command(binary(s.t), append([]string{"serve", "--listen", s.address,
		"--admin-listen", "off", "--log-format", "json"}, s.flags...)...)
	s.process.Env, s.process.Stderr = s.environment, log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	process, ended := s.process, make(chan struct{})
	s.ended, s.killed = ended, false
	go func() {
		process.Wait()
		close(ended)
	}()
	s.t.Cleanup(func() {
		if s.t.Failed() {
			lines, _ := os.ReadFile(path)
			s.t.Logf("log of the server:\n%s", lines)
		}
	})
	timeout := time.After(patience)
	for {
		lines, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range bytes.Lines(lines) {
			var entry struct{ Message, Address string }
			if json.Unmarshal(line, &entry) == nil && entry.Message == "listening" {
				s.address = entry.Address
				return
			}
		}
		select {
		case <-ended:
			s.t.Fatal("the server ended before it listened")
		case <-timeout:
			s.t.Fatal("the server does not say that it listens")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the server like a crash.
func (s *server) kill() {
	s.killed = true
	s.process.Process.Kill()
	<-s.ended
}

func (s *server) stop() {
	s.process.Process.Signal(os.Interrupt)
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Error("the server does not stop")
		s.kill()
	}
	if code := s.process.ProcessState.ExitCode(); code != 0 && !s.killed {
		s.t.Errorf("the server ended with exit code %d", code)
	}
}

// sandbox is the stand-in for the REST API as a process of its own, which outlives restarts of the server.
type sandbox struct {
	t    *testing.T
	root string
	// The settings of a server that asks this sandbox.
	settings []string
}

func startRestAPI(t *testing.T) *sandbox {
	process := exec.Command(binary(t), "sandbox", "--listen", anyPort)
	process.Env = []string{}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	s := &sandbox{t: t}
	var greeting strings.Builder
	for len(s.settings) < 3 {
		piece := make([]byte, 4096)
		read, err := output.Read(piece)
		if err != nil {
			t.Fatalf("the sandbox ended: %v", err)
		}
		greeting.Write(piece[:read])
		s.settings = nil
		for line := range strings.Lines(greeting.String()) {
			if strings.HasPrefix(line, "HYPERSENDER_") && strings.HasSuffix(line, "\n") {
				s.settings = append(s.settings, strings.TrimSpace(line))
			}
		}
	}
	go io.Copy(io.Discard, output)
	for _, setting := range s.settings {
		if url, found := strings.CutPrefix(setting, "HYPERSENDER_WHATSAPP_BASE_URL="); found {
			s.root = strings.TrimSuffix(url, "/api/whatsapp/v2")
		}
	}
	return s
}

// order calls the control of the sandbox; see `hypersender-grpc sandbox --help`.
func (s *sandbox) order(method, path string, body any) []byte {
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(deadline(s.t), method, s.root+"/_sandbox/"+path, bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %v %s %v", method, path, response.Status, answer, err)
	}
	return answer
}

// asked returns the number of look-ups since the start.
func (s *sandbox) asked() (total int) {
	var calls struct {
		ByChatID map[string]int `json:"by_chat_id"`
	}
	if err := json.Unmarshal(s.order("GET", "calls", nil), &calls); err != nil {
		s.t.Fatal(err)
	}
	for _, calls := range calls.ByChatID {
		total += calls
	}
	return total
}

// relay forwards connections to a server. Each of its steps is taken once, when a connection has carried so
// many bytes from the server; later connections take the later steps.
type relay struct {
	address string
	lock    sync.Mutex
	steps   []step
}

type step struct {
	bytes int64
	// Called with a function that cuts the connection.
	act func(cut func())
}

func startRelay(t *testing.T, target string, steps ...step) *relay {
	listener, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r := &relay{address: listener.Addr().String(), steps: steps}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go r.carry(client, target)
		}
	}()
	return r
}

func (r *relay) carry(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(server, client)
		server.Close()
	}()
	if step, found := r.next(); found {
		if _, err := io.CopyN(client, server, step.bytes); err != nil {
			return
		}
		r.taken()
		step.act(func() {
			// Without a FIN: the peer sees a reset, as from a router that has lost the connection.
			client.(*net.TCPConn).SetLinger(0)
			client.Close()
			server.Close()
		})
	}
	io.Copy(client, server)
}

func (r *relay) next() (step, bool) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if len(r.steps) == 0 {
		return step{}, false
	}
	return r.steps[0], true
}

func (r *relay) taken() {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.steps = r.steps[1:]
}

// left returns the number of steps that were not taken.
func (r *relay) left() int {
	r.lock.Lock()
	defer r.lock.Unlock()
	return len(r.steps)
}
