// Command load calls GetProfilePicture at a steady rate until its standard input ends, and then prints the
// result as one line of JSON. Calls begin by the clock, whether or not earlier ones have ended, like the
// calls of many callers.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // makes healthCheckConfig work
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

func main() {
	addresses := flag.String("addresses", "", "replicas to call, `host:port,...`")
	serviceConfig := flag.String("service-config", "", "`file` with the service config; none: gRPC's defaults")
	chatID := flag.String("chat-id", "", "contact to ask for")
	rate := flag.Int("rate", 100, "calls begun a second")
	limit := flag.Duration("limit", 3*time.Minute, "the longest run, should nobody end it")
	flag.Parse()

	var attempts attempts
	connection, err := dial(*addresses, *serviceConfig, &attempts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	client := contactv1.NewContactServiceClient(connection)
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	result := run(client, *chatID, *rate, *limit, stop)
	result.Attempts = attempts.Load()
	json.NewEncoder(os.Stdout).Encode(result)
}

func dial(addresses, serviceConfig string, attempts *attempts) (*grpc.ClientConn, error) {
	// This is like the DNS name of a headless service, whose answer contains every replica.
	replicas := manual.NewBuilderWithScheme("replicas")
	var state resolver.State
	for address := range strings.SplitSeq(addresses, ",") {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	replicas.InitialState(state)
	options := []grpc.DialOption{
		grpc.WithResolvers(replicas),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(attempts),
	}
	if serviceConfig != "" {
		text, err := os.ReadFile(serviceConfig)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithDefaultServiceConfig(string(text)))
	}
	return grpc.NewClient("replicas:///localhost", options...)
}

type result struct {
	Calls    int            `json:"calls"`
	Attempts int64          `json:"attempts"`
	Failures map[string]int `json:"failures"`
	Slowest  float64        `json:"slowest_s"`
}

func run(client contactv1.ContactServiceClient, chatID string, rate int, limit time.Duration, stop <-chan struct{}) result {
	result := result{Failures: map[string]int{}}
	var lock sync.Mutex
	var calls sync.WaitGroup
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	defer ticks.Stop()
	end := time.After(limit)
	for {
		select {
		case <-stop:
			calls.Wait()
			return result
		case <-end:
			calls.Wait()
			return result
		case <-ticks.C:
			calls.Go(func() {
				begin := time.Now()
				err := ask(client, chatID)
				lock.Lock()
				defer lock.Unlock()
				result.Calls++
				result.Slowest = max(result.Slowest, time.Since(begin).Seconds())
				if err != nil {
					result.Failures[err.Error()]++
				}
			})
		}
	}
}

func ask(client contactv1.ContactServiceClient, chatID string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := client.GetProfilePicture(ctx, &contactv1.GetProfilePictureRequest{ChatId: chatID})
	return err
}

// attempts counts the requests that were sent, so that a retry is seen even if the call succeeds.
type attempts struct{ atomic.Int64 }

func (a *attempts) HandleRPC(_ context.Context, event stats.RPCStats) {
	// Health checks are streams and do not count.
	if begin, ok := event.(*stats.Begin); ok && !begin.IsServerStream {
		a.Add(1)
	}
}

func (*attempts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*attempts) HandleConn(context.Context, stats.ConnStats)                       {}
