package pictures

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// domain is that of the reasons of the service. A proxy may give reasons of its own.
const domain = "hypersender-grpc"

// Failure has the parts of an error that a program can act on.
type Failure struct {
	Code codes.Code
	// Reason is that of ErrorInfo, such as NOT_ON_WHATSAPP. It is empty for an error that is not from the
	// service, such as a refused connection.
	Reason string
	// Wait is the time after which to ask again, from RetryInfo; 0 if there is none.
	Wait time.Duration
	// Again says that the same look-up may succeed later: there is a wait, or the time was too short.
	Again bool
	// Message is for people. It contains no chat id and no link.
	Message string
}

// Explain reads the error of a call, status.Convert(err), or that of one contact in a batch or a stream,
// status.FromProto(result.GetError()).
func Explain(failed *status.Status) Failure {
	failure := Failure{Code: failed.Code(), Message: failed.Message()}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				failure.Reason = detail.GetReason()
			}
		case *errdetails.RetryInfo:
			failure.Wait = detail.GetRetryDelay().AsDuration()
		}
	}
	failure.Again = failure.Wait > 0 || failure.Code == codes.DeadlineExceeded
	return failure
}

// String is for people.
func (f Failure) String() string {
	reason, wait, message := "", "", ""
	if f.Reason != "" {
		reason = " " + f.Reason
	}
	if f.Wait > 0 {
		wait = fmt.Sprintf(", try again in %v", f.Wait)
	}
	if f.Message != "" {
		message = ": " + f.Message
	}
	return fmt.Sprintf("%v%s%s%s", f.Code, reason, wait, message)
}
