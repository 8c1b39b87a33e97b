package contact

import (
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Outcome is what was found for one contact.
type Outcome string

// The outcomes of a Result.
const (
	// Present: there is a picture.
	Present Outcome = "present"
	// Absent: the contact has no picture that the instance can see.
	Absent Outcome = "absent"
	// Unchanged: the picture still has the fingerprint of WithKnownFingerprints. There is no link.
	Unchanged Outcome = "unchanged"
	// Failed: Err says why.
	Failed Outcome = "failed"
)

// Result is the answer for one contact of a batch or a stream. Package fmt shows it without links and chat
// id.
type Result struct {
	// Index is the position of the contact in the chat ids of the call.
	Index int
	// ChatID is the chat id as in the call.
	ChatID  string
	Outcome Outcome
	// Picture is that of Present, and the zero value for all other outcomes.
	Picture Picture
	// Err is an *Error for Failed, that of GetProfilePicture for this contact, and nil for other outcomes.
	Err error
	// AvatarURL is that of Picture, also for Absent and Unchanged. It is empty for Failed.
	AvatarURL string
	// FetchTime is when Hypersender gave this answer. It is zero for Failed.
	FetchTime time.Time
	// Stale says that the answer is from the cache and no longer fresh.
	Stale bool
}

// Format writes the same text for every verb.
func (r Result) Format(out fmt.State, _ rune) {
	fmt.Fprintf(out, "Result(index %d, %s, stale %t, %v, %v)", r.Index, r.Outcome, r.Stale, r.Picture, r.Err)
}

func newResult(index int, chatID string, message *contactv1.ProfilePictureResult) Result {
	found, unchanged := message.GetProfilePicture(), message.GetUnchanged()
	if unchanged != nil {
		found = &contactv1.ProfilePicture{AvatarUrl: unchanged.GetAvatarUrl(), FetchTime: unchanged.GetFetchTime()}
		found.State = contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT
	}
	picture, present, err := newPicture(found, message.GetCacheInfo())
	result := Result{
		Index: index, ChatID: chatID, Outcome: Absent, Err: err,
		AvatarURL: picture.AvatarURL, FetchTime: picture.FetchTime, Stale: picture.Stale,
	}
	switch {
	case message.GetError() != nil:
		result.Outcome, result.Err = Failed, newError(status.FromProto(message.GetError()))
	case err != nil:
		result.Outcome = Failed
	case unchanged != nil:
		result.Outcome = Unchanged
	case present:
		result.Outcome, result.Picture = Present, picture
	}
	return result
}
