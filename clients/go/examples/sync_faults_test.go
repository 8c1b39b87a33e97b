package examples_test

// Faults of the files that the example of a sync reads and writes.

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

func TestSyncGivesUpWhereItCannotGoOn(t *testing.T) {
	address := servicetest.StartSandbox(t, "--rate", "0")
	for _, row := range []struct{ name, csv, state, want string }{
		{"no such column", "name\nAnn\n", "", `no column "chat_id"`},
		{"an empty file", "", "", "no header"},
		{"a quote is not closed", "chat_id,name\n1,\"Ann\n2,Bob\n", "", "contacts.csv: record on line 2"},
		{"an id is not UTF-8", "chat_id\n1\n2\xff\n", "", "contacts.csv, line 3: the chat id is not UTF-8"},
		{"a damaged state", "chat_id\n15551230001\n", `{"1`, "contacts.csv.state.json is not a state file"},
		// It ends the stream, because no further contact could be looked up.
		{"not connected", "chat_id\n15551230015\n", "", "INSTANCE_NOT_CONNECTED"},
	} {
		t.Run(row.name, func(t *testing.T) {
			sync := newSyncing(t, nil)
			sync.write("contacts.csv", row.csv)
			if row.state != "" {
				sync.write("contacts.csv.state.json", row.state)
			}
			if said := sync.run(address, 2); !strings.Contains(said, row.want) {
				t.Errorf("no %q in %s", row.want, said)
			}
			if lines := sync.changes(false); len(lines) != 0 {
				t.Errorf("%v was reported", lines)
			}
		})
	}
}

func TestAStateOfAnotherFormEndsTheSync(t *testing.T) {
	address := servicetest.StartSandbox(t, "--rate", "0")
	for _, state := range []string{
		`null`, `[]`, `"x"`, `{"15551230001":null}`, `{"15551230001":{}}`, `{"15551230001":[]}`,
		`{"15551230001":{"outcome":"PRESENT","fingerprint":5}}`, `{"15551230001":{"outcome":null}}`, `{} {}`, ``,
		`{"version":1,"instance":"","contacts":{}}`,
	} {
		sync := newSyncing(t, []string{"15551230001"})
		sync.write("contacts.csv.state.json", state)
		said := sync.run(address, 2)
		want := "contacts.csv.state.json is not a state file of sync_contacts: "
		if !strings.HasPrefix(said, want) || !strings.Contains(said, "-state") || strings.Count(said, "\n") != 1 {
			t.Errorf("after %s:\n%s", state, said)
		}
		if text, err := os.ReadFile(filepath.Join(sync.directory, "contacts.csv.state.json")); string(text) != state {
			t.Errorf("%s became %s, %v", state, text, err)
		}
		if lines := sync.changes(false); len(lines) != 0 {
			t.Errorf("%v was reported", lines)
		}
	}
}

func TestChangesGoToARegularFileOnly(t *testing.T) {
	address := servicetest.StartSandbox(t, "--rate", "0")
	for _, out := range []string{"/dev/null", "fifo", "pictures"} {
		sync := newSyncing(t, []string{"15551230001"}, "-out", out)
		err := errors.Join(syscall.Mkfifo(filepath.Join(sync.directory, "fifo"), 0o600),
			os.Mkdir(filepath.Join(sync.directory, "pictures"), 0o700))
		if err != nil {
			t.Fatal(err)
		}
		said := sync.run(address, 2)
		if want := out + " is not a regular file; name another one with -out\n"; said != want {
			t.Errorf("got %q, not %q", said, want)
		}
		if state := sync.state(); len(state) != 0 {
			t.Errorf("the state has %v, which was not reported", state)
		}
	}
}

func TestAPictureThatCannotBeWrittenIsFetchedByTheNextRun(t *testing.T) {
	api, images := servicetest.StartRestAPI(t), startPictures(t, func(int64) {})
	server := servicetest.StartServer(t, api.Settings, "--rate", "0")
	api.Order("POST", "script", map[string]any{"body": answerWith(images.url + "/jpeg")})
	sync := newSyncing(t, []string{"15552000001"}, "-pictures", "pictures")
	path := filepath.Join(sync.directory, "pictures", "15552000001.jpg")
	// No file can be renamed to the name of a directory.
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		said := sync.run(server.Address, 1)
		if file := sync.state()["15552000001"].File; file != "" || !strings.Contains(said, "was not saved: ") {
			t.Errorf("the state has the file %q, after:\n%s", file, said)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	sync.run(server.Address, 0)
	if body, err := os.ReadFile(path); err != nil || !bytes.Equal(body, jpeg) {
		t.Errorf("the picture is %q, %v", body, err)
	}
	checkEachOnce(t, sync.changes(false), []string{"15552000001"})
}
