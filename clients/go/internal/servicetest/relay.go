package servicetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Relay forwards connections to a server. Each of its steps is taken once, when a connection has carried so
// many bytes from the server; later connections take the later steps.
type Relay struct {
	Address string
	lock    sync.Mutex
	steps   []Step
	carried int
}

// Step is what happens to a connection.
type Step struct {
	// Bytes is the number of bytes from the server after which it happens.
	Bytes int64
	// Act is called with a function that cuts the connection.
	Act func(cut func())
}

// StartRelay forwards connections until the end of the test.
func StartRelay(t testing.TB, target string, steps ...Step) *Relay {
	listener, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r := &Relay{Address: listener.Addr().String(), steps: steps}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.lock.Lock()
			r.carried++
			r.lock.Unlock()
			go r.carry(client, target)
		}
	}()
	return r
}

func (r *Relay) carry(client net.Conn, target string) {
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
		if _, err := io.CopyN(client, server, step.Bytes); err != nil {
			return
		}
		r.taken()
		step.Act(func() {
			// Without a FIN: the peer sees a reset, as from a router that has lost the connection.
			client.(*net.TCPConn).SetLinger(0)
			client.Close()
			server.Close()
		})
	}
	io.Copy(client, server)
}

func (r *Relay) next() (Step, bool) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if len(r.steps) == 0 {
		return Step{}, false
	}
	return r.steps[0], true
}

func (r *Relay) taken() {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.steps = r.steps[1:]
}

// Left returns the number of steps that were not taken.
func (r *Relay) Left() int {
	r.lock.Lock()
	defer r.lock.Unlock()
	return len(r.steps)
}

// Connections returns the number of connections so far.
func (r *Relay) Connections() int {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.carried
}
