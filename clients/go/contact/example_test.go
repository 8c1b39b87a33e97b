package contact_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

// The server of the examples, such as localhost:50051.
var target string

func TestMain(m *testing.M) { os.Exit(serveExamples(m)) }

func serveExamples(m *testing.M) int {
	directory, err := os.MkdirTemp("", "contact")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	server, err := servicetest.NewServer(directory, nil, "--sandbox", "--rate", "0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	target = server.Address
	return m.Run()
}

func Example() {
	client, err := contact.Dial(target)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	picture, ok, err := client.GetProfilePicture(context.Background(), "15551230001")
	fmt.Println(picture.URL != "", ok, err)
	// Output: true true <nil>
}

func ExampleClient_GetProfilePicture() {
	client, err := contact.Dial(target)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	for _, chatID := range []string{"15551230001", "15551230004", "15551230006", "abc"} {
		picture, ok, err := client.GetProfilePicture(context.Background(), chatID, contact.WithMinFresh(time.Hour))
		switch {
		case contact.IsNotOnWhatsApp(err):
			fmt.Println(chatID, "is not on WhatsApp")
		case contact.IsReason(err, contact.ReasonChatIDInvalid):
			fmt.Println(chatID, "is not a chat id")
		case err != nil:
			fmt.Println(err)
		case !ok:
			fmt.Println(chatID, "has no picture")
		default:
			fmt.Println(picture.ChatID, "has a picture")
		}
	}
	// Output:
	// 15551230001 has a picture
	// 15551230004 has no picture
	// 15551230006 is not on WhatsApp
	// abc is not a chat id
}

func ExampleClient_BatchGetProfilePictures() {
	client, err := contact.Dial(target)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	results, err := client.BatchGetProfilePictures(context.Background(), []string{"15551230001", "15551230004", "15551230006"})
	if err != nil {
		panic(err)
	}
	for _, result := range results {
		fmt.Println(result.Index, result.ChatID, result.Outcome, contact.IsNotOnWhatsApp(result.Err))
	}
	// Output:
	// 0 15551230001 present false
	// 1 15551230004 absent false
	// 2 15551230006 failed true
}

func ExampleClient_StreamProfilePictures() {
	client, err := contact.Dial(target)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	broken := contact.OnBroken(func(err error, wait time.Duration) { fmt.Println(err, "again in", wait) })
	for result, err := range client.StreamProfilePictures(context.Background(), []string{"15551230001", "15551230004"}, broken) {
		if err != nil {
			fmt.Println(err) // the results before stay valid
			break
		}
		fmt.Println(result.ChatID, result.Outcome)
	}
	// Unordered output:
	// 15551230001 present
	// 15551230004 absent
}

func ExampleWithKnownFingerprints() {
	client, err := contact.Dial(target)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	picture, _, err := client.GetProfilePicture(context.Background(), "15551230001")
	if err != nil {
		panic(err)
	}
	known := contact.WithKnownFingerprints(map[string]string{"15551230001": picture.Fingerprint})
	results, err := client.BatchGetProfilePictures(context.Background(), []string{"15551230001"}, known)
	if err != nil {
		panic(err)
	}
	fmt.Println(results[0].Outcome)
	// Output: unchanged
}

func ExampleWithTLS() {
	// With the certificate authorities of the system, and a token.
	client, err := contact.Dial("contacts.internal:50051", contact.WithToken("a-token"))
	fmt.Println(client != nil, err)
	// Without TLS, the token would cross the network in plain text.
	client, err = contact.Dial("contacts.internal:50051", contact.WithToken("a-token"), contact.WithPlaintext())
	var refused *contact.Error
	fmt.Println(client != nil, errors.As(err, &refused), refused.Field)
	// Output:
	// true <nil>
	// false true token
}
