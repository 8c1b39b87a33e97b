// Command go is a gRPC server in Go with default settings and a constant answer, for the comparison with the
// service. It prints its address.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// The size of the message of every answer, like in ../bare.
const replyBytes = 217

type constant struct {
	contactv1.UnimplementedContactServiceServer
	answer *contactv1.GetProfilePictureResponse
}

func (c constant) GetProfilePicture(
	context.Context, *contactv1.GetProfilePictureRequest,
) (*contactv1.GetProfilePictureResponse, error) {
	return c.answer, nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	server := grpc.NewServer()
	contactv1.RegisterContactServiceServer(server, constant{answer: answer()})
	log.Fatal(server.Serve(listener))
}

func answer() *contactv1.GetProfilePictureResponse {
	picture := &contactv1.ProfilePicture{
		Instance:    "5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47",
		ChatId:      "15560000000",
		State:       contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT,
		FetchTime:   &timestamppb.Timestamp{Seconds: 1_790_000_000, Nanos: 123_456_789},
		ExpireTime:  &timestamppb.Timestamp{Seconds: 1_790_852_768},
		Fingerprint: "15560000000_1_1_n.jpg",
	}
	answer := &contactv1.GetProfilePictureResponse{
		ProfilePicture: picture,
		CacheInfo: &contactv1.CacheInfo{
			Status: contactv1.CacheStatus_CACHE_STATUS_HIT,
			Age:    durationpb.New(12*time.Second + 123_456_789),
			Ttl:    durationpb.New(3_400*time.Second + 123_456_789),
		},
	}
	for fill := 0; proto.Size(answer) < replyBytes; fill++ {
		picture.Url = "https://pps.whatsapp.net/" + strings.Repeat("a", fill)
	}
	return answer
}
