package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

// syncing is a directory with a CSV file, in which the example runs.
type syncing struct {
	t                  *testing.T
	program, directory string
	flags              []string
}

func newSyncing(t *testing.T, chatIDs []string, flags ...string) *syncing {
	s := &syncing{t, example(t, "sync_contacts"), t.TempDir(), flags}
	// The form that spreadsheets write, with a column before the one that counts.
	text := "\ufeffname,chat_id\r\n"
	for _, chatID := range chatIDs {
		text += fmt.Sprintf("\"Contact, %[1]s\",%[1]s\r\n", chatID)
	}
	s.write("contacts.csv", text)
	return s
}

func (s *syncing) write(name, text string) {
	if err := os.WriteFile(filepath.Join(s.directory, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *syncing) command(ctx context.Context, server string) (*exec.Cmd, *bytes.Buffer) {
	var stderr bytes.Buffer
	command := exec.CommandContext(ctx, s.program, append(slices.Clone(s.flags), "-server", server, "contacts.csv")...)
	command.Dir, command.Stderr = s.directory, &stderr
	return command, &stderr
}

// run runs the example to its end and returns what it says on standard error.
func (s *syncing) run(server string, exit int) string {
	s.t.Helper()
	command, stderr := s.command(servicetest.Deadline(s.t), server)
	err := command.Run()
	if code := command.ProcessState.ExitCode(); code != exit {
		s.t.Fatalf("exit code %d, not %d: %v\n%s", code, exit, err, stderr)
	}
	return stderr.String()
}

type line struct {
	ChatID      string `json:"chat_id"`
	Outcome     string `json:"outcome"`
	Fingerprint string `json:"fingerprint"`
	File        string `json:"file"`
}

// changes returns the lines of the output. All of them must be complete, unless the last one is allowed to be
// torn.
func (s *syncing) changes(torn bool) (lines []line) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.directory, "changes.ndjson"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	for text := range bytes.Lines(text) {
		if torn && !bytes.HasSuffix(text, []byte("\n")) {
			break
		}
		var line line
		if err := json.Unmarshal(text, &line); err != nil {
			s.t.Fatalf("%s: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

func (s *syncing) state() map[string]line {
	s.t.Helper()
	state := map[string]line{}
	text, err := os.ReadFile(filepath.Join(s.directory, "contacts.csv.state.json"))
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return state
}

// checkEachOnce checks that the lines are of the chat ids, each of which appears once.
func checkEachOnce(t *testing.T, lines []line, chatIDs []string) {
	t.Helper()
	var got []string
	for _, line := range lines {
		got = append(got, line.ChatID)
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(chatIDs)); !slices.Equal(got, want) {
		t.Errorf("%d lines, %d of them of different ids, not %d",
			len(got), len(slices.Compact(slices.Clone(got))), len(want))
	}
}

func TestSyncReportsEachChangeOnce(t *testing.T) {
	api := servicetest.StartRestAPI(t)
	server := servicetest.StartServer(t, api.Settings, "--rate", "0")
	chatIDs := append(servicetest.Numbers(300), "15551230004", "15551230006", "abc")
	sync := newSyncing(t, append(chatIDs, "", "15552000000"))
	sync.run(server.Address, 0)
	first := sync.changes(false)
	checkEachOnce(t, first, chatIDs)
	outcomes := map[string]string{"15551230004": "NOT_AVAILABLE", "15551230006": "NOT_ON_WHATSAPP", "abc": "CHAT_ID_INVALID"}
	for _, line := range first {
		want := outcomes[line.ChatID]
		if want == "" {
			want = "PRESENT"
		}
		if line.Outcome != want || (line.Fingerprint != "") != (want == "PRESENT") {
			t.Errorf("got %v", line)
		}
	}
	asked := api.Asked()
	sync.run(server.Address, 0)
	if len(sync.changes(false)) != len(first) || api.Asked() != asked {
		t.Errorf("the second run reported %d changes and asked %d times", len(sync.changes(false))-len(first), api.Asked()-asked)
	}

	api.Order("PUT", "contacts/15552000007", map[string]any{"picture": "beach"})
	api.Order("PUT", "contacts/15552000008", map[string]any{"picture": nil})
	api.Order("PUT", "contacts/15551230004", map[string]any{"picture": "forest"})
	// The restart empties the cache.
	if err := errors.Join(server.Stop(), server.Start()); err != nil {
		t.Fatal(err)
	}
	sync.run(server.Address, 0)
	sync.run(server.Address, 0)
	checkEachOnce(t, sync.changes(false)[len(first):], []string{"15552000007", "15552000008", "15551230004"})
}

func TestSyncResumesABrokenStream(t *testing.T) {
	api := servicetest.StartRestAPI(t)
	server := servicetest.StartServer(t, api.Settings, "--rate", "0")
	chatIDs := servicetest.Numbers(400)
	cut := func(cut func()) { cut() }
	crash := func(func()) {
		server.Kill()
		if err := server.Start(); err != nil {
			t.Error(err)
		}
	}
	// Results of 400 contacts have more than 100,000 bytes.
	relay := servicetest.StartRelay(t, server.Address, servicetest.Step{Bytes: 10_000, Act: cut},
		servicetest.Step{Bytes: 20_000, Act: crash}, servicetest.Step{Bytes: 20_000, Act: cut})
	sync := newSyncing(t, chatIDs)
	said := sync.run(relay.Address, 0)
	checkEachOnce(t, sync.changes(false), chatIDs)
	if relay.Left() != 0 || strings.Count(said, "the stream broke") < 3 {
		t.Errorf("%d breaks did not happen:\n%s", relay.Left(), said)
	}
	// The message of gRPC has the cause.
	if !strings.Contains(said, "the stream broke (Unavailable: ") || strings.Contains(said, " )") {
		t.Errorf("no cause in:\n%s", said)
	}
	if asked := api.Asked(); asked < len(chatIDs) {
		t.Errorf("only %d contacts were asked", asked)
	}
}

func TestSyncHasFlags(t *testing.T) {
	address := servicetest.StartSandbox(t)
	sync := newSyncing(t, nil, "-column", "phone", "-out", "changes.ndjson", "-state", "contacts.csv.state.json",
		"-instance", "5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47")
	sync.write("contacts.csv", "chat_id,phone\nwrong, 15551230001\nshort\n")
	sync.run(address, 0)
	checkEachOnce(t, sync.changes(false), []string{"15551230001"})
	// A run was killed in the middle of its last line.
	sync.write("changes.ndjson", "{\"chat_id\":\"1\"}\n{\"chat_")
	sync.write("contacts.csv.state.json", "{}")
	sync.run(address, 0)
	checkEachOnce(t, sync.changes(false), []string{"1", "15551230001"})
}

func TestSyncLosesNothingWhenItIsKilled(t *testing.T) {
	api := servicetest.StartRestAPI(t)
	server := servicetest.StartServer(t, api.Settings, "--rate", "0")
	// Pictures are saved in groups of 100, so that each of these downloads is in the middle of a group.
	kills := []int64{50, 200, 420, 555}
	var process atomic.Pointer[os.Process]
	images := startPictures(t, func(number int64) {
		if slices.Contains(kills, number) {
			process.Load().Kill()
		}
	})
	api.Order("POST", "script", map[string]any{"body": answerWith(images.url + "/jpeg")})
	chatIDs := servicetest.Numbers(600)
	sync := newSyncing(t, chatIDs, "-pictures", "pictures")
	halfway := false
	for run := 0; ; run++ {
		command, _ := sync.command(servicetest.Deadline(t), server.Address)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		process.Store(command.Process)
		err := command.Wait()
		// The state never has more than the output.
		lines := sync.changes(true)
		for chatID, known := range sync.state() {
			known.ChatID = chatID
			if !slices.Contains(lines, known) {
				t.Fatalf("the change of %s is lost after %d kills", chatID, run+1)
			}
		}
		if err == nil {
			break
		}
		halfway = halfway || len(sync.state()) > 0
		if run > len(kills) {
			t.Fatalf("the run fails without a kill: %v", err)
		}
	}
	if !halfway {
		t.Error("every kill came before the first state was written")
	}
	reported := map[string]line{}
	for _, line := range sync.changes(false) {
		reported[line.ChatID] = line
	}
	checkEachOnce(t, slices.Collect(maps.Values(reported)), chatIDs)
	if len(sync.state()) != len(chatIDs) {
		t.Errorf("the state has %d contacts", len(sync.state()))
	}
}

var (
	jpeg = []byte("\xff\xd8\xff\xe0 a photo")
	png  = []byte("\x89PNG\r\n\x1a\n a drawing")
	webp = []byte("RIFF\x24\x00\x00\x00WEBPVP8 a sticker")
)

// imageServer serves pictures that are good or bad, and counts the requests.
type imageServer struct {
	url    string
	asked  atomic.Int64
	healed atomic.Bool
}

// startPictures calls onDownload with the number of each download, from 1.
func startPictures(t *testing.T, onDownload func(number int64)) *imageServer {
	images := &imageServer{}
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		onDownload(images.asked.Add(1))
		switch kind := strings.TrimPrefix(request.URL.Path, "/"); {
		case kind == "png":
			response.Write(png)
		case kind == "webp":
			response.Write(webp)
		case kind == "jpeg" || images.healed.Load():
			response.Header().Set("Content-Type", "text/html")
			response.Write(jpeg)
		case kind == "html":
			response.Write([]byte("<html>"))
		case kind == "huge":
			response.Write(append(jpeg, make([]byte, 5<<20)...))
		case kind == "elsewhere":
			http.Redirect(response, request, "/jpeg", http.StatusFound)
		case kind == "nowhere":
			response.Header().Set("Location", "http://127.0.0.1:secret/")
			response.WriteHeader(http.StatusFound)
		case kind == "closed":
			// The server closes the connection without an answer.
			panic(http.ErrAbortHandler)
		case kind == "cut":
			response.Header().Set("Content-Length", "1000")
			response.Write(jpeg)
		default:
			http.NotFound(response, request)
		}
	}))
	t.Cleanup(server.Close)
	images.url = server.URL
	return images
}

// answerWith is the answer of the REST API with a link.
func answerWith(link string) string {
	return fmt.Sprintf(`{"message":"","data":{"profilePictureURL":%q}}`, link)
}

func TestSyncSavesPictures(t *testing.T) {
	api, images := servicetest.StartRestAPI(t), startPictures(t, func(int64) {})
	server := servicetest.StartServer(t, api.Settings, "--rate", "0")
	files := map[string]struct {
		kind, name string
		body       []byte
	}{
		"15552000001":      {"jpeg", "15552000001.jpg", jpeg},
		"15552000002@c.us": {"png", "15552000002@c.us.png", png},
		"+15552000003":     {"webp", "15552000003.webp", webp},
		"15552000004":      {"html", "", nil},
		"15552000005":      {"huge", "", nil},
		"15552000006":      {"elsewhere", "", nil},
		"15552000007":      {"gone", "", nil},
		"15552000008":      {"cut", "", nil},
		"15552000009":      {"closed", "", nil},
		"15552000010":      {"nowhere", "", nil},
	}
	for chatID, file := range files {
		chatID = strings.TrimPrefix(chatID, "+")
		api.Order("POST", "script", map[string]any{"chat_id": chatID, "body": answerWith(images.url + "/" + file.kind + "?oh=secret")})
	}
	chatIDs := slices.Collect(maps.Keys(files))
	sync := newSyncing(t, chatIDs, "-pictures", "pictures")
	said := sync.run(server.Address, 1)
	checkEachOnce(t, sync.changes(false), chatIDs)
	saved := 0
	for _, line := range sync.changes(false) {
		want := files[line.ChatID]
		if line.File != want.name || line.Fingerprint == "" {
			t.Errorf("got %v, not %s", line, want.name)
		}
		if want.name == "" {
			if !strings.Contains(said, line.ChatID+": the picture was not saved: ") {
				t.Errorf("nothing is said of %s:\n%s", line.ChatID, said)
			}
			continue
		}
		saved++
		if body, err := os.ReadFile(filepath.Join(sync.directory, "pictures", want.name)); err != nil || !bytes.Equal(body, want.body) {
			t.Errorf("%s has %q, %v", want.name, body, err)
		}
	}
	found, err := os.ReadDir(filepath.Join(sync.directory, "pictures"))
	if err != nil || len(found) != saved {
		t.Errorf("%d files, %v", len(found), err)
	}
	if strings.Contains(said, "secret") {
		t.Errorf("a link is shown:\n%s", said)
	}

	// Pictures that could not be saved are tried again, without a second line.
	images.healed.Store(true)
	before := images.asked.Load()
	sync.run(server.Address, 0)
	sync.run(server.Address, 0)
	if again := images.asked.Load() - before; again != int64(len(files)-saved) {
		t.Errorf("%d pictures were downloaded again", again)
	}
	checkEachOnce(t, sync.changes(false), chatIDs)
	if found, err = os.ReadDir(filepath.Join(sync.directory, "pictures")); err != nil || len(found) != len(files) {
		t.Errorf("%d files, %v", len(found), err)
	}
	// A picture that somebody removed is saved again.
	if err := os.Remove(filepath.Join(sync.directory, "pictures", "15552000001.jpg")); err != nil {
		t.Fatal(err)
	}
	sync.run(server.Address, 0)
	if _, err := os.Stat(filepath.Join(sync.directory, "pictures", "15552000001.jpg")); err != nil {
		t.Error(err)
	}
}
