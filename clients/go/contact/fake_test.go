package contact_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

type (
	streamRequest = contactv1.StreamProfilePicturesRequest
	sender        = grpc.ServerStreamingServer[contactv1.StreamProfilePicturesResponse]
	answer        = func(*streamRequest, sender) error
)

// fake is a server of the test's own, for what the built server does not do on demand. Stream number n is
// answered by the function n, and later ones by the last.
type fake struct {
	contactv1.UnimplementedContactServiceServer
	address string
	streams []answer
	single  func(context.Context) (*contactv1.GetProfilePictureResponse, error)
	batch   func(context.Context, *contactv1.BatchGetProfilePicturesRequest) (*contactv1.BatchGetProfilePicturesResponse, error)

	lock sync.Mutex
	// The requests of the streams, and the metadata of all calls.
	asked []*streamRequest
	got   []metadata.MD
	// The server wants no calls. changed is closed and replaced when that changes.
	resting bool
	changed chan struct{}
}

// watched is the health of a fake. The package health of gRPC is not used here, because the clients under
// test must bring it.
type watched struct {
	healthv1.UnimplementedHealthServer
	*fake
}

func (w *watched) Watch(
	request *healthv1.HealthCheckRequest, stream grpc.ServerStreamingServer[healthv1.HealthCheckResponse],
) error {
	for request.GetService() == contactv1.ContactService_ServiceDesc.ServiceName {
		w.lock.Lock()
		status, changed := healthv1.HealthCheckResponse_SERVING, w.changed
		if w.resting {
			status = healthv1.HealthCheckResponse_NOT_SERVING
		}
		w.lock.Unlock()
		if err := stream.Send(&healthv1.HealthCheckResponse{Status: status}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
	return status.Error(codes.NotFound, "another service")
}

// rest says whether the server wants no calls.
func (f *fake) rest(resting bool) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.resting = resting
	close(f.changed)
	f.changed = make(chan struct{})
}

func startFake(t *testing.T, f *fake, options ...grpc.ServerOption) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	contactv1.RegisterContactServiceServer(server, f)
	f.changed = make(chan struct{})
	healthv1.RegisterHealthServer(server, &watched{fake: f})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	f.address = listener.Addr().String()
	return f
}

func startStreams(t *testing.T, streams ...answer) *fake {
	return startFake(t, &fake{streams: streams})
}

func (f *fake) note(ctx context.Context) {
	got, _ := metadata.FromIncomingContext(ctx)
	f.lock.Lock()
	defer f.lock.Unlock()
	f.got = append(f.got, got)
}

// calls returns the metadata of the calls so far.
func (f *fake) calls() []metadata.MD {
	f.lock.Lock()
	defer f.lock.Unlock()
	return append([]metadata.MD{}, f.got...)
}

func (f *fake) requests() []*streamRequest {
	f.lock.Lock()
	defer f.lock.Unlock()
	return append([]*streamRequest{}, f.asked...)
}

func (f *fake) GetProfilePicture(
	ctx context.Context, _ *contactv1.GetProfilePictureRequest,
) (*contactv1.GetProfilePictureResponse, error) {
	f.note(ctx)
	if f.single == nil {
		return present(), nil
	}
	return f.single(ctx)
}

func (f *fake) BatchGetProfilePictures(
	ctx context.Context, request *contactv1.BatchGetProfilePicturesRequest,
) (*contactv1.BatchGetProfilePicturesResponse, error) {
	f.note(ctx)
	return f.batch(ctx, request)
}

func (f *fake) StreamProfilePictures(request *streamRequest, stream sender) error {
	f.note(stream.Context())
	f.lock.Lock()
	answer := f.streams[min(len(f.asked), len(f.streams)-1)]
	f.asked = append(f.asked, request)
	f.lock.Unlock()
	return answer(request, stream)
}

func present() *contactv1.GetProfilePictureResponse {
	return &contactv1.GetProfilePictureResponse{ProfilePicture: &contactv1.ProfilePicture{
		State: contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT,
	}}
}

// results sends a result for the first so many ids, the last one first, and then ends the call with err.
func results(number int, err error) answer {
	return func(request *streamRequest, stream sender) error {
		for index := min(number, len(request.GetChatIds())) - 1; index >= 0; index-- {
			if err := stream.Send(result(request, index)); err != nil {
				return err
			}
		}
		return err
	}
}

func result(request *streamRequest, index int) *contactv1.StreamProfilePicturesResponse {
	return &contactv1.StreamProfilePicturesResponse{
		Event: &contactv1.StreamProfilePicturesResponse_Result{Result: &contactv1.ProfilePictureResult{
			Index: int32(index), RequestedChatId: request.GetChatIds()[index],
			Outcome: &contactv1.ProfilePictureResult_ProfilePicture{ProfilePicture: present().ProfilePicture},
		}},
	}
}

// hangs sends one result and then nothing, until the call ends. It then closes left.
func hangs(left chan<- struct{}) answer {
	return func(request *streamRequest, stream sender) error {
		defer close(left)
		if err := stream.Send(result(request, 0)); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
}

// fails is an error of the service. With a wait it carries RetryInfo.
func fails(code codes.Code, reason string, wait time.Duration) error {
	return failsFor("hypersender-grpc", code, reason, wait)
}

func failsFor(domain string, code codes.Code, reason string, wait time.Duration) error {
	failure, err := status.New(code, "").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: domain})
	if err == nil && wait > 0 {
		failure, err = failure.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	if err != nil {
		panic(err)
	}
	return failure.Err()
}

// await waits for an event.
func await(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(servicetest.Patience):
		t.Fatal(what)
	}
}
