// Command stream calls StreamProfilePictures once by grpc-go. It prints a line of JSON for each message and
// one for the end.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/tests/peers/dial"
)

// message is what is printed of a message of the stream.
type message struct {
	Index *int32 `json:"index,omitempty"`
	Done  *int32 `json:"done,omitempty"`
}

// end is the status, as all clients of these tests print it.
type end struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Status  []byte `json:"status"`
}

func main() {
	address := flag.String("address", "", "server to call, `host:port`")
	serviceConfig := flag.String("service-config", "", "text of the service config; none: gRPC's defaults")
	first := flag.Int("first", 0, "phone number of the first contact")
	contacts := flag.Int("contacts", 0, "how many, with consecutive numbers")
	leaveAfter := flag.Int("leave-after", 0, "number of results after which the call is cancelled; 0: never")
	flag.Parse()

	client := dial.Contacts(*address, *serviceConfig)
	request := &contactv1.StreamProfilePicturesRequest{}
	for number := range *contacts {
		request.ChatIds = append(request.ChatIds, strconv.Itoa(*first+number))
	}
	told := status.Convert(read(client, request, *leaveAfter))
	found := end{Code: int(told.Code()), Message: told.Message()}
	// A status from the client itself has no details, and it can be marshalled like any other.
	found.Status, _ = proto.Marshal(told.Proto())
	print(found)
}

// read prints each message, and returns why the stream ended: nil after the last result.
func read(client contactv1.ContactServiceClient, request *contactv1.StreamProfilePicturesRequest, leaveAfter int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := client.StreamProfilePictures(ctx, request)
	if err != nil {
		return err
	}
	results := 0
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if result := event.GetResult(); result != nil {
			print(message{Index: &result.Index})
			if results++; results == leaveAfter {
				cancel()
			}
		} else if progress := event.GetProgress(); progress != nil {
			print(message{Done: &progress.Done})
		}
	}
}

func print(line any) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
