package webhook

import (
	"errors"
	"fmt"
)

// Outcome is how a request ended, as far as its vendor is concerned.
type Outcome int

// The outcomes.
const (
	// Accepted: the mail, or the request in quarantine, is safe here.
	Accepted Outcome = iota
	// Refused for good: sending it again would not help.
	Refused
	// Unauthenticated: the credentials do not hold. Where a vendor tells the
	// difference it sends the mail again later: the operator may have got the
	// secret wrong.
	Unauthenticated
	// RetryLater: not now.
	RetryLater
)

// OutcomeOf is the outcome that the package's table gives an error. A
// MalformedError is Accepted: the request must be in quarantine first.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Accepted
	}
	if _, is := errors.AsType[*MalformedError](err); is {
		return Accepted
	}
	if _, is := errors.AsType[*CredentialsError](err); is {
		return Unauthenticated
	}
	if _, is := errors.AsType[*TooLargeError](err); is {
		return Refused
	}
	if _, is := errors.AsType[*ContentTypeError](err); is {
		return Refused
	}
	return RetryLater
}

// CredentialsError is a request that does not prove where it comes from.
type CredentialsError struct {
	Vendor Vendor
	Reason CredentialsReason
}

// CredentialsReason says what was wrong with credentials.
type CredentialsReason string

// The reasons.
const (
	// ReasonMissing: there are none.
	ReasonMissing CredentialsReason = "missing"
	// ReasonWrong: they do not match.
	ReasonWrong CredentialsReason = "wrong"
	// ReasonStale: the signature is too old or of the future.
	ReasonStale CredentialsReason = "stale"
	// ReasonReplayed: the signature came before, with another mail.
	ReasonReplayed CredentialsReason = "replayed"
	// ReasonUnconfigured: the endpoint has no secret to check with.
	ReasonUnconfigured CredentialsReason = "unconfigured"
)

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("%s webhook: credentials %s", e.Vendor, e.Reason)
}

// MalformedError is an authentic request that cannot be understood. It belongs
// into quarantine.
type MalformedError struct {
	Vendor Vendor
	// Reason is a short text of ours, with nothing of the request.
	Reason string
	// Err is the cause; may be nil, and may show parts of the request.
	Err error
}

func (e *MalformedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s webhook: %s: %v", e.Vendor, e.Reason, e.Err)
	}
	return fmt.Sprintf("%s webhook: %s", e.Vendor, e.Reason)
}

func (e *MalformedError) Unwrap() error { return e.Err }

// TooLargeError is a body over the limit.
type TooLargeError struct {
	// Limit in bytes.
	Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("webhook: the body is longer than %d bytes", e.Limit)
}

// ContentTypeError is a body of a type that the vendor does not send.
type ContentTypeError struct {
	Vendor Vendor
	// Got is the media type, at most 100 bytes.
	Got string
}

func (e *ContentTypeError) Error() string {
	return fmt.Sprintf("%s webhook: content type %q", e.Vendor, e.Got)
}
