// Command ask calls GetProfilePicture by grpc-go. For each call it prints a line of JSON with the status and
// the time.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/tests/peers/dial"
)

// answer is the line of JSON that all callers of these tests print.
type answer struct {
	Code     int     `json:"code"`
	Message  string  `json:"message"`
	Status   []byte  `json:"status"`
	Pushback *string `json:"pushback"`
	Seconds  float64 `json:"seconds"`
}

func main() {
	address := flag.String("address", "", "server to call, `host:port`")
	serviceConfig := flag.String("service-config", "", "text of the service config; none: gRPC's defaults")
	chatID := flag.String("chat-id", "", "contact to ask for")
	deadline := flag.Duration("deadline", 0, "of each call")
	calls := flag.Int("calls", 1, "how many, one after the other")
	flag.Parse()

	client := dial.Contacts(*address, *serviceConfig)
	for range *calls {
		if err := json.NewEncoder(os.Stdout).Encode(ask(client, *chatID, *deadline)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func ask(client contactv1.ContactServiceClient, chatID string, deadline time.Duration) answer {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var trailer metadata.MD
	_, err := client.GetProfilePicture(ctx, &contactv1.GetProfilePictureRequest{ChatId: chatID}, grpc.Trailer(&trailer))
	told := status.Convert(err)
	found := answer{Code: int(told.Code()), Message: told.Message(), Seconds: time.Since(begin).Seconds()}
	// A status from the client itself has no details, and it can be marshalled like any other.
	found.Status, _ = proto.Marshal(told.Proto())
	if pushback := trailer.Get("grpc-retry-pushback-ms"); len(pushback) > 0 {
		found.Pushback = &pushback[0]
	}
	return found
}
