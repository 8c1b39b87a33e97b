// Package servicetest runs the built server, its stand-in for the REST API, and faulty networks, for the
// tests of this module and of the examples.
package servicetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Patience is far above what a start, a call or a stop takes, so that only a server that hangs reaches it.
const Patience = 30 * time.Second

const anyPort = "127.0.0.1:0"

// Deadline returns a context that ends after Patience.
func Deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Numbers are made up. The sandbox has a picture of each.
func Numbers(count int) []string {
	var chatIDs []string
	for index := range count {
		chatIDs = append(chatIDs, fmt.Sprint(15552000000+index))
	}
	return chatIDs
}

// binary returns the path of the built server.
func binary() (string, error) {
	path := os.Getenv("HYPERSENDER_GRPC_BIN")
	if _, err := os.Stat(path); err != nil || !filepath.IsAbs(path) {
		return "", fmt.Errorf("HYPERSENDER_GRPC_BIN must be the absolute path of the built server, is %q; `make test-go` sets it", path)
	}
	return path, nil
}

// Server is a server that keeps its address over restarts.
type Server struct {
	Address string
	// An empty environment, not nil: the settings of whoever runs the test must not reach the server.
	environment []string
	flags       []string
	directory   string
	process     *exec.Cmd
	ended       chan struct{}
	killed      bool
}

// NewServer starts a server. StartServer is for tests, and stops it.
func NewServer(directory string, environment []string, flags ...string) (*Server, error) {
	s := &Server{Address: anyPort, environment: append([]string{}, environment...), flags: flags, directory: directory}
	return s, s.Start()
}

// StartServer starts a server that is stopped after the test, whose log the test shows when it fails.
func StartServer(t testing.TB, environment []string, flags ...string) *Server {
	s, err := NewServer(t.TempDir(), environment, flags...)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.log())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// StartSandbox starts a server in front of its own sandbox, and returns its address.
func StartSandbox(t testing.TB, flags ...string) string {
	return StartServer(t, nil, append(flags, "--sandbox")...).Address
}

func (s *Server) log() []byte {
	lines, _ := os.ReadFile(filepath.Join(s.directory, "log"))
	return lines
}

// Start starts a server that was stopped or killed.
func (s *Server) Start() error {
	program, err := binary()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.directory, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.process = exec.Command(program, append([]string{"serve", "--listen", s.Address,
		"--admin-listen", "off", "--log-format", "json"}, s.flags...)...)
	s.process.Env, s.process.Stderr = s.environment, log
	if err := s.process.Start(); err != nil {
		return err
	}
	process, ended := s.process, make(chan struct{})
	s.ended, s.killed = ended, false
	go func() {
		process.Wait()
		close(ended)
	}()
	timeout := time.After(Patience)
	for {
		for line := range bytes.Lines(s.log()) {
			var entry struct{ Message, Address string }
			if json.Unmarshal(line, &entry) == nil && entry.Message == "listening" {
				s.Address = entry.Address
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("the server ended before it listened:\n%s", s.log())
		case <-timeout:
			return errors.New("the server does not say that it listens")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the server like a crash.
func (s *Server) Kill() {
	s.killed = true
	s.process.Process.Kill()
	<-s.ended
}

// Stop ends the server in the orderly way.
func (s *Server) Stop() error {
	if s.ended == nil {
		return nil
	}
	s.process.Process.Signal(os.Interrupt)
	select {
	case <-s.ended:
	case <-time.After(Patience):
		s.Kill()
		return errors.New("the server does not stop")
	}
	if code := s.process.ProcessState.ExitCode(); code != 0 && !s.killed {
		return fmt.Errorf("the server ended with exit code %d", code)
	}
	return nil
}
