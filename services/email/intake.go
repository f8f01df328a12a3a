package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/event"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/email/internal/auth"
)

// Intake makes events of mails and hands them on. Its methods may be called
// concurrently. It starts no goroutines that outlive a call.
type Intake struct {
	cfg      Config
	deps     Deps
	verifier *auth.Verifier // nil without a resolver
	memory   *memory
	metrics  *metrics
	log      *slog.Logger
	tracer   trace.Tracer
}

// Config of the intake.
type Config struct {
	// Book knows the addresses that take mail. Required.
	Book *Book
	// Hostname names us in what is noted of a sender's authentication.
	// Defaults to localhost.
	Hostname string
	// MaxBytes of a mail. Defaults to DefaultMaxBytes; at most what the Blobs take.
	MaxBytes int64
	// MaxBytesInFlight bounds the bytes of the mails that are being taken at a
	// time. Defaults to 128 MiB; at least MaxBytes.
	MaxBytesInFlight int64
	// Relays are networks of one's own mail servers. What they say of a sender
	// is believed if TrustedServers names them, and their address is not the
	// sender's. Loopback and private networks count as such. Defaults to none.
	Relays []netip.Prefix
	// TrustedServers are those whose Authentication-Results are believed: on
	// mail from a relay and on imported mail. Defaults to none.
	TrustedServers []TrustedServer
	// AuthenticationTimeout bounds the look-ups for one mail. Defaults to 5s.
	AuthenticationTimeout time.Duration
}

// TrustedServer is a server whose Authentication-Results (RFC 8601) are believed.
type TrustedServer struct {
	// ID is what it calls itself there, for example `mx.example.com`.
	ID string
	// Fields is how many it writes on one mail. Defaults to 1.
	Fields int
}

// Deps are what the intake needs of others.
type Deps struct {
	// Publisher takes the events. Required.
	Publisher Publisher
	// Blobs keep what is too large for events. Required. *blob.Vault is one.
	Blobs Blobs
	// Resolver asks the DNS; *net.Resolver is one. Defaults to none: a sender is
	// then believed as far as reports of trusted servers go.
	Resolver Resolver
	// Validator of events. Defaults to a new one.
	Validator *event.Validator
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// Logger gets no personal data. Defaults to slog.Default.
	Logger *slog.Logger
	// Registerer of the metrics. Defaults to none.
	Registerer prometheus.Registerer
}

// Publisher takes what one mail brought, called concurrently. Both methods
// return nil errors once all of it is safe. Their errors are told apart by
// bus.ErrFull, bus.ErrTooLarge and bus.ErrUnavailable; any other counts as the
// last. *bus.Publisher is one.
type Publisher interface {
	Publish(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) error
	// PublishAndWait also waits for what became of each event.
	PublishAndWait(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error)
}

// Blobs keep contents durably under references, the same for the same content;
// called concurrently.
type Blobs interface {
	Put(ctx context.Context, tenant string, content io.ReadSeeker) (blob.Ref, error)
	// MaxBytes is the largest content that Put takes.
	MaxBytes() int64
}

const (
	// DefaultMaxBytes of a mail: an attachment of 20 MB in base64 fits.
	DefaultMaxBytes = 32 << 20

	defaultMaxBytesInFlight      = 128 << 20
	defaultAuthenticationTimeout = 5 * time.Second

	// channel that mails travel on.
	channel = "email"
	// source of all mail events: the Message-ID names a mail whichever way it came.
	source = "email"
	// maxReceived is how many relays a mail may have passed, as Postfix has it
	// (hopcount_limit); real mail has up to twenty.
	maxReceived = 50
)

// Via is the way that a mail came.
type Via string

// The ways in.
const (
	ViaSMTP     Via = "smtp"
	ViaMailgun  Via = "mailgun"
	ViaPostmark Via = "postmark"
	ViaSendGrid Via = "sendgrid"
	ViaImport   Via = "import"
)

// Envelope is how a mail came.
type Envelope struct {
	Via Via
	// From is the return path; empty for the null one.
	From string
	// Recipients are the envelope's, as written. Of an import they are empty.
	Recipients []string
	// Tenant and Mailbox are an import's: whose it is, and where it was found,
	// which may be empty.
	Tenant, Mailbox string
	// HELO is what an SMTP client called itself, ClientIP its address; invalid
	// where it is not known.
	HELO     string
	ClientIP netip.Addr
	// Report is what a webhook's vendor says of the sender, Rebuilt that he gave
	// fields and not the raw mail.
	Report  auth.Report
	Rebuilt bool
	// ReceivedTime is when the gateway took it. MailboxTime is when the mailbox
	// of an import did, zero where that is not known.
	ReceivedTime, MailboxTime time.Time
	// Backfill marks events as history.
	Backfill bool
}

// Outcome is what a mail became.
type Outcome struct {
	// Events and Quarantined count over all tenants.
	Events, Quarantined int
	// EventID is the first event's.
	EventID string
}

// The errors of a mail that will never be taken. Any other error is for now:
// the same mail again may be.
var (
	// ErrLoop: it has passed too many relays.
	ErrLoop = errors.New("the mail goes round in a loop")
	// ErrNoRecipient: none of its recipients is known.
	ErrNoRecipient = errors.New("no recipient is known here")
	// ErrMailTooLarge: it has more than Config.MaxBytes.
	ErrMailTooLarge = errors.New("the mail is too large")
)

// NewIntake makes an intake. All that is wrong with the configuration is in the error.
func NewIntake(cfg Config, deps Deps) (*Intake, error) {
	if deps.Publisher == nil || deps.Blobs == nil || cfg.Book == nil {
		return nil, errors.New("mail intake: a publisher, blobs and addresses are required")
	}
	setDefault(&cfg.Hostname, "localhost")
	setDefault(&cfg.MaxBytes, DefaultMaxBytes)
	setDefault(&cfg.MaxBytesInFlight, max(defaultMaxBytesInFlight, cfg.MaxBytes))
	setDefault(&cfg.AuthenticationTimeout, defaultAuthenticationTimeout)
	switch most := deps.Blobs.MaxBytes(); {
	case cfg.MaxBytes < 0 || cfg.MaxBytes > most:
		return nil, fmt.Errorf("mail intake: mails of %d bytes: the blob store takes %d", cfg.MaxBytes, most)
	case cfg.MaxBytesInFlight < cfg.MaxBytes:
		return nil, fmt.Errorf("mail intake: %d bytes in flight do not hold one mail of %d", cfg.MaxBytesInFlight, cfg.MaxBytes)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	if deps.Validator == nil {
		v, err := event.NewValidator(&interactionv1.QuarantinedBody{})
		if err != nil {
			return nil, fmt.Errorf("mail intake: %w", err)
		}
		deps.Validator = v
	}
	t := &Intake{
		cfg: cfg, deps: deps, memory: newMemory(cfg.MaxBytesInFlight), log: deps.Logger,
		tracer: otel.Tracer("github.com/parleyhq/parley/services/email"),
	}
	if deps.Resolver != nil {
		t.verifier = auth.NewVerifier(auth.Config{
			Resolver: auth.NewCache(newPatientResolver(deps.Resolver, deps.Now), deps.Now), Timeout: cfg.AuthenticationTimeout,
		})
	}
	var err error
	if t.metrics, err = newMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("mail intake: %w", err)
	}
	return t, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Take makes events of a mail and returns once they are safe, for every tenant
// that a recipient belongs to. Its errors are ErrLoop, ErrNoRecipient and
// ErrMailTooLarge; every other one, also the context's, means: not taken as far
// as can be told, send it again. It keeps nothing of raw.
func (t *Intake) Take(ctx context.Context, env Envelope, raw []byte) (_ Outcome, err error) {
	began := t.deps.Now()
	ctx, span := t.tracer.Start(ctx, "email take", trace.WithAttributes(
		attribute.String("parley.via", string(env.Via)), attribute.Int("parley.bytes", len(raw))))
	defer func() {
		if err != nil {
			span.SetStatus(codes.Error, outcomeOf(err))
		}
		span.End()
		t.metrics.taken(env.Via, outcomeOf(err), len(raw), t.deps.Now().Sub(began))
	}()
	deliveries, err := t.compose(ctx, env, raw)
	if err != nil {
		return Outcome{}, err
	}
	var out Outcome
	for _, d := range deliveries {
		if err := t.deps.Publisher.Publish(ctx, d.tenant, channel, d.batch); err != nil {
			return Outcome{}, fmt.Errorf("hand on a mail of tenant %s: %w", d.tenant, err)
		}
		t.metrics.published(d.batch)
		out.Events += len(d.batch.GetEvents())
		out.Quarantined += len(d.batch.GetQuarantined())
		if out.EventID == "" && len(d.batch.GetEvents()) > 0 {
			out.EventID = d.batch.GetEvents()[0].GetId()
		}
	}
	return out, nil
}

// outcomeOf is a mail's outcome as metrics name it.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "taken"
	case errors.Is(err, ErrLoop):
		return "loop"
	case errors.Is(err, ErrNoRecipient):
		return "no_recipient"
	case errors.Is(err, ErrMailTooLarge):
		return "too_large"
	default:
		return "later"
	}
}

// permanent says that a mail will never be taken.
func permanent(err error) bool {
	return errors.Is(err, ErrLoop) || errors.Is(err, ErrNoRecipient) || errors.Is(err, ErrMailTooLarge)
}
