package web

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// call serves one of the tracking calls: reads, maps, hands on, answers.
func (g *Gateway) call(k kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		received := g.deps.Now()
		g.limitReading(w)
		if !g.allowOrigin(w, r) {
			g.refuse(w, forbiddenOrigin())
			return
		}
		var key *Key
		if writeKey, said := writeKeyOf(r); said {
			found, ok := g.deps.Keys.Lookup(writeKey)
			if !ok {
				g.refuse(w, unknownKey())
				return
			}
			key = &found
		}
		b, p := g.readBody(w, r)
		defer b.release()
		in := &intake{g: g, kind: k, key: key, received: received}
		if p != nil {
			in.unreadable(w, r, b.raw, *p)
			return
		}
		in.take(w, r, b.text)
	}
}

// intake is the handling of one request's body.
type intake struct {
	g        *Gateway
	kind     kind
	key      *Key
	received time.Time
}

// envelope is what a body has around its calls.
type envelope struct {
	writeKey string
	sentAt   time.Time
	context  callContext
	calls    []string
}

func (in *intake) take(w http.ResponseWriter, r *http.Request, text []byte) {
	if err := checkJSON(text); err != nil {
		in.unreadable(w, r, text, problem{
			status: http.StatusBadRequest, code: codeInvalidJSON, message: err.Error(), quarantine: true,
		})
		return
	}
	env, p := open(string(text), in.kind)
	if in.key == nil {
		key, ok := in.g.deps.Keys.Lookup(env.writeKey)
		if !ok || env.writeKey == "" {
			in.g.refuse(w, unknownKey())
			return
		}
		in.key = &key
	}
	if p != nil {
		in.unreadable(w, r, text, *p)
		return
	}
	if wait := in.g.limit(in.key, max(1, len(env.calls)), in.received); wait > 0 {
		in.g.refuse(w, tooFast(wait))
		return
	}
	batch, bad := in.mapped(&env, r)
	if !in.publish(w, r, batch) {
		return
	}
	in.g.metrics.accepted.Add(float64(len(env.calls) - len(bad)))
	in.g.metrics.rejected.Add(float64(len(bad)))
	a := &Answer{Success: true, Accepted: len(env.calls) - len(bad), Rejected: bad}
	status := http.StatusOK
	if a.Accepted == 0 && len(bad) > 0 {
		a.Success, a.Code, a.Message = false, codeInvalidEvent, "no event could be taken"
		status = http.StatusBadRequest
	}
	if len(bad) > 0 {
		in.g.log.Debug("bad events went to quarantine", "tenant", in.key.Tenant, "source", in.key.source(),
			"accepted", a.Accepted, "rejected", len(bad))
	}
	in.g.answer(w, status, a)
}

// open takes a body apart, which is valid JSON.
func open(text string, k kind) (envelope, *problem) {
	var env envelope
	if k != kindBatch {
		env.calls = []string{text}
		if isObject(text) {
			for name, value := range members(text) {
				if unquote(name) == "writeKey" {
					set(&env.writeKey, value)
				}
			}
		}
		return env, nil
	}
	calls, readable := "", true
	if isObject(text) {
		for name, value := range members(text) {
			switch unquote(name) {
			case "writeKey":
				set(&env.writeKey, value)
			case "sentAt":
				env.sentAt, _ = parseTime(value)
			case "context":
				// It is part of every call: where it cannot be kept none is taken.
				if readable = utf8.ValidString(value); readable && isObject(value) {
					env.context.read(value)
					// A batch may have calls of several people: who somebody is, is for each call to say.
					env.context.traits, env.context.session = "", ""
				}
			case "batch":
				calls = value
			default:
			}
		}
	} else if isArray(text) {
		calls = text
	}
	if !isArray(calls) {
		return env, &problem{
			status: http.StatusBadRequest, code: codeInvalidBody, quarantine: true,
			message: "want an object with an array `batch`",
		}
	}
	if !readable {
		return env, &problem{
			status: http.StatusBadRequest, code: codeInvalidBody, quarantine: true,
			message: "`context` is not UTF-8",
		}
	}
	for call := range elements(calls) {
		if len(env.calls) == MaxBatchEvents {
			return env, &problem{
				status: http.StatusBadRequest, code: codeTooManyEvents, quarantine: true,
				message: "more than " + strconv.Itoa(MaxBatchEvents) + " events",
			}
		}
		env.calls = append(env.calls, call)
	}
	return env, nil
}

// mapped are the events of a body's calls, and the bad ones.
func (in *intake) mapped(env *envelope, r *http.Request) (*interactionv1.IngressBatch, []Rejected) {
	a := arrival{received: in.received, sentAt: env.sentAt, retry: retried(r)}
	if fromBrowser(r) {
		a.ip, a.userAgent = in.g.clientIP(r), cleanHeader(r.UserAgent())
	}
	k := in.kind
	if k == kindBatch {
		k = kindUnknown
	}
	rd := newReader()
	defer rd.done()
	batch := &interactionv1.IngressBatch{}
	var bad []Rejected
	for i, raw := range env.calls {
		var m message
		rd.read(&m, raw, k, &env.context)
		batch.Events, m.violations = in.g.mapper.events(batch.GetEvents(), &m, in.key, &a)
		if len(m.violations) > 0 {
			bad = append(bad, rejected(i, &m))
			batch.Quarantined = append(batch.Quarantined,
				in.quarantined(codeInvalidEvent, inWords(m.violations), []byte(raw), mediaJSON))
		}
	}
	return batch, bad
}

// publish hands a batch on; where that fails it answers, and says false.
func (in *intake) publish(w http.ResponseWriter, r *http.Request, batch *interactionv1.IngressBatch) bool {
	if len(batch.GetEvents()) == 0 && len(batch.GetQuarantined()) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(r.Context(), in.g.cfg.PublishTimeout)
	defer cancel()
	err := in.g.deps.Publisher.Publish(ctx, in.key.Tenant, channelWeb, batch)
	if err == nil {
		in.g.metrics.quarantined.Add(float64(len(batch.GetQuarantined())))
		return true
	}
	if !gone(r.Context()) {
		in.g.log.Warn("hand on what a request brought", "tenant", in.key.Tenant, "source", in.key.source(),
			"events", len(batch.GetEvents()), "error", err)
	}
	in.g.refuse(w, notTaken(err))
	return false
}

// unreadable answers for a body that is not understood as a whole. Under a
// valid key it is kept, if it is one of those.
func (in *intake) unreadable(w http.ResponseWriter, r *http.Request, raw []byte, p problem) {
	if in.key != nil {
		if wait := in.g.limit(in.key, 1, in.received); wait > 0 {
			in.g.refuse(w, tooFast(wait))
			return
		}
		if p.quarantine && len(raw) > 0 {
			media := mediaJSON
			if p.code == codeInvalidGzip {
				media = mediaGzip
			}
			kept := in.quarantined(p.code, p.message, raw, media)
			if !in.publish(w, r, &interactionv1.IngressBatch{Quarantined: []*interactionv1.QuarantinedBody{kept}}) {
				return
			}
		}
		in.g.log.Debug("refused a body", "tenant", in.key.Tenant, "source", in.key.source(), "code", p.code)
	}
	in.g.refuse(w, p)
}

const (
	mediaJSON = "application/json"
	mediaGzip = "application/gzip"

	// maxKeptBody and maxReason bound what is kept of a body, as the contract says.
	maxKeptBody = 256 << 10
	maxReason   = 2048
)

// quarantined is a body that failed a check. Its id is a function of what it
// is, so that a retry is kept once.
func (in *intake) quarantined(code, reason string, raw []byte, media string) *interactionv1.QuarantinedBody {
	digest := event.ContentDigest([]byte(code), raw)
	return &interactionv1.QuarantinedBody{
		Id:           event.DeterministicID(in.key.Tenant, in.key.source(), "quarantine "+hex.EncodeToString(digest)).String(),
		Tenant:       in.key.Tenant,
		Source:       in.key.source(),
		Code:         code,
		Reason:       cut(reason, maxReason),
		MediaType:    media,
		Body:         append([]byte(nil), raw[:min(len(raw), maxKeptBody)]...),
		BodySize:     int64(len(raw)),
		ReceivedTime: timestamppb.New(in.received),
	}
}

// retried says that the client has tried to send this before.
func retried(r *http.Request) bool {
	n, err := strconv.Atoi(r.Header.Get("X-Retry-Count"))
	return err == nil && n > 0
}
