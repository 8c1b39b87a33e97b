// Command chat_list fills a chat list: it paints at once what the server has, then asks for the rest.
//
//	go run ./chat_list -server 127.0.0.1:50051 15551230001 15551230004 15551230006
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
	"time"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
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
	client, err := contact.Dial(*server, contact.WithInstance(*instance), contact.WithTimeout(*timeout))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	exit := 0
	err = fill(client, flag.Args(), func(result contact.Result) {
		if _, err := fmt.Printf("%s: %s\n", result.ChatID, row(result)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if result.Outcome == contact.Failed {
			exit = 1
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		exit = 2
	}
	client.Close()
	os.Exit(exit)
}

// fill passes one result for each contact to show: first those that are stored, which takes milliseconds.
func fill(client *contact.Client, chatIDs []string, show func(contact.Result)) error {
	var missing []string
	err := batches(client, chatIDs, func(result contact.Result) {
		if contact.IsNotCached(result.Err) {
			missing = append(missing, result.ChatID)
		} else {
			show(result)
		}
	}, contact.OnlyIfCached())
	if err != nil {
		return err
	}
	return batches(client, missing, show)
}

func batches(
	client *contact.Client, chatIDs []string, show func(contact.Result), options ...contact.Option,
) error {
	for part := range slices.Chunk(chatIDs, batchMax) {
		results, err := client.BatchGetProfilePictures(context.Background(), part, options...)
		if err != nil {
			return err
		}
		// There is no error even when contacts have errors: look at each result.
		for _, result := range results {
			show(result)
		}
	}
	return nil
}

// row describes a result. The link of a picture would become the src of an image; never store or log it.
func row(result contact.Result) string {
	stale := ""
	if result.Stale {
		stale = " (stale)"
	}
	switch result.Outcome {
	case contact.Present:
		return "picture " + result.Picture.Fingerprint + stale
	case contact.Absent:
		return "no picture" + stale
	default:
		return fmt.Sprint(result.Err)
	}
}
