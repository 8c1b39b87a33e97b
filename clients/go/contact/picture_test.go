package contact_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

func TestPicturesAndResultsHideTheirSecrets(t *testing.T) {
	picture := contact.Picture{
		URL: "https://secret", AvatarURL: "https://secret", ChatID: "15551secret", Fingerprint: "abc", Instance: "one",
	}
	failed := &contact.Error{Code: codes.NotFound, Reason: contact.ReasonNotOnWhatsApp}
	present := contact.Result{ChatID: "15551secret", Outcome: contact.Present, Picture: picture, AvatarURL: "https://secret"}
	for _, value := range []any{
		picture, &picture, []contact.Picture{picture}, map[string]any{"a": picture}, present, &present, []contact.Result{present},
		contact.Result{ChatID: "15551secret", Outcome: contact.Failed, Err: failed}, struct{ A contact.Result }{present},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "secret") || strings.Contains(text, "736563726574") {
				t.Errorf("%s of %T shows %s", verb, value, text)
			}
		}
	}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "picture", picture, "result", present)
	if strings.Contains(logged.String(), "secret") || !strings.Contains(logged.String(), "abc") {
		t.Errorf("a log shows %s", &logged)
	}
	if text := fmt.Sprint(present); !strings.Contains(text, "index 0, present") || !strings.Contains(text, `fingerprint "abc"`) {
		t.Errorf("a result is %s", text)
	}
}

func TestAnErrorHasAText(t *testing.T) {
	for want, failure := range map[string]*contact.Error{
		"Unavailable OVERLOADED, try again in 1.5s: busy": {Reason: "OVERLOADED", RetryAfter: 1500 * time.Millisecond, Message: "busy"},
		"Unavailable OVERLOADED":                          {Reason: "OVERLOADED"},
		"Unavailable: refused":                            {Message: "refused"},
		"Unavailable":                                     {},
	} {
		failure.Code = codes.Unavailable
		if failure.Error() != want {
			t.Errorf("got %q, not %q", failure, want)
		}
		if read := failure.GRPCStatus(); read.Code() != codes.Unavailable || read.Message() != failure.Message {
			t.Errorf("%v has the status %v", failure, read)
		}
	}
}

func TestAnswersOfANewerServer(t *testing.T) {
	newer := &contactv1.ProfilePicture{State: 99}
	single := func(answer *contactv1.GetProfilePictureResponse) func(context.Context) (*contactv1.GetProfilePictureResponse, error) {
		return func(context.Context) (*contactv1.GetProfilePictureResponse, error) { return answer, nil }
	}
	for name, answer := range map[string]*contactv1.GetProfilePictureResponse{
		"an unknown state": {ProfilePicture: newer}, "an unset state": {ProfilePicture: &contactv1.ProfilePicture{}}, "no picture": {},
	} {
		picture, ok, err := dial(t, startFake(t, &fake{single: single(answer)}).address).GetProfilePicture(t.Context(), "1")
		if ok || picture.URL != "" || status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), "update the package") {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	batch := []*contactv1.ProfilePictureResult{
		{},
		{Outcome: &contactv1.ProfilePictureResult_ProfilePicture{ProfilePicture: newer}},
		{Outcome: &contactv1.ProfilePictureResult_ProfilePicture{}},
		{Outcome: &contactv1.ProfilePictureResult_Error{Error: &rpcstatus.Status{Code: 99}}},
		{Outcome: &contactv1.ProfilePictureResult_Unchanged{}, CacheInfo: &contactv1.CacheInfo{Status: 5}},
	}
	server := startFake(t, &fake{
		batch: func(_ context.Context, _ *contactv1.BatchGetProfilePicturesRequest) (*contactv1.BatchGetProfilePicturesResponse, error) {
			return &contactv1.BatchGetProfilePicturesResponse{Results: batch}, nil
		},
	})
	client := dial(t, server.address)
	results, err := client.BatchGetProfilePictures(t.Context(), make([]string, len(batch)))
	if err != nil {
		t.Fatal(err)
	}
	for index, result := range results[:4] {
		if result.Outcome != contact.Failed || errorOf(t, result.Err).Code != codes.Unknown || !result.FetchTime.IsZero() {
			t.Errorf("result %d is %v", index, result)
		}
		if index < 3 && !strings.Contains(result.Err.Error(), "update the package") {
			t.Errorf("result %d is %v", index, result)
		}
	}
	if last := results[4]; last.Outcome != contact.Unchanged || last.Err != nil || !last.FetchTime.IsZero() || !last.Stale {
		t.Errorf("the last result is %v", last)
	}
	if results, err := client.BatchGetProfilePictures(t.Context(), []string{"1"}); len(results) != 0 || status.Code(err) != codes.Unknown {
		t.Errorf("a batch of another size: %v, %v", results, err)
	}
}

func TestAvatarsOfEveryOutcome(t *testing.T) {
	picture := func(state contactv1.ProfilePictureState) *contactv1.ProfilePictureResult {
		return &contactv1.ProfilePictureResult{Outcome: &contactv1.ProfilePictureResult_ProfilePicture{
			ProfilePicture: &contactv1.ProfilePicture{State: state, AvatarUrl: "avatar"},
		}}
	}
	batch := []*contactv1.ProfilePictureResult{
		picture(1), picture(2),
		{Outcome: &contactv1.ProfilePictureResult_Unchanged{Unchanged: &contactv1.UnchangedPicture{AvatarUrl: "avatar"}}},
		{Outcome: &contactv1.ProfilePictureResult_Error{Error: &rpcstatus.Status{Code: 5}}},
	}
	server := startFake(t, &fake{
		batch: func(context.Context, *contactv1.BatchGetProfilePicturesRequest) (*contactv1.BatchGetProfilePicturesResponse, error) {
			return &contactv1.BatchGetProfilePicturesResponse{Results: batch}, nil
		},
	})
	results, err := dial(t, server.address).BatchGetProfilePictures(t.Context(), make([]string, len(batch)))
	if err != nil {
		t.Fatal(err)
	}
	for index, want := range []contact.Outcome{contact.Present, contact.Absent, contact.Unchanged, contact.Failed} {
		result := results[index]
		if result.Outcome != want || (result.AvatarURL == "avatar") != (want != contact.Failed) ||
			(result.Picture.AvatarURL != "") != (want == contact.Present) {
			t.Errorf("%s: %q, %q", want, result.AvatarURL, result.Picture.AvatarURL)
		}
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	client, err := contact.Dial(target, nil, contact.WithToken("a\nb"), contact.WithInstance("one"))
	if read := errorOf(t, err); client != nil || read.Code != codes.InvalidArgument || read.Field != "token" {
		t.Errorf("a bad token: %v", err)
	}
	client = dial(t, target, nil)
	if _, ok, err := client.GetProfilePicture(t.Context(), "15551230001", nil); !ok || err != nil {
		t.Errorf("a nil option: %t, %v", ok, err)
	}
	for field, option := range map[string]contact.Option{
		"token": contact.WithToken(""), "WithTLS": contact.WithTLS(nil), "WithPlaintext": contact.WithPlaintext(),
		"WithPlaintextToken": contact.WithPlaintextToken(), "WithTimeout": contact.WithTimeout(time.Second),
		"WithUserAgent": contact.WithUserAgent("shop/1.4"), "WithDialOptions": contact.WithDialOptions(),
	} {
		_, batch := client.BatchGetProfilePictures(t.Context(), []string{"15551230001"}, option)
		var stream error
		for _, stream = range client.StreamProfilePictures(t.Context(), []string{"15551230001"}, option) {
		}
		for _, err := range []error{one(t, client, option), batch, stream} {
			read := errorOf(t, err)
			if read.Code != codes.InvalidArgument || read.Field != field || !strings.Contains(read.Message, field) {
				t.Errorf("%s of a call: %v", field, err)
			}
		}
	}
	// Those for batches and streams do nothing in a single call.
	nothing := []contact.Option{
		contact.WithKnownFingerprints(map[string]string{"15551230001": "x"}), contact.OnProgress(nil), contact.OnBroken(nil),
	}
	if err := one(t, client, nothing...); err != nil {
		t.Error(err)
	}
}

func TestOptionsOfDialAreTheDefaultsOfCalls(t *testing.T) {
	server := startStreams(t, results(1, fails(codes.Unavailable, "OVERLOADED", time.Millisecond)), results(2, nil))
	broken := 0
	client := dial(t, server.address, contact.WithMaxAge(time.Hour), contact.WithMinFresh(time.Minute), contact.WithInstance("one"),
		contact.WithKnownFingerprints(map[string]string{"1": "a", "2": "b"}), contact.OnBroken(func(error, time.Duration) { broken++ }))
	var all sync.WaitGroup
	for range 4 {
		// Calls change their own settings only.
		all.Go(func() { client.GetProfilePicture(t.Context(), "1", contact.WithMaxAge(0), contact.OnlyIfCached()) })
	}
	all.Wait()
	if answered, err := collect(t, client, []string{"1", "2"}, contact.WithMinFresh(time.Second)); answered != 2 || err != nil {
		t.Fatalf("%d answered, %v", answered, err)
	}
	asked := server.requests()[0]
	cache := asked.GetCacheControl()
	if cache.GetMaxAge().AsDuration() != time.Hour || cache.GetMinFresh().AsDuration() != time.Second || cache.GetOnlyIfCached() ||
		asked.GetInstance() != "one" || len(asked.GetKnownFingerprints()) != 2 || broken != 1 {
		t.Errorf("%v, after %d breaks", asked, broken)
	}
}
