package examples_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

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
	if output, err := exec.Command("go", "build", "-o", program, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

func TestGetProfilePicture(t *testing.T) {
	command := exec.CommandContext(servicetest.Deadline(t), example(t, "get_profile_picture"),
		"-server", servicetest.StartSandbox(t), "-timeout", servicetest.Patience.String(),
		"15551230001", "15551230004", "abc", "15551230008")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := command.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("calls that fail must end in exit code 1, got %v", err)
	}
	for _, row := range []struct {
		output *bytes.Buffer
		want   string
	}{
		{&stdout, "15551230001: picture http"},
		{&stdout, "15551230004: no picture\n"},
		{&stderr, "abc: InvalidArgument CHAT_ID_INVALID: "},
		{&stderr, "15551230008: ResourceExhausted UPSTREAM_RATE_LIMITED, try again in "},
	} {
		if !strings.Contains(row.output.String(), row.want) {
			t.Errorf("no %q in\n%s%s", row.want, &stdout, &stderr)
		}
	}
}

func TestChatList(t *testing.T) {
	server := servicetest.StartSandbox(t)
	list := func(chatIDs ...string) (rows []string, code int) {
		command := exec.CommandContext(servicetest.Deadline(t), example(t, "chat_list"), append([]string{"-server", server}, chatIDs...)...)
		var stdout bytes.Buffer
		command.Stdout = &stdout
		command.Run()
		return strings.Split(strings.TrimSpace(stdout.String()), "\n"), command.ProcessState.ExitCode()
	}
	if rows, code := list("15551230001"); code != 0 || len(rows) != 1 {
		t.Fatalf("exit code %d, %q", code, rows)
	}
	rows, code := list("15551230004", "15551230006", "15551230001", "abc")
	if code != 1 {
		t.Errorf("contacts with an error must end in exit code 1, got %d", code)
	}
	// First the rows that need no request to Hypersender.
	want := []string{"15551230001: picture ", "abc: InvalidArgument CHAT_ID_INVALID: ", "15551230004: no picture",
		"15551230006: NotFound NOT_ON_WHATSAPP: "}
	if len(rows) != len(want) || strings.Contains(strings.Join(rows, ""), "http") {
		t.Fatalf("got %q", rows)
	}
	for index, row := range rows {
		if !strings.HasPrefix(row, want[index]) {
			t.Errorf("row %d is %q, not %q", index, row, want[index])
		}
	}
}

func TestChatListFailsWhenItsRowsCannotBeWritten(t *testing.T) {
	list := exec.CommandContext(servicetest.Deadline(t), example(t, "chat_list"), "-server", servicetest.StartSandbox(t), "15551230001")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var stderr bytes.Buffer
	list.Stdout, list.Stderr = full, &stderr
	var exit *exec.ExitError
	if err := list.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("a row that is lost must end in exit code 2, got %v", err)
	}
	if !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("got %s", &stderr)
	}
}
