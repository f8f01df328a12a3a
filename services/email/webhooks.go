package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/parleyhq/parley/pkg/config"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/email/internal/auth"
	"github.com/parleyhq/parley/services/email/internal/webhook"
)

// Webhooks takes mail that vendors receive and hand over by HTTP:
//
//	POST /v1/mail/mailgun, /v1/mail/mailgun/mime   routes of Mailgun: forward()
//	POST /v1/mail/postmark                         inbound webhook of Postmark
//	POST /v1/mail/sendgrid                         Inbound Parse of SendGrid
//
// An endpoint without its secret is not there. What a request is answered with
// is its vendor's way to say done, never again, or later; see package webhook.
// Done is said once the mail is safe, or the request in quarantine, where it is
// authentic and cannot be understood.
type Webhooks struct {
	intake *Intake
	cfg    WebhookConfig
	memory *memory
}

// WebhookConfig of the webhooks.
type WebhookConfig struct {
	// MailgunKey is the account's HTTP webhook signing key. Defaults to none: the
	// endpoint is off.
	MailgunKey config.Secret
	// MailgunChecks believes what the fields X-Mailgun-Spf and
	// X-Mailgun-Dkim-Check-Result say of a mail that comes in fields. Only where the
	// route's spam filter is on, which writes them on every mail: else they are
	// the sender's own. Defaults to false.
	MailgunChecks bool
	// Postmark and SendGrid are user and password in the URL that the vendor
	// calls. Without a password, the default, the endpoint is off.
	Postmark, SendGrid Credentials
	// QuarantineTenant gets requests that name no recipient that could be read.
	// Defaults to the book's first tenant.
	QuarantineTenant string
	// MaxBodyBytes of a request. Defaults to 64 MiB, what the vendors' largest
	// mails come to.
	MaxBodyBytes int64
	// ReadTimeout for a whole body. Defaults to 2m.
	ReadTimeout time.Duration
	// TakeTimeout bounds what is done with a whole mail. Defaults to 1m.
	TakeTimeout time.Duration
}

// Credentials are a user and password.
type Credentials struct {
	User     string
	Password config.Secret
}

// PathWebhooks is where Handler's endpoints begin.
const PathWebhooks = "/v1/mail/"

// webhooksInFlight is how many of the largest bodies are read at a time. They
// have room of their own: whoever sends them cannot keep SMTP from its.
const webhooksInFlight = 2

// NewWebhooks makes the endpoints.
func NewWebhooks(intake *Intake, cfg WebhookConfig) (*Webhooks, error) {
	if intake == nil {
		return nil, errors.New("mail webhooks: an intake is required")
	}
	setDefault(&cfg.QuarantineTenant, intake.cfg.Book.Tenants()[0])
	setDefault(&cfg.MaxBodyBytes, int64(webhook.DefaultMaxBytes))
	setDefault(&cfg.ReadTimeout, 2*time.Minute)
	setDefault(&cfg.TakeTimeout, time.Minute)
	if cfg.MaxBodyBytes < 0 {
		return nil, fmt.Errorf("mail webhooks: bodies of %d bytes", cfg.MaxBodyBytes)
	}
	return &Webhooks{intake: intake, cfg: cfg, memory: newMemory(webhooksInFlight * cfg.MaxBodyBytes)}, nil
}

// Handler serves everything under PathWebhooks.
func (h *Webhooks) Handler() http.Handler {
	mux := http.NewServeMux()
	if h.cfg.MailgunKey != "" {
		mailgun := h.endpoint(ViaMailgun, webhook.Mailgun{Key: h.cfg.MailgunKey, Now: h.intake.deps.Now, Tokens: webhook.NewTokens()})
		mux.Handle("POST "+PathWebhooks+"mailgun", mailgun)
		mux.Handle("POST "+PathWebhooks+"mailgun/mime", mailgun)
	}
	if c := h.cfg.Postmark; c.Password != "" {
		mux.Handle("POST "+PathWebhooks+"postmark", h.endpoint(ViaPostmark, webhook.Postmark{Basic: &webhook.BasicAuth{User: c.User, Password: c.Password}}))
	}
	if c := h.cfg.SendGrid; c.Password != "" {
		mux.Handle("POST "+PathWebhooks+"sendgrid", h.endpoint(ViaSendGrid, webhook.SendGrid{Basic: &webhook.BasicAuth{User: c.User, Password: c.Password}}))
	}
	return mux
}

// endpoint serves one vendor.
func (h *Webhooks) endpoint(via Via, decoder webhook.Decoder) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outcome, err := h.take(w, r, via, decoder)
		status := decoder.Status(outcome)
		h.intake.metrics.requests.WithLabelValues(string(via), strconv.Itoa(status)).Inc()
		log := h.intake.log
		switch {
		case err == nil:
		case r.Context().Err() != nil:
			log.DebugContext(r.Context(), "a vendor left", "via", string(via), "error", err)
		case outcome == webhook.RetryLater:
			log.WarnContext(r.Context(), "a mail cannot be taken now", "via", string(via), "error", err)
		default:
			log.WarnContext(r.Context(), "refused a webhook", "via", string(via), "status", status, "error", err)
		}
		header := w.Header()
		header.Set("Content-Type", "text/plain; charset=utf-8")
		header.Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		if _, err := io.WriteString(w, answerText(outcome)); err != nil {
			log.DebugContext(r.Context(), "a vendor left before its answer", "via", string(via), "error", err)
		}
	})
}

func answerText(o webhook.Outcome) string {
	switch o {
	case webhook.Accepted:
		return "taken\n"
	case webhook.Refused:
		return "refused\n"
	case webhook.Unauthenticated:
		return "not authenticated\n"
	default:
		return "not now\n"
	}
}

// take takes one request.
func (h *Webhooks) take(w http.ResponseWriter, r *http.Request, via Via, decoder webhook.Decoder) (webhook.Outcome, error) {
	received := h.intake.deps.Now()
	if err := decoder.Admit(r.Header); err != nil {
		return webhook.OutcomeOf(err), err
	}
	// Deadlines are the network's, which knows the wall clock only. A writer
	// without them is one of a test.
	deadlines := http.NewResponseController(w)
	_ = deadlines.SetReadDeadline(time.Now().Add(h.cfg.ReadTimeout))
	_ = deadlines.SetWriteDeadline(time.Now().Add(h.cfg.ReadTimeout + h.cfg.TakeTimeout + writeTimeout))
	size := r.ContentLength
	if size < 0 || size > h.cfg.MaxBodyBytes {
		size = h.cfg.MaxBodyBytes
	}
	release, err := h.memory.hold(r.Context(), size)
	if err != nil {
		return webhook.RetryLater, err
	}
	defer release()
	in, req, err := webhook.Decode(r, decoder, h.cfg.MaxBodyBytes)
	if req.Body != nil {
		// From here on the server listens for the client to leave, and the deadline
		// would look like that. It stays where a body was not read to its end, which
		// the server tries before it goes on.
		_ = deadlines.SetReadDeadline(time.Time{})
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.TakeTimeout)
	defer cancel()
	env := Envelope{
		Via: via, From: in.EnvelopeFrom, Recipients: in.Recipients, ClientIP: in.Auth.ClientIP,
		Report: h.report(in), Rebuilt: in.Rebuilt, ReceivedTime: received,
	}
	if malformed, ok := errors.AsType[*webhook.MalformedError](err); ok {
		return h.quarantine(ctx, &env, req, malformed)
	}
	if err != nil {
		return webhook.OutcomeOf(err), err
	}
	if _, err := h.intake.Take(ctx, env, in.Raw); err != nil {
		if permanent(err) {
			return webhook.Refused, err
		}
		return webhook.RetryLater, err
	}
	return webhook.Accepted, nil
}

// report is what the vendor says of the sender.
func (h *Webhooks) report(in webhook.Inbound) auth.Report {
	switch in.Vendor {
	case webhook.VendorMailgun:
		// A raw mail's signatures can be checked here, whatever fields it has.
		if !h.cfg.MailgunChecks || !in.Rebuilt {
			return auth.Report{}
		}
		return auth.ReportMailgun(in.Auth.SPF, in.Auth.DKIM)
	case webhook.VendorPostmark:
		return auth.ReportPostmark(in.Auth.ReceivedSPF)
	case webhook.VendorSendGrid:
		return auth.ReportSendGrid(in.Auth.SPF, in.Auth.DKIM)
	default:
		return auth.Report{}
	}
}

// quarantine keeps a request that is authentic and cannot be understood.
func (h *Webhooks) quarantine(ctx context.Context, env *Envelope, req webhook.Request, malformed *webhook.MalformedError) (webhook.Outcome, error) {
	tenant := h.cfg.QuarantineTenant
	for _, r := range env.Recipients {
		if a, ok := h.intake.cfg.Book.lookup(r); ok {
			tenant = a.Tenant
			break
		}
	}
	body := h.intake.quarantined(env, tenant, codeMalformed, malformed.Reason, req.ContentType, req.Body)
	batch := &interactionv1.IngressBatch{Quarantined: []*interactionv1.QuarantinedBody{body}}
	if err := h.intake.deps.Publisher.Publish(ctx, tenant, channel, batch); err != nil {
		return webhook.RetryLater, fmt.Errorf("hand on a malformed request: %w", err)
	}
	h.intake.metrics.published(batch)
	return webhook.Accepted, malformed
}
