package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
)

const (
	// So many pictures are saved at once. While they are, the stream is not read, which the server allows for
	// 5 minutes.
	picturesMax = 100
	downloads   = 8
)

// aboutContact has the reasons that say something about the contact. Every other error says something about
// the service or Hypersender, and is no outcome.
var aboutContact = []contact.Reason{
	contact.ReasonChatIDInvalid, contact.ReasonNotOnWhatsApp, contact.ReasonUpstreamNotFound,
	contact.ReasonUpstreamRejectedRequest,
}

// known is what the state file holds of a contact.
type known struct {
	// PRESENT, NOT_AVAILABLE, or the reason of an error that concerns the contact.
	Outcome     string `json:"outcome"`
	Fingerprint string `json:"fingerprint,omitempty"`
	// The name of the saved picture.
	File string `json:"file,omitempty"`
}

// change is a line of the output.
type change struct {
	ChatID string `json:"chat_id"`
	known
}

// store holds the state of the last run and writes what this one finds.
type store struct {
	statePath, directory string
	out                  *os.File
	state                map[string]known
	results              []contact.Result
	committed            time.Time
	// Writes a line to standard error.
	say func(string)
}

func openStore(statePath, outPath, directory string) (*store, error) {
	state, err := readState(statePath)
	if err != nil {
		return nil, err
	}
	s := &store{statePath: statePath, directory: directory, state: state, committed: time.Now()}
	s.out, err = openOut(outPath)
	if err != nil {
		return nil, err
	}
	if directory != "" {
		err = os.MkdirAll(directory, 0o700)
	}
	return s, err
}

// openOut opens the file to which changes are appended, after its last line if that is complete. Its lines
// hold phone numbers, so that only the owner can read a new file.
func openOut(path string) (*os.File, error) {
	// Each commit flushes the changes to disk before the state refers to them. Devices and pipes fail to do
	// so, which the first commit would find only after contacts were looked up.
	if about, err := os.Stat(path); err == nil && !about.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; name another one with -out", path)
	}
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return out, dropTornLine(out)
}

// readState reads a state file of this example or of the one in Python. A missing file is an empty state. Any
// other file is an error, because the first commit would overwrite it.
func readState(path string) (map[string]known, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return map[string]known{}, nil
	}
	if err != nil {
		return nil, err
	}
	var state map[string]known
	err = json.Unmarshal(text, &state)
	var otherType *json.UnmarshalTypeError
	other := errors.As(err, &otherType) || (err == nil && state == nil)
	for _, known := range state {
		other = other || known.Outcome == ""
	}
	if other {
		err = errors.New("it does not hold contacts with an outcome each")
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a state file of sync_contacts: %w; "+
			"name another one with -state, or remove this one: everything is then reported again", path, err)
	}
	return state, nil
}

// dropTornLine removes the last line if a killed run did not finish it; no state refers to it. A line that is
// not one of ours is kept and ended.
func dropTornLine(out *os.File) error {
	size, err := out.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	start := max(0, size-1<<16)
	tail := make([]byte, size-start)
	if _, err := out.ReadAt(tail, start); err != nil {
		return err
	}
	end := bytes.LastIndexByte(tail, '\n') + 1
	switch {
	case end == len(tail):
		return nil
	case tail[end] == '{' && (end > 0 || start == 0):
		return out.Truncate(start + int64(end))
	default:
		_, err = out.WriteString("\n")
		return err
	}
}

// known returns the fingerprints of the pictures that need no link: those that have not changed and, where
// pictures are saved, are there.
func (s *store) known(chatIDs []string) map[string]string {
	fingerprints := map[string]string{}
	for _, chatID := range chatIDs {
		known := s.state[chatID]
		if s.directory != "" {
			if _, err := os.Stat(filepath.Join(s.directory, known.File)); known.File == "" || err != nil {
				continue
			}
		}
		if known.Fingerprint != "" {
			fingerprints[chatID] = known.Fingerprint
		}
	}
	return fingerprints
}

// add takes a result that the next commit writes. An unchanged picture needs nothing.
func (s *store) add(result contact.Result) {
	if result.Outcome != contact.Unchanged {
		s.results = append(s.results, result)
	}
}

func (s *store) commitIfDue() (failed int, err error) {
	if time.Since(s.committed) > time.Second || (s.directory != "" && len(s.results) >= picturesMax) {
		return s.commit()
	}
	return 0, nil
}

// commit saves the pictures, then the changes, then the state. A run that is killed in between reports the
// same changes again; it never loses one. It returns the number of pictures that could not be saved.
func (s *store) commit() (failed int, err error) {
	s.committed = time.Now()
	if len(s.results) == 0 {
		return 0, nil
	}
	files, failed := s.savePictures()
	var lines bytes.Buffer
	for index, result := range s.results {
		chatID := result.ChatID
		found := known{Outcome: outcome(result), Fingerprint: result.Picture.Fingerprint, File: files[index]}
		before := s.state[chatID]
		if found.Outcome != before.Outcome || found.Fingerprint != before.Fingerprint {
			if err := json.NewEncoder(&lines).Encode(change{chatID, found}); err != nil {
				return failed, err
			}
		}
		s.state[chatID] = found
	}
	s.results = nil
	if _, err := s.out.Write(lines.Bytes()); err != nil {
		return failed, err
	}
	if err := s.out.Sync(); err != nil {
		return failed, err
	}
	state, err := json.Marshal(s.state)
	if err != nil {
		return failed, err
	}
	return failed, replace(s.statePath, state, 0o600)
}

// outcome names what was found, as in the state file. It is empty for a result that says nothing about its
// contact.
func outcome(result contact.Result) string {
	switch result.Outcome {
	case contact.Present:
		return "PRESENT"
	case contact.Absent:
		return "NOT_AVAILABLE"
	case contact.Unchanged:
		return "UNCHANGED"
	}
	var failed *contact.Error
	if !errors.As(result.Err, &failed) || !contact.IsReason(failed, aboutContact...) {
		return ""
	}
	return string(failed.Reason)
}

// savePictures returns the file of each result, "" for those without one, and the number of failures.
func (s *store) savePictures() (files []string, failed int) {
	files = make([]string, len(s.results))
	if s.directory == "" {
		return files, 0
	}
	errs := make([]error, len(s.results))
	turns := make(chan struct{}, downloads)
	var all sync.WaitGroup
	for index, result := range s.results {
		if result.Outcome != contact.Present {
			continue
		}
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			files[index], errs[index] = savePicture(s.directory, result.Picture)
		})
	}
	all.Wait()
	for index, err := range errs {
		if err != nil {
			failed++
			s.say(fmt.Sprintf("%s: the picture was not saved: %v", s.results[index].ChatID, err))
		}
	}
	return files, failed
}

// replace writes a file so that it has the old or the new content at any moment.
func replace(path string, content []byte, mode os.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	// After the rename there is nothing to remove.
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(content)
	if err == nil {
		err = errors.Join(temporary.Chmod(mode), temporary.Sync())
	}
	if err := errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
