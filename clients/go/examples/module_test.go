package examples_test

// The module as a file of GOPROXY, and the program of its README.

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

const module = "github.com/hypersender-grpc/hypersender-grpc/clients/go"

// goTool runs the Go command in a directory, and returns what it prints.
func goTool(t *testing.T, directory string, environment []string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", arguments...)
	command.Dir, command.Env = directory, append(os.Environ(), environment...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(arguments, " "), err, &stderr)
	}
	return strings.TrimSpace(string(output))
}

// readmeProgram returns the program of the README, for the server.
func readmeProgram(t *testing.T, server string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```go\npackage main\n")
	program, _, _ := strings.Cut(rest, "```")
	if !found || !strings.Contains(program, `"localhost:50051"`) {
		t.Fatal("the README has no program")
	}
	return "package main\n" + strings.ReplaceAll(program, `"localhost:50051"`, fmt.Sprintf("%q", server))
}

func TestTheModuleOfTheReleaseFiles(t *testing.T) {
	proxy, project := t.TempDir(), t.TempDir()
	goTool(t, "../tools", nil, "run", "./goproxy", "..", "v0.1.0", proxy)
	program := readmeProgram(t, servicetest.StartSandbox(t))
	if err := os.WriteFile(filepath.Join(project, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	// A module cache of its own, because the other one may hold an earlier build of the version. What it
	// holds of other modules is read from there.
	cache := t.TempDir()
	environment := []string{
		"GOMODCACHE=" + cache, "GONOSUMDB=github.com/hypersender-grpc", "GOFLAGS=-modcacherw -trimpath", "GOWORK=off",
		fmt.Sprintf("GOPROXY=file://%s,file://%s/cache/download,%s", proxy, goTool(t, ".", nil, "env", "GOMODCACHE"), goTool(t, ".", nil, "env", "GOPROXY")),
	}
	goTool(t, project, environment, "mod", "init", "example.com/shop")
	goTool(t, project, environment, "get", module+"/contact@v0.1.0")
	said := goTool(t, project, environment, "run", ".")
	if !strings.HasPrefix(said, "true http") || !strings.HasSuffix(said, " <nil>") {
		t.Errorf("the program says %q", said)
	}
	// The package brings grpc-go, and neither tools nor a progress bar.
	if required, err := os.ReadFile(filepath.Join(project, "go.mod")); err != nil || !bytes.Contains(required, []byte("google.golang.org/grpc ")) ||
		bytes.Contains(required, []byte("progressbar")) || bytes.Contains(required, []byte("honnef")) {
		t.Errorf("%v, the program requires:\n%s", err, required)
	}
	if version := goTool(t, project, environment, "list", "-m", "-f", "{{.Version}} {{.Replace}}", module); version != "v0.1.0 <nil>" {
		t.Errorf("the module is %s", version)
	}
}

func TestTheModuleOfACheckout(t *testing.T) {
	project := t.TempDir()
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	program := readmeProgram(t, servicetest.StartSandbox(t))
	if err := os.WriteFile(filepath.Join(project, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	goTool(t, project, nil, "mod", "init", "example.com/shop")
	goTool(t, project, nil, "mod", "edit", "-replace", module+"="+checkout)
	goTool(t, project, nil, "mod", "tidy")
	if said := goTool(t, project, nil, "run", "."); !strings.HasPrefix(said, "true http") {
		t.Errorf("the program says %q", said)
	}
}
