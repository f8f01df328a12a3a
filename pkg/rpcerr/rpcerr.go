package rpcerr

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Domain of every ErrorInfo.
const Domain = "parley"

// Error is an error with everything that the wire carries of it. Servers make
// one with New, Invalid or FromError, clients get one from Parse.
type Error struct {
	// Code of the gRPC status.
	Code codes.Code
	// Reason tells errors of one code apart.
	Reason errorv1.Reason
	// Message is for people: what is wrong and what to do.
	Message string
	// Violations are the fields at fault, for INVALID_ARGUMENT.
	Violations []Violation
	// Metadata is for programs, for example the lag behind a token. Nil for none.
	Metadata map[string]string
	// RetryAfter is how long to wait before trying again; 0 for no advice.
	RetryAfter time.Duration

	cause error
}

// Violation is one field that breaks a bound.
type Violation struct {
	// Field is the path to it from the request, for example
	// `interaction.identifiers[0].kind`.
	Field string
	// Rule that it breaks. Servers give it as protovalidate names it, for
	// example `string.max_len`; the wire's form, which clients see, is
	// `STRING_MAX_LEN`.
	Rule string
	// Message is for people.
	Message string
}

// Option adds to an error.
type Option func(*Error)

// WithCause keeps what lies behind the error, for errors.Is, errors.As and the
// log. It never reaches the wire.
func WithCause(err error) Option { return func(e *Error) { e.cause = err } }

// WithMetadata adds one entry of metadata.
func WithMetadata(key, value string) Option {
	return func(e *Error) {
		if e.Metadata == nil {
			e.Metadata = map[string]string{}
		}
		e.Metadata[key] = value
	}
}

// WithRetryAfter advises to wait that long before trying again.
func WithRetryAfter(d time.Duration) Option { return func(e *Error) { e.RetryAfter = d } }

// WithViolations names the fields at fault.
func WithViolations(violations ...Violation) Option {
	return func(e *Error) { e.Violations = append(e.Violations, violations...) }
}

// New makes an error of a code and a reason with a message for people.
func New(code codes.Code, reason errorv1.Reason, message string, opts ...Option) error {
	e := &Error{Code: code, Reason: reason, Message: message}
	for _, o := range opts {
		o(e)
	}
	return e
}

// Invalid is INVALID_ARGUMENT with INVALID_FIELD and these violations. Its
// message names the first ones.
func Invalid(violations ...Violation) error {
	const named = 3
	var b strings.Builder
	b.WriteString("invalid request")
	for i, v := range violations {
		if i == named {
			b.WriteString("; and more")
			break
		}
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		if v.Field != "" {
			b.WriteString(v.Field)
			b.WriteString(": ")
		}
		b.WriteString(v.Message)
	}
	return New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, b.String(), WithViolations(violations...))
}

// InvalidField is Invalid for one field that a handler itself found at fault.
func InvalidField(field, message string) error {
	return Invalid(Violation{Field: field, Message: message})
}

// Error is the message, behind it the code and the reason.
func (e *Error) Error() string {
	name := e.Code.String()
	if e.Reason != errorv1.Reason_REASON_UNSPECIFIED {
		name += "/" + reasonName(e.Reason)
	}
	return e.Message + " (" + name + ")"
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus is what goes over the wire. Handlers may return an *Error as it is.
func (e *Error) GRPCStatus() *status.Status {
	info := &errdetails.ErrorInfo{Domain: Domain, Reason: reasonName(e.Reason), Metadata: e.Metadata}
	details := []protoadapt.MessageV1{info}
	if len(e.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range e.Violations {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: v.Field, Description: v.Message, Reason: wireRule(v.Rule),
			})
		}
		details = append(details, bad)
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	bare := status.New(e.Code, strings.ToValidUTF8(e.Message, "\uFFFD"))
	full, err := bare.WithDetails(details...)
	if err != nil {
		// Metadata that is no UTF-8: the code and the text still say it.
		return bare
	}
	return full
}

// Parse gives an error that came over the wire, or an *Error that did not, its
// type back. It is false for nil and for what is neither. A status of another
// service parses too, with the reason unspecified.
func Parse(err error) (*Error, bool) {
	if err == nil {
		return nil, false
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e, true
	}
	s, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	e := &Error{Code: s.Code(), Message: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != Domain {
				continue
			}
			e.Reason = errorv1.Reason(errorv1.Reason_value[reasonPrefix+d.GetReason()])
			if len(d.GetMetadata()) > 0 {
				e.Metadata = maps.Clone(d.GetMetadata())
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{Field: v.GetField(), Rule: v.GetReason(), Message: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return e, true
}

// ReasonOf is the reason of an error, on either side of the wire; unspecified
// where it has none.
func ReasonOf(err error) errorv1.Reason {
	if e, ok := Parse(err); ok {
		return e.Reason
	}
	return errorv1.Reason_REASON_UNSPECIFIED
}

// CodeOf is the code of an error: OK for nil, Unknown where it has none.
func CodeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if e, ok := Parse(err); ok {
		return e.Code
	}
	return codes.Unknown
}

// ViolationsOf are the fields at fault, on either side of the wire.
func ViolationsOf(err error) []Violation {
	if e, ok := Parse(err); ok {
		return slices.Clone(e.Violations)
	}
	return nil
}

const reasonPrefix = "REASON_"

func reasonName(r errorv1.Reason) string { return strings.TrimPrefix(r.String(), reasonPrefix) }

// wireRule brings a rule into the form that google.rpc.BadRequest asks for:
// [A-Z][A-Z0-9_]+[A-Z0-9], at most 63 characters.
func wireRule(rule string) string {
	const most = 63
	up := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, rule)
	return up[:min(len(up), most)]
}
