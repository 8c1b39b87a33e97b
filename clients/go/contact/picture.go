package contact

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	contactv1 "github.com/hypersender-grpc/hypersender-grpc/clients/go/hypersender/contact/v1"
)

// Picture is where the profile picture of a contact is. Package fmt shows it without links and chat id.
type Picture struct {
	// URL is secret, because anyone who has it can download the picture, and it expires: neither store nor
	// log it.
	URL string
	// ExpireTime is when URL stops working. It is zero when the link does not say so.
	ExpireTime time.Time
	// Fingerprint stays the same while the picture does. Store it, and compare it for equality only.
	Fingerprint string
	// AvatarURL is the address of the image on the service, for the source of an <img>. It is secret like
	// URL. It is empty if the service hands out no such addresses.
	AvatarURL string
	// FetchTime is when Hypersender gave this answer.
	FetchTime time.Time
	// Instance is the instance that was asked.
	Instance string
	// ChatID is the canonical form of the chat id.
	ChatID string
	// Stale says that the answer is from the cache and no longer fresh.
	Stale bool
}

// Format writes the same text for every verb.
func (p Picture) Format(out fmt.State, _ rune) {
	fmt.Fprintf(out, "Picture(fingerprint %q, fetched %v, stale %t)", p.Fingerprint, p.FetchTime, p.Stale)
}

// newPicture returns false for a contact without a picture.
func newPicture(message *contactv1.ProfilePicture, found *contactv1.CacheInfo) (Picture, bool, error) {
	state := message.GetState()
	present := state == contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_PRESENT
	if !present && state != contactv1.ProfilePictureState_PROFILE_PICTURE_STATE_NOT_AVAILABLE {
		return Picture{}, false, outdated
	}
	return Picture{
		URL: message.GetUrl(), ExpireTime: timeOf(message.GetExpireTime()),
		Fingerprint: message.GetFingerprint(), AvatarURL: message.GetAvatarUrl(),
		FetchTime: timeOf(message.GetFetchTime()), Instance: message.GetInstance(), ChatID: message.GetChatId(),
		Stale: found.GetStatus() == contactv1.CacheStatus_CACHE_STATUS_STALE,
	}, present, nil
}

// timeOf returns the zero time for an unset timestamp, for which AsTime returns 1970.
func timeOf(timestamp *timestamppb.Timestamp) time.Time {
	if timestamp == nil {
		return time.Time{}
	}
	return timestamp.AsTime()
}
