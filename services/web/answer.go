package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/parleyhq/parley/pkg/bus"
)

// Codes that answers and quarantined bodies carry, for programs.
const (
	codeInvalidJSON   = "invalid_json"
	codeInvalidGzip   = "invalid_gzip"
	codeInvalidBody   = "invalid_body"
	codeInvalidEvent  = "invalid_event"
	codeTooManyEvents = "too_many_events"
	codeTooLarge      = "body_too_large"
	codeIncomplete    = "incomplete_body"
	codeTimeout       = "timeout"
	codeWriteKey      = "invalid_write_key"
	codeRate          = "rate_limited"
	codeFull          = "full"
	codeUnavailable   = "unavailable"
	codeOrigin        = "origin_not_allowed"
	codeMethod        = "method_not_allowed"
	codeNotFound      = "not_found"
	codeInvalidLink   = "invalid_link"
)

// How long a client is told to wait, in seconds, where nothing better is known.
const (
	retryFull        = 30
	retryUnavailable = 5
)

// problem is why a request is not answered with 200.
type problem struct {
	status  int
	code    string
	message string
	// retryAfter in seconds; 0 for none.
	retryAfter int
	// quarantine says that the body is to be kept all the same.
	quarantine bool
}

// Rejected names a bad event in an answer.
type Rejected struct {
	// Index of the event in the batch, from 0.
	Index int `json:"index"`
	// MessageID as the client said it, where it did.
	MessageID string `json:"messageId,omitempty"`
	// Violations, one for each field that is wrong.
	Violations []RejectedField `json:"violations"`
}

// RejectedField is a field of a call that breaks a rule.
type RejectedField struct {
	// Field of the call, for example `context.page.url`; empty for the call as a whole.
	Field string `json:"field"`
	// Rule that it breaks, for programs.
	Rule string `json:"rule"`
	// Message for people.
	Message string `json:"message"`
}

// Answer is the body of every answer to a call.
type Answer struct {
	// Success is true with status 200.
	Success bool `json:"success"`
	// Accepted is how many events were taken.
	Accepted int `json:"accepted"`
	// Code says what went wrong, for programs.
	Code string `json:"code,omitempty"`
	// Message says it for people.
	Message string `json:"message,omitempty"`
	// Rejected are the events that were not taken; they are kept in quarantine.
	Rejected []Rejected `json:"rejected,omitempty"`
}

func bodyTooLarge() *problem {
	return &problem{
		status: http.StatusRequestEntityTooLarge, code: codeTooLarge,
		message: "the body is over " + strconv.Itoa(MaxBodyBytes) + " bytes",
	}
}

func unknownKey() problem {
	// Without WWW-Authenticate: a browser would ask the visitor for a password.
	return problem{status: http.StatusUnauthorized, code: codeWriteKey, message: "the write key is missing or unknown"}
}

func forbiddenOrigin() problem {
	return problem{status: http.StatusForbidden, code: codeOrigin, message: "this origin may not call here"}
}

// notTaken is the answer where the events could not be handed on. Whatever the
// reason, sending them again is safe.
func notTaken(err error) problem {
	switch {
	case errors.Is(err, bus.ErrFull):
		return problem{
			status: http.StatusServiceUnavailable, code: codeFull, retryAfter: retryFull,
			message: "no room at the moment",
		}
	case errors.Is(err, bus.ErrTooLarge):
		return problem{
			status: http.StatusRequestEntityTooLarge, code: codeTooLarge,
			message: "an event is too large to be handed on",
		}
	default:
		return problem{
			status: http.StatusServiceUnavailable, code: codeUnavailable, retryAfter: retryUnavailable,
			message: "not available at the moment",
		}
	}
}

func tooFast(wait time.Duration) problem {
	seconds := int((wait + time.Second - 1) / time.Second)
	return problem{
		status: http.StatusTooManyRequests, code: codeRate, retryAfter: max(seconds, 1),
		message: "more events than this write key may send",
	}
}

// refuse answers with a problem.
func (g *Gateway) refuse(w http.ResponseWriter, p problem) {
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	g.answer(w, p.status, &Answer{Code: p.code, Message: p.message})
}

var taken = []byte(`{"success":true,"accepted":`)

func (g *Gateway) answer(w http.ResponseWriter, status int, a *Answer) {
	var text []byte
	if a.Success && len(a.Rejected) == 0 {
		text = append(strconv.AppendInt(append(make([]byte, 0, 64), taken...), int64(a.Accepted), 10), '}')
	} else {
		var err error
		if text, err = json.Marshal(a); err != nil {
			g.log.Error("write an answer", "error", err)
			status, text = http.StatusInternalServerError, []byte(`{"success":false}`)
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		g.log.Debug("client left before its answer", "error", err)
	}
}

// rejected makes the answer's entry for a bad event. A messageId that is
// itself the matter is cut.
func rejected(i int, m *message) Rejected {
	r := Rejected{Index: i, MessageID: cut(m.messageID, MaxMessageID), Violations: make([]RejectedField, len(m.violations))}
	for j, v := range m.violations {
		r.Violations[j] = RejectedField{Field: v.Field, Rule: v.Rule, Message: v.Message}
	}
	return r
}

// gone says that the client left, which is no failure of ours.
func gone(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
