package client_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
	"github.com/hypersender-grpc/hypersender-grpc/clients/go/pictures"
)

func TestBatch(t *testing.T) {
	client := dial(t, startSandbox(t))
	chatIDs := []string{"15551230001", "abc", "15551230004", "15551230006", "15551230001", "15552000001@c.us"}
	request := &contactv1.BatchGetProfilePicturesRequest{ChatIds: chatIDs}
	response, err := client.BatchGetProfilePictures(deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
	if response.GetFailedCount() != 2 || len(response.GetResults()) != len(chatIDs) {
		t.Fatalf("%d results, %d failed", len(response.GetResults()), response.GetFailedCount())
	}
	reasons := []string{"", "CHAT_ID_INVALID", "", "NOT_ON_WHATSAPP", "", ""}
	states := []contactv1.ProfilePictureState{present, 0, notAvailable, 0, present, present}
	for index, result := range response.GetResults() {
		if result.GetIndex() != int32(index) || result.GetRequestedChatId() != chatIDs[index] {
			t.Errorf("result %d is of %d, %s", index, result.GetIndex(), result.GetRequestedChatId())
		}
		reason := pictures.Explain(status.FromProto(result.GetError())).Reason
		if reason != reasons[index] || result.GetProfilePicture().GetState() != states[index] {
			t.Errorf("%s: %q, %v", chatIDs[index], reason, result.GetProfilePicture())
		}
	}

	known := response.GetResults()[0].GetProfilePicture().GetFingerprint()
	request.KnownFingerprints = map[string]string{"15551230001": known, "15552000001@c.us": "another"}
	response, err = client.BatchGetProfilePictures(deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
	var unchanged []int32
	for _, result := range response.GetResults() {
		if result.GetUnchanged() != nil {
			unchanged = append(unchanged, result.GetIndex())
		}
	}
	if !slices.Equal(unchanged, []int32{0, 4}) {
		t.Errorf("unchanged are %v", unchanged)
	}
}

func TestBatchesHaveALimit(t *testing.T) {
	client := dial(t, startSandbox(t))
	for _, size := range []int{0, 101} {
		request := &contactv1.BatchGetProfilePicturesRequest{ChatIds: numbers(size)}
		_, err := client.BatchGetProfilePictures(deadline(t), request)
		failure := pictures.Explain(status.Convert(err))
		if failure.Code != codes.InvalidArgument || failure.Reason != "BATCH_SIZE_INVALID" || failure.Again {
			t.Errorf("%d ids: %v", size, failure)
		}
	}
}

func TestStream(t *testing.T) {
	client := dial(t, startSandbox(t, "--rate", "0"))
	request := &contactv1.StreamProfilePicturesRequest{ChatIds: append(numbers(200), "abc", "15551230004", "15552000007")}
	fingerprints := map[string]string{}
	seen := make([]int, len(request.GetChatIds()))
	for message, err := range pictures.Stream(deadline(t), client, request, pictures.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		if result := message.GetResult(); result != nil {
			seen[result.GetIndex()]++
			fingerprints[result.GetRequestedChatId()] = result.GetProfilePicture().GetFingerprint()
			if failed := result.GetError() != nil; failed != (result.GetRequestedChatId() == "abc") {
				t.Errorf("%s: %v", result.GetRequestedChatId(), result)
			}
		}
	}
	for index, results := range seen {
		if results != 1 {
			t.Errorf("index %d has %d results", index, results)
		}
	}

	request.KnownFingerprints = fingerprints
	for message, err := range pictures.Stream(deadline(t), client, request, pictures.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		if result := message.GetResult(); result != nil && fingerprints[result.GetRequestedChatId()] != "" {
			if result.GetUnchanged().GetFetchTime() == nil {
				t.Errorf("%s: %v", result.GetRequestedChatId(), result)
			}
		}
	}
}

func TestChatList(t *testing.T) {
	server := startSandbox(t)
	if _, err := dial(t, server).GetProfilePicture(deadline(t), &contactv1.GetProfilePictureRequest{ChatId: "15551230001"}); err != nil {
		t.Fatal(err)
	}
	list := exec.CommandContext(deadline(t), example(t, "chat_list"), "-server", server,
		"15551230004", "15551230006", "15551230001", "abc")
	var stdout, stderr bytes.Buffer
	list.Stdout, list.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := list.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("contacts with an error must end in exit code 1, got %v", err)
	}
	// First the rows that need no request to Hypersender.
	want := []string{"15551230001: picture ", "abc: InvalidArgument CHAT_ID_INVALID: ", "15551230004: no picture (MISS)",
		"15551230006: NotFound NOT_ON_WHATSAPP: "}
	rows := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if len(rows) != len(want) || !strings.HasSuffix(rows[0], " (HIT)") || strings.Contains(stdout.String(), "http") {
		t.Fatalf("got\n%s%s", &stdout, &stderr)
	}
	for index, row := range rows {
		if !strings.HasPrefix(row, want[index]) {
			t.Errorf("row %d is %q, not %q", index, row, want[index])
		}
	}
}

func TestChatListFailsWhenItsRowsCannotBeWritten(t *testing.T) {
	list := exec.CommandContext(deadline(t), example(t, "chat_list"), "-server", startSandbox(t), "15551230001")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var stderr bytes.Buffer
	list.Stdout, list.Stderr = full, &stderr
	var exit *exec.ExitError
	if err := list.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("a row that is lost must end in exit code 2, got %v", err)
	}
	if !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("got %s", &stderr)
	}
}
