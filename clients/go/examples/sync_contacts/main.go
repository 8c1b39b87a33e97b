// Command sync_contacts keeps the profile pictures of the contacts in a CSV file up to date.
//
//	go run ./sync_contacts -pictures pictures contacts.csv
//
// It appends a line of JSON to -out for each contact whose picture, or whose reason for having none, is not
// what the last run found. Run it as often as you like, one at a time: a run that was killed loses no change,
// and the next one continues. Files of the Python example sync_contacts.py can be used here, and the reverse.
//
// The exit code is 1 when contacts or pictures failed for now, and 2 when the run did not come to its end.
package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
)

func main() {
	server := flag.String("server", "127.0.0.1:50051", "server to call, `host:port`")
	instance := flag.String("instance", "", "instance to ask, a `UUID`; empty: the server's default instance")
	column := flag.String("column", "chat_id", "`name` of the column with the chat ids")
	outPath := flag.String("out", "changes.ndjson", "regular `file` to which changes are appended, a line of JSON each")
	directory := flag.String("pictures", "", "`directory` for the pictures; empty: pictures are not saved")
	statePath := flag.String("state", "", "`file` with the results of the last run; empty: CSV.state.json")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: sync_contacts [flags] CSV")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *statePath == "" {
		*statePath = flag.Arg(0) + ".state.json"
	}

	chatIDs, err := readColumn(flag.Arg(0), *column)
	exitIf(err)
	store, err := openStore(*statePath, *outPath, *directory)
	exitIf(err)
	// Calls that break are followed by others: the client waits between them and connects again.
	client, err := contact.Dial(*server, contact.WithInstance(*instance))
	exitIf(err)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed, err := update(ctx, client, chatIDs, store)
	exitIf(err)
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "%d contacts failed for now; the next run asks for them again\n", failed)
		os.Exit(1)
	}
}

func exitIf(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// update asks for every contact once and stores the results. It returns the number of those that failed for
// now. After an error, everything that arrived before it is stored.
func update(ctx context.Context, client *contact.Client, chatIDs []string, store *store) (failed int, err error) {
	bar := progressbar.NewOptions(len(chatIDs), progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(os.Stderr) }))
	say := func(text string) {
		bar.Clear()
		fmt.Fprintln(os.Stderr, text)
	}
	store.say = say
	broken := contact.OnBroken(func(err error, wait time.Duration) {
		say(fmt.Sprintf("the stream broke (%v), again in %v", err, wait.Round(time.Millisecond)))
	})
	described := ""
	progress := contact.OnProgress(func(progress contact.Progress) {
		if text := pausedUntil(progress); text != described {
			described = text
			bar.Describe(text)
		}
	})
	defer func() {
		broken, storeErr := store.commit()
		failed += broken
		if err == nil {
			err = storeErr
		}
	}()
	known := contact.WithKnownFingerprints(store.known(chatIDs))
	for result, err := range client.StreamProfilePictures(ctx, chatIDs, known, broken, progress) {
		if err != nil {
			return failed, fmt.Errorf("%w; the next run continues", err)
		}
		if outcome(result) == "" {
			failed++
			say(fmt.Sprintf("%s: %v", result.ChatID, result.Err))
		} else {
			store.add(result)
		}
		bar.Add(1)
		broken, err := store.commitIfDue()
		failed += broken
		if err != nil {
			return failed, err
		}
	}
	return failed, nil
}

// pausedUntil describes the pause that Hypersender asked for, if there is one.
func pausedUntil(progress contact.Progress) string {
	if progress.PausedUntil.IsZero() {
		return ""
	}
	return "paused until " + progress.PausedUntil.Local().Format(time.TimeOnly)
}

// readColumn returns the chat ids of a CSV file with a header, each once, in the order of the file.
func readColumn(path, column string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// Spreadsheets write a byte order mark, which would become a part of the first name.
	rows := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	rows.FieldsPerRecord = -1
	header, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("%s has no header: %w", path, err)
	}
	position := slices.Index(header, column)
	if position < 0 {
		return nil, fmt.Errorf("%s has no column %q, but %q; see -column", path, column, header)
	}
	var chatIDs []string
	seen := map[string]bool{"": true}
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return chatIDs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if position >= len(row) {
			continue
		}
		chatID := strings.TrimSpace(row[position])
		if !utf8.ValidString(chatID) {
			line, _ := rows.FieldPos(position)
			return nil, fmt.Errorf("%s, line %d: the chat id is not UTF-8", path, line)
		}
		if !seen[chatID] {
			seen[chatID] = true
			chatIDs = append(chatIDs, chatID)
		}
	}
}
