package contact

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason says why a call or a contact failed. It is that of google.rpc.ErrorInfo; docs/errors.md says what to
// do. Later servers may send others: where you do not know the reason, decide by the code.
type Reason string

// domain is that of the reasons of the service. A proxy may give reasons of its own.
const domain = "hypersender-grpc"

// Error is the only type of error of the package. Its text holds no chat id, no link and no token.
//
// errors.Is finds context.Canceled when the context of the call was cancelled, and context.DeadlineExceeded
// when its time was too short, also when the server noticed it first. status.FromError reads it, too.
type Error struct {
	Code codes.Code
	// Reason is empty for an error that is not from the service, such as a refused connection.
	Reason Reason
	// Field is the field of the request, or the argument, that must change. It is usually empty.
	Field string
	// RetryAfter is the wait that the server asks for; 0 if there is none.
	RetryAfter time.Duration
	// Message is for people. Do not decide by it.
	Message string

	received *status.Status
	cause    error
}

// Error is for people: the code, the reason, the wait and the message.
func (e *Error) Error() string {
	text := strings.TrimSpace(e.Code.String() + " " + string(e.Reason))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", try again in %v", e.RetryAfter)
	}
	return strings.TrimSuffix(text+": "+e.Message, ": ")
}

// Unwrap returns the cause: an error of context, of gRPC, or of a token function. It may be nil.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus returns the status as it arrived, with its details, or one with the code and the message.
func (e *Error) GRPCStatus() *status.Status {
	if e.received != nil {
		return e.received
	}
	return status.New(e.Code, e.Message)
}

// FromError reads the error of a call that was made with the generated code. It returns false for nil and for
// an error that has no status. For one contact of a batch or a stream, give it
// status.FromProto(result.GetError()).Err().
func FromError(err error) (*Error, bool) {
	if known := (*Error)(nil); errors.As(err, &known) {
		return known, known != nil
	}
	received, ok := status.FromError(err)
	if !ok || err == nil {
		return nil, false
	}
	return fromStatus(received, err), true
}

func fromStatus(received *status.Status, cause error) *Error {
	read := &Error{Code: received.Code(), Message: received.Message(), received: received, cause: cause}
	if read.Code > codes.Unauthenticated {
		read.Code = codes.Unknown
	}
	for _, detail := range received.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				read.Reason = Reason(detail.GetReason())
			}
		case *errdetails.BadRequest:
			for _, violation := range slices.Backward(detail.GetFieldViolations()) {
				read.Field = violation.GetField()
			}
		case *errdetails.RetryInfo:
			read.RetryAfter = max(0, detail.GetRetryDelay().AsDuration())
		}
	}
	return read
}

// newError is the error of a call with this context. It has a status, or is an *Error.
func newError(ctx context.Context, err error) *Error {
	read, _ := FromError(err)
	switch {
	case read.received == nil:
	case read.Code == codes.DeadlineExceeded:
		read.cause = context.DeadlineExceeded
	// A call that a proxy cancels was not cancelled by its context.
	case read.Code == codes.Canceled && ctx.Err() != nil:
		read.cause = ctx.Err()
	}
	return read
}

// refused is the error of an argument that the package does not accept.
func refused(field, message string) *Error {
	return &Error{Code: codes.InvalidArgument, Field: field, Message: message}
}

// outdated is the error of an answer that was added to the contract after this version of the package.
func outdated() *Error {
	return &Error{Code: codes.Unknown, Message: "this version does not know the answer of the server: update the package"}
}

// IsReason says that err, or an error that it wraps, has one of these reasons.
func IsReason(err error, reasons ...Reason) bool {
	read, ok := FromError(err)
	return ok && slices.Contains(reasons, read.Reason)
}

// IsNotOnWhatsApp says that the number has no WhatsApp account.
func IsNotOnWhatsApp(err error) bool { return IsReason(err, ReasonNotOnWhatsApp) }

// IsNotCached says that a call with OnlyIfCached found nothing acceptable in the cache.
func IsNotCached(err error) bool { return IsReason(err, ReasonNotCached) }

// IsRateLimited says that the service or Hypersender limits the calls of the instance.
func IsRateLimited(err error) bool {
	return IsReason(err, ReasonRateLimited, ReasonUpstreamRateLimited)
}

// IsCallerUnknown says that the service does not know the token or the certificate of the call.
func IsCallerUnknown(err error) bool { return IsReason(err, ReasonCallerUnknown) }

// IsRetryable says that the same call may succeed later: after RetryAfter, or with a longer deadline.
func IsRetryable(err error) bool {
	read, ok := FromError(err)
	return ok && (read.RetryAfter > 0 || read.Code == codes.DeadlineExceeded)
}
