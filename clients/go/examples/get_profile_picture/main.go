// Command get_profile_picture asks a hypersender-grpc server where the profile pictures of contacts are.
//
//	go run ./examples/get_profile_picture -address 127.0.0.1:50051 15551230001 15551230004
//
// Answers go to standard output, failures to standard error; the exit code is 1 when a call failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

func main() {
	address := flag.String("address", "127.0.0.1:50051", "server to call, `host:port`")
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

	// Without TLS: for a server on this machine, or behind a proxy that adds it.
	connection, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	// One connection, made on the first call and shared by all.
	client := contactv1.NewContactServiceClient(connection)
	exit := 0
	for _, chatID := range flag.Args() {
		picture, err := ask(client, *instance, chatID, *timeout)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %s\n", chatID, explain(err))
			exit = 1
			continue
		}
		fmt.Printf("%s: %s\n", chatID, describe(picture))
	}
	connection.Close()
	os.Exit(exit)
}

// ask makes one call, which ends after timeout at the latest. The call carries its deadline, and the server
// obeys it, too.
func ask(
	client contactv1.ContactServiceClient, instance, chatID string, timeout time.Duration,
) (*contactv1.ProfilePicture, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	response, err := client.GetProfilePicture(ctx, &contactv1.GetProfilePictureRequest{
		Instance: instance,
		ChatId:   chatID,
	})
	return response.GetProfilePicture(), err
}

func describe(picture *contactv1.ProfilePicture) string {
	switch picture.GetState() {
	case contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT:
		text := "picture " + picture.GetUrl()
		if expires := picture.GetExpireTime(); expires != nil {
			text += ", works until " + expires.AsTime().Format(time.RFC3339)
		}
		return text
	case contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_NOT_AVAILABLE:
		return "no picture"
	default:
		return "an answer that this client is too old to read"
	}
}

// explain returns the parts of an error that a program can act on: the code, the reason, and the wait before
// a retry. A failure without the server, such as a refused connection, has neither reason nor wait.
func explain(err error) string {
	failure := status.Convert(err)
	reason, wait := "", ""
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = " " + detail.GetReason()
		case *errdetails.RetryInfo:
			wait = fmt.Sprintf(", try again in %v", detail.GetRetryDelay().AsDuration())
		}
	}
	return fmt.Sprintf("%v%s%s: %s", failure.Code(), reason, wait, failure.Message())
}
