// Package dial connects the Go callers of these tests.
package dial

import (
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // makes healthCheckConfig work

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Contacts is a client of the server at address, in plain text. An empty serviceConfig leaves gRPC's
// defaults. The program ends when the client cannot be made.
func Contacts(address, serviceConfig string) contactv1.ContactServiceClient {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if serviceConfig != "" {
		options = append(options, grpc.WithDefaultServiceConfig(serviceConfig))
	}
	connection, err := grpc.NewClient(address, options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return contactv1.NewContactServiceClient(connection)
}
