package main

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

func TestConnectionsAreTriedOftenWhileTheServerIsDown(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var tried atomic.Int32
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			tried.Add(1)
			connection.Close()
		}
	}()
	connection, err := connect(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := contactv1.NewContactServiceClient(connection)
	// With the usual pauses of gRPC, nine connections take 34 s at least: 1, 1.6, 2.6 s and so on.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for tried.Load() < 9 {
		if _, err := client.GetProfilePicture(ctx, &contactv1.GetProfilePictureRequest{}); ctx.Err() != nil {
			t.Fatalf("only %d connections were tried: %v", tried.Load(), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
