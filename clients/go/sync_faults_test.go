package client_test

// Faults of the files that the example of a sync reads and writes.

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPictureThatCannotBeWrittenIsFetchedByTheNextRun(t *testing.T) {
	api, images := startRestAPI(t), startPictures(t, func(int64) {})
	server := startServer(t, api.settings, "--rate", "0")
	api.order("POST", "script", map[string]any{"body": answerWith(images.url + "/jpeg")})
	sync := newSyncing(t, []string{"15552000001"}, "-pictures", "pictures")
	path := filepath.Join(sync.directory, "pictures", "15552000001.jpg")
	// No file can be renamed to the name of a directory.
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		said := sync.run(server.address, 1)
		if file := sync.state()["15552000001"].File; file != "" || !strings.Contains(said, "was not saved: ") {
			t.Errorf("the state has the file %q, after:\n%s", file, said)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	sync.run(server.address, 0)
	if body, err := os.ReadFile(path); err != nil || !bytes.Equal(body, jpeg) {
		t.Errorf("the picture is %q, %v", body, err)
	}
	checkEachOnce(t, sync.changes(false), []string{"15552000001"})
}
