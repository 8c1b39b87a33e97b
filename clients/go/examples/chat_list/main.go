// Command chat_list fills a chat list: it paints at once what the server has, then asks for the rest.
//
//	go run ./examples/chat_list -server 127.0.0.1:50051 15551230001 15551230004 15551230006
//
// A row goes to standard output as soon as it is known; the exit code is 1 when a contact has an error, and 2
// when rows are missing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/pictures"
)

// batchMax is the number of contacts that one batch may have.
const batchMax = 100

func main() {
	server := flag.String("server", "127.0.0.1:50051", "server to call, `host:port`")
	instance := flag.String("instance", "", "instance to ask, a `UUID`; empty: the server's default instance")
	timeout := flag.Duration("timeout", 30*time.Second, "time limit of each call")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: chat_list [flags] CHAT_ID...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}

	// Without TLS: for a server on this machine, or behind a proxy that adds it.
	connection, err := grpc.NewClient(*server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	list := &list{contactv1.NewContactServiceClient(connection), *instance, *timeout}
	exit := 0
	err = list.fill(flag.Args(), func(result *contactv1.ProfilePictureResult) {
		if _, err := fmt.Printf("%s: %s\n", result.GetRequestedChatId(), row(result)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if result.GetError() != nil {
			exit = 1
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, pictures.Explain(status.Convert(err)))
		exit = 2
	}
	connection.Close()
	os.Exit(exit)
}

type list struct {
	client   contactv1.ContactServiceClient
	instance string
	timeout  time.Duration
}

// fill passes one result for each contact to show: first those that are stored, which takes milliseconds.
func (l *list) fill(chatIDs []string, show func(*contactv1.ProfilePictureResult)) error {
	var missing []string
	err := l.batches(chatIDs, &contactv1.CacheControl{OnlyIfCached: true}, func(result *contactv1.ProfilePictureResult) {
		if pictures.Explain(status.FromProto(result.GetError())).Reason == "NOT_CACHED" {
			missing = append(missing, result.GetRequestedChatId())
		} else {
			show(result)
		}
	})
	if err != nil {
		return err
	}
	return l.batches(missing, nil, show)
}

func (l *list) batches(
	chatIDs []string, cacheControl *contactv1.CacheControl, show func(*contactv1.ProfilePictureResult),
) error {
	for part := range slices.Chunk(chatIDs, batchMax) {
		ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
		response, err := l.client.BatchGetProfilePictures(ctx, &contactv1.BatchGetProfilePicturesRequest{
			Instance: l.instance, ChatIds: part, CacheControl: cacheControl,
		})
		cancel()
		if err != nil {
			return err
		}
		// The call is OK even when contacts have errors: look at each result.
		for _, result := range response.GetResults() {
			show(result)
		}
	}
	return nil
}

// row describes a result. The link of a picture would become the src of an image; never store or log it.
func row(result *contactv1.ProfilePictureResult) string {
	if failed := result.GetError(); failed != nil {
		return pictures.Explain(status.FromProto(failed)).String()
	}
	found := strings.TrimPrefix(result.GetCacheInfo().GetStatus().String(), "CACHE_STATUS_")
	switch picture := result.GetProfilePicture(); picture.GetState() {
	case contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT:
		return fmt.Sprintf("picture %s (%s)", picture.GetFingerprint(), found)
	case contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_NOT_AVAILABLE:
		return fmt.Sprintf("no picture (%s)", found)
	default:
		return "an answer that this client is too old to read"
	}
}
