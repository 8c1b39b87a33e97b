package servicetest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// RestAPI is the stand-in for the REST API as a process of its own, which outlives restarts of the server.
type RestAPI struct {
	t    testing.TB
	root string
	// Settings are those of a server that asks this sandbox.
	Settings []string
}

// StartRestAPI starts a sandbox that is ended after the test.
func StartRestAPI(t testing.TB) *RestAPI {
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command(program, "sandbox", "--listen", anyPort)
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
	s := &RestAPI{t: t}
	var greeting strings.Builder
	for len(s.Settings) < 3 {
		piece := make([]byte, 4096)
		read, err := output.Read(piece)
		if err != nil {
			t.Fatalf("the sandbox ended: %v", err)
		}
		greeting.Write(piece[:read])
		s.Settings = nil
		for line := range strings.Lines(greeting.String()) {
			if strings.HasPrefix(line, "HYPERSENDER_") && strings.HasSuffix(line, "\n") {
				s.Settings = append(s.Settings, strings.TrimSpace(line))
			}
		}
	}
	go io.Copy(io.Discard, output)
	for _, setting := range s.Settings {
		if url, found := strings.CutPrefix(setting, "HYPERSENDER_WHATSAPP_BASE_URL="); found {
			s.root = strings.TrimSuffix(url, "/api/whatsapp/v2")
		}
	}
	return s
}

// Order calls the control of the sandbox; see `hypersender-grpc sandbox --help`.
func (s *RestAPI) Order(method, path string, body any) []byte {
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(Deadline(s.t), method, s.root+"/_sandbox/"+path, bytes.NewReader(text))
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

// Asked returns the number of look-ups since the start.
func (s *RestAPI) Asked() (total int) {
	var calls struct {
		ByChatID map[string]int `json:"by_chat_id"`
	}
	if err := json.Unmarshal(s.Order("GET", "calls", nil), &calls); err != nil {
		s.t.Fatal(err)
	}
	for _, calls := range calls.ByChatID {
		total += calls
	}
	return total
}
