// Command sync_contacts keeps the profile pictures of the contacts in a CSV file up to date.
//
//	go run ./examples/sync_contacts -pictures pictures contacts.csv
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
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/pictures"
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
	connection, err := connect(*server)
	exitIf(err)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed, err := update(ctx, contactv1.NewContactServiceClient(connection), *instance, chatIDs, store)
	exitIf(err)
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "%d contacts failed for now; the next run asks for them again\n", failed)
		os.Exit(1)
	}
}

func connect(server string) (*grpc.ClientConn, error) {
	// pictures.Stream waits between its calls. The pauses of gRPC between connections, which usually grow to
	// two minutes, must stay shorter: a call during such a pause fails although the server is up again.
	reconnect := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 20 * time.Second,
	}
	// A connection that a firewall or a NAT has forgotten is closed after 40 s. Else the call that resumes
	// the stream would use it, too.
	keepAlive := keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}
	// Without TLS and a token: for a server on this machine, or behind a proxy that adds them.
	return grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(reconnect), grpc.WithKeepaliveParams(keepAlive))
}

func exitIf(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// update asks for every contact once and stores the results. It returns the number of those that failed for
// now. After an error, everything that arrived before it is stored.
func update(
	ctx context.Context, client contactv1.ContactServiceClient, instance string, chatIDs []string, store *store,
) (failed int, err error) {
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
	options := pictures.Options{Broken: func(err error, wait time.Duration) {
		failure := pictures.Explain(status.Convert(err))
		// The wait that the server asks for is a part of the other one.
		failure.Wait = 0
		say(fmt.Sprintf("the stream broke (%v), again in %v", failure, wait.Round(time.Millisecond)))
	}}
	request := &contactv1.StreamProfilePicturesRequest{
		Instance: instance, ChatIds: chatIDs, KnownFingerprints: store.known(chatIDs),
	}
	described := ""
	defer func() {
		broken, storeErr := store.commit()
		failed += broken
		if err == nil {
			err = storeErr
		}
	}()
	for message, err := range pictures.Stream(ctx, client, request, options) {
		if err != nil {
			return failed, fmt.Errorf("%v; the next run continues", pictures.Explain(status.Convert(err)))
		}
		if result := message.GetResult(); result != nil {
			if result.GetUnchanged() == nil && outcome(result) == "" {
				failed++
				failure := pictures.Explain(status.FromProto(result.GetError()))
				say(fmt.Sprintf("%s: %v", result.GetRequestedChatId(), failure))
			} else {
				store.add(result)
			}
			bar.Add(1)
		}
		if text := pausedUntil(message.GetProgress()); text != described {
			described = text
			bar.Describe(text)
		}
		broken, err := store.commitIfDue()
		failed += broken
		if err != nil {
			return failed, err
		}
	}
	return failed, nil
}

// pausedUntil describes the pause that Hypersender asked for, if there is one.
func pausedUntil(progress *contactv1.StreamProgress) string {
	if progress.GetPausedUntil() == nil {
		return ""
	}
	return "paused until " + progress.GetPausedUntil().AsTime().Local().Format(time.TimeOnly)
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
