package contact_test

// Several replicas, faults between them and the client, and what is left of a client.

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/internal/servicetest"
)

func TestAStreamSurvivesItsReplica(t *testing.T) {
	api := servicetest.StartRestAPI(t)
	// 20 ms for each contact, so that the replica dies in the middle.
	api.Order("POST", "script", map[string]any{"delay_ms": 20})
	first := servicetest.StartServer(t, api.Settings, "--rate", "0", "--upstream-concurrency", "4")
	second := servicetest.StartServer(t, api.Settings, "--rate", "0", "--upstream-concurrency", "4")
	// The replica that has sent 4,000 bytes first is the one with the stream. Results of 120 contacts have
	// more than 20,000.
	var once sync.Once
	killOnce := func(server *servicetest.Server) servicetest.Step {
		return servicetest.Step{Bytes: 4_000, Act: func(func()) { once.Do(server.Kill) }}
	}
	addresses := []string{
		servicetest.StartRelay(t, first.Address, killOnce(first)).Address,
		servicetest.StartRelay(t, second.Address, killOnce(second)).Address,
	}
	client := dial(t, "ipv4:"+strings.Join(addresses, ","))
	broken := 0
	chatIDs := servicetest.Numbers(120)
	answered, err := collect(t, client, chatIDs, contact.OnBroken(func(error, time.Duration) { broken++ }))
	if answered != len(chatIDs) || err != nil || broken == 0 {
		t.Errorf("%d answered, %v, after %d breaks", answered, err, broken)
	}
	// Single calls do without the dead replica, too.
	for range 10 {
		if _, _, err := client.GetProfilePicture(t.Context(), chatIDs[0]); err != nil {
			t.Error(err)
		}
	}
}

func TestAStreamSurvivesResetsAndARestart(t *testing.T) {
	api := servicetest.StartRestAPI(t)
	server := servicetest.StartServer(t, api.Settings, "--rate", "0")
	cut := func(cut func()) { cut() }
	restart := func(func()) {
		server.Kill()
		if err := server.Start(); err != nil {
			t.Error(err)
		}
	}
	// Results of 400 contacts have more than 100,000 bytes.
	relay := servicetest.StartRelay(t, server.Address,
		servicetest.Step{Bytes: 10_000, Act: cut}, servicetest.Step{Bytes: 20_000, Act: restart},
		servicetest.Step{Bytes: 20_000, Act: cut})
	var broken []string
	report := contact.OnBroken(func(err error, _ time.Duration) { broken = append(broken, err.Error()) })
	answered, err := collect(t, dial(t, relay.Address), servicetest.Numbers(400), report)
	if answered != 400 || err != nil || relay.Left() != 0 || len(broken) < 3 {
		t.Errorf("%d answered, %v, %d breaks did not happen: %q", answered, err, relay.Left(), broken)
	}
	// The message of gRPC has the cause.
	if !strings.HasPrefix(broken[0], "Unavailable: ") {
		t.Errorf("no cause in %q", broken)
	}
}

func TestCallsAreSpreadOverHealthyReplicas(t *testing.T) {
	first, second := startFake(t, &fake{}), startFake(t, &fake{})
	client := dial(t, "ipv4:"+first.address+","+second.address)
	// until makes calls until the condition holds.
	until := func(what string, holds func() bool) {
		for ctx := servicetest.Deadline(t); !holds(); {
			if _, _, err := client.GetProfilePicture(ctx, "1"); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	until("both have calls", func() bool { return len(first.calls()) > 0 && len(second.calls()) > 0 })
	first.rest(true)
	alone := func() bool {
		before := len(first.calls())
		for range 10 {
			if err := one(t, client); err != nil {
				t.Fatal(err)
			}
		}
		return len(first.calls()) == before
	}
	until("one is alone", alone)
	first.rest(false)
	until("both have calls again", func() bool { return !alone() })
}

func TestRetriesObeyThePushback(t *testing.T) {
	for _, row := range []struct {
		pushback string
		calls    int
		wait     time.Duration
	}{{"1200", 2, 1200 * time.Millisecond}, {"-1", 1, 0}} {
		tries := 0
		server := startFake(t, &fake{single: func(ctx context.Context) (*contactv1.GetProfilePictureResponse, error) {
			if tries++; tries > 1 {
				return present(), nil
			}
			setTrailer(ctx, row.pushback)
			return nil, fails(codes.Unavailable, "OVERLOADED", time.Second)
		}})
		begin := time.Now()
		_, ok, err := dial(t, server.address).GetProfilePicture(t.Context(), "1")
		if tries != row.calls || ok != (row.calls > 1) || time.Since(begin) < row.wait {
			t.Errorf("%s: %d calls in %v, %v", row.pushback, tries, time.Since(begin), err)
		}
		if row.calls == 1 && (errorOf(t, err).RetryAfter != time.Second || !contact.IsRetryable(err)) {
			t.Errorf("%s: %v", row.pushback, err)
		}
	}
}

func setTrailer(ctx context.Context, pushback string) {
	if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", pushback)); err != nil {
		panic(err)
	}
}

func TestADeadServerIsTriedOften(t *testing.T) {
	// Nothing listens behind this relay.
	relay := servicetest.StartRelay(t, "127.0.0.1:1")
	client := dial(t, relay.Address)
	// With pauses that grow by 1.6, twelve connections take longer.
	ctx, cancel := context.WithTimeout(t.Context(), servicetest.Patience)
	defer cancel()
	for relay.Connections() < 12 {
		if _, _, err := client.GetProfilePicture(ctx, "1"); status.Code(err) != codes.Unavailable {
			t.Fatalf("only %d connections were tried: %v", relay.Connections(), err)
		}
	}
}

func TestNothingIsLeftOfAClient(t *testing.T) {
	server := startStreams(t, results(2, nil))
	use := func() {
		client, err := contact.Dial(server.address, contact.WithToken("a-token"))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := one(t, client); err != nil {
					t.Error(err)
				}
				for _, err := range client.StreamProfilePictures(t.Context(), servicetest.Numbers(2)) {
					if err != nil {
						t.Error(err)
					}
					break
				}
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				client.BatchGetProfilePictures(ended, []string{"1"})
			})
		}
		all.Wait()
	}
	use()
	// The server has goroutines for its connections, which end a little later.
	before := settled(0)
	for range 5 {
		use()
	}
	if after := settled(before); after > before {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines became %d:\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
	}
}

// settled returns the number of goroutines when it is at most the wanted one, or has not changed for a while.
func settled(wanted int) int {
	number := runtime.NumGoroutine()
	for same := 0; same < 20 && number > wanted; same++ {
		time.Sleep(25 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != number {
			number, same = now, 0
		}
	}
	return number
}
