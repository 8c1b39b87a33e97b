// Command get_profile_picture asks a hypersender-grpc server where the profile pictures of contacts are.
//
//	go run ./get_profile_picture -server 127.0.0.1:50051 15551230001 15551230004
//
// Answers go to standard output, failures to standard error; the exit code is 1 when a call failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
)

func main() {
	server := flag.String("server", "127.0.0.1:50051", "server to call, `host:port`")
	instance := flag.String("instance", "", "instance to ask, a `UUID`; empty: the server's default instance")
	timeout := flag.Duration("timeout", 10*time.Second, "time limit of each call")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: get_profile_picture [flags] CHAT_ID...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	// One client for all calls. The first of them connects.
	client, err := contact.Dial(*server, contact.WithInstance(*instance), contact.WithTimeout(*timeout))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	exit := 0
	for _, chatID := range flag.Args() {
		picture, ok, err := client.GetProfilePicture(context.Background(), chatID)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", chatID, err)
			exit = 1
			continue
		}
		fmt.Printf("%s: %s\n", chatID, describe(picture, ok))
	}
	client.Close()
	os.Exit(exit)
}

func describe(picture contact.Picture, ok bool) string {
	if !ok {
		return "no picture"
	}
	text := "picture " + picture.URL
	if !picture.ExpireTime.IsZero() {
		text += ", works until " + picture.ExpireTime.Format(time.RFC3339)
	}
	return text
}
