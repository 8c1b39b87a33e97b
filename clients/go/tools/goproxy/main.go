// Command goproxy writes a module to a directory that the Go command can read in place of a module proxy.
//
//	goproxy MODULE_DIRECTORY VERSION OUT_DIRECTORY
//
// The Go command reads it with GOPROXY=file://OUT_DIRECTORY. Modules below the module, such as its examples
// and tools, are no part of it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: goproxy MODULE_DIRECTORY VERSION OUT_DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write creates the four files of a version, as `go help goproxy` describes them.
func write(source, version, out string) error {
	text, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	path := modfile.ModulePath(text)
	escaped, err := module.EscapePath(path)
	if err != nil {
		return err
	}
	directory := filepath.Join(out, escaped, "@v")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	// The time is fixed, so that the same source gives the same files.
	info, err := json.Marshal(map[string]any{"Version": version, "Time": time.Unix(0, 0).UTC()})
	if err != nil {
		return err
	}
	archive, err := os.Create(filepath.Join(directory, version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(
		zip.CreateFromDir(archive, module.Version{Path: path, Version: version}, source),
		archive.Close(),
		os.WriteFile(filepath.Join(directory, version+".mod"), text, 0o644),
		os.WriteFile(filepath.Join(directory, version+".info"), info, 0o644),
		os.WriteFile(filepath.Join(directory, "list"), []byte(version+"\n"), 0o644),
	)
}
