package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
)

func TestOnlyAnUnfinishedLineOfItsOwnIsRemoved(t *testing.T) {
	long := strings.Repeat("x{", 40_000)
	for _, row := range []struct{ before, after string }{
		{"", ""},
		{"{\"a\":1}\n", "{\"a\":1}\n"},
		{"{\"a\":1}\n{\"b\"", "{\"a\":1}\n"},
		{"{\"b\"", ""},
		{"a note", "a note\n"},
		{"{\"a\":1}\na note", "{\"a\":1}\na note\n"},
		{long, long + "\n"},
		{"x" + long, "x" + long + "\n"},
	} {
		path := filepath.Join(t.TempDir(), "changes.ndjson")
		if err := os.WriteFile(path, []byte(row.before), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := dropTornLine(out); err != nil {
			t.Fatal(err)
		}
		out.Close()
		if after, err := os.ReadFile(path); err != nil || string(after) != row.after {
			t.Errorf("%.20q became %.20q, %v", row.before, after, err)
		}
	}
}

func TestLinksAreFetchedByHTTPSOrFromThisMachine(t *testing.T) {
	for link, expected := range map[string]bool{
		"https://pps.whatsapp.net/p.jpg":     true,
		"http://127.0.0.1:50080/p.jpg":       true,
		"http://[::1]:50080/p.jpg":           true,
		"http://localhost/p.jpg":             true,
		"http://pps.whatsapp.net/p.jpg":      false,
		"http://169.254.169.254/latest":      false,
		"http://127.0.0.1@192.0.2.1/p.jpg":   false,
		"http://127.0.0.1.example.com/p.jpg": false,
		"ftp://127.0.0.1/p.jpg":              false,
		"file:///etc/passwd":                 false,
		"https:///p.jpg":                     false,
		"http://[::1":                        false,
		"":                                   false,
	} {
		if mayBeFetched(link) != expected {
			t.Errorf("%s: not %v", link, expected)
		}
	}
}

func TestAPictureThatCannotBeWrittenHasNoName(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		response.Write([]byte("\xff\xd8\xff"))
	}))
	defer server.Close()
	name, err := savePicture(filepath.Join(t.TempDir(), "missing"), contact.Picture{ChatID: "1", URL: server.URL})
	if name != "" || err == nil {
		t.Errorf("got %q, %v", name, err)
	}
}

func TestTheStateIsNeverAheadOfTheOutput(t *testing.T) {
	directory := t.TempDir()
	statePath := filepath.Join(directory, "state.json")
	store, err := openStore(statePath, filepath.Join(directory, "changes.ndjson"), "")
	if err != nil {
		t.Fatal(err)
	}
	store.out.Close()
	if store.out, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	defer store.out.Close()
	store.add(contact.Result{ChatID: "1", Outcome: contact.Absent})
	if _, err := store.commit(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if state, err := os.ReadFile(statePath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state has %s, which was not reported", state)
	}
}
