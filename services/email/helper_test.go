package email_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/email"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 30 * time.Second

var now = time.Date(2026, 3, 13, 9, 0, 0, 0, time.UTC)

// validator is shared: it is expensive to make.
var validator = sync.OnceValues(func() (*event.Validator, error) {
	return event.NewValidator(&interactionv1.QuarantinedBody{})
})

// publisher keeps what it is given, as long as err is nil.
type publisher struct {
	mu      sync.Mutex
	err     error
	failFor string // the tenant that err is for; empty for all
	batches map[string][]*interactionv1.IngressBatch
	seen    map[string][]byte // digests by event id
	wait    chan struct{}     // if set, publishing waits for it
}

func (p *publisher) Publish(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) error {
	_, err := p.PublishAndWait(ctx, tenant, channel, batch)
	return err
}

func (p *publisher) PublishAndWait(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	if p.wait != nil {
		select {
		case <-p.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil && (p.failFor == "" || p.failFor == tenant) {
		return nil, p.err
	}
	if channel != "email" {
		return nil, io.ErrUnexpectedEOF
	}
	if p.batches == nil {
		p.batches, p.seen = map[string][]*interactionv1.IngressBatch{}, map[string][]byte{}
	}
	p.batches[tenant] = append(p.batches[tenant], proto.CloneOf(batch))
	reply := &interactionv1.IngressReply{LogId: "00000000-0000-7000-8000-000000000001", Position: uint64(len(p.seen) + 1)}
	for _, ev := range batch.GetEvents() {
		result := &interactionv1.RecordResult{EventId: ev.GetId(), Outcome: interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED}
		if d, ok := p.seen[ev.GetId()]; ok {
			result.Outcome = interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE
			if string(d) != string(ev.GetContentDigest()) {
				result.Outcome, result.Reason = interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED, "content_differs: other content"
			}
		} else {
			p.seen[ev.GetId()] = ev.GetContentDigest()
		}
		reply.Results = append(reply.Results, result)
	}
	return reply, nil
}

func (p *publisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *publisher) events(tenant string) []*eventv1.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*eventv1.Event
	for _, b := range p.batches[tenant] {
		all = append(all, b.GetEvents()...)
	}
	return all
}

func (p *publisher) quarantined(tenant string) []*interactionv1.QuarantinedBody {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*interactionv1.QuarantinedBody
	for _, b := range p.batches[tenant] {
		all = append(all, b.GetQuarantined()...)
	}
	return all
}

// blobs keeps contents in memory under references like a vault's.
type blobs struct {
	mu   sync.Mutex
	err  error
	most int64
	kept map[string][]byte // by the reference's text
}

func (b *blobs) MaxBytes() int64 {
	if b.most == 0 {
		return blob.DefaultMaxBytes
	}
	return b.most
}

func (b *blobs) Put(_ context.Context, tenant string, content io.ReadSeeker) (blob.Ref, error) {
	raw, err := io.ReadAll(content)
	if err != nil {
		return blob.Ref{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return blob.Ref{}, b.err
	}
	sum := sha256.Sum256(append([]byte(tenant+"\x00"), raw...))
	text := "blob1." + hex.EncodeToString(sum[:20]) + "." + base64.RawURLEncoding.EncodeToString(sum[:])
	if b.kept == nil {
		b.kept = map[string][]byte{}
	}
	b.kept[text] = raw
	return blob.ParseRef(text)
}

func (b *blobs) get(text string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept[text]
}

// rig is an intake with all around it.
type rig struct {
	*email.Intake
	t         testing.TB
	publisher *publisher
	blobs     *blobs
}

// addresses of the tests: two tenants, one with a whole domain.
var addresses = []email.Address{
	{Address: "@acme.example", Tenant: "acme", Queue: "general"},
	{Address: "support@acme.example", Tenant: "acme", Queue: "support"},
	{Address: "hello@globex.example", Tenant: "globex"},
}

func newRig(t testing.TB, change func(*email.Config, *email.Deps)) *rig {
	t.Helper()
	book, err := email.NewBook(addresses)
	require.NoError(t, err)
	v, err := validator()
	require.NoError(t, err)
	r := &rig{t: t, publisher: &publisher{}, blobs: &blobs{}}
	cfg := email.Config{Book: book, Hostname: "mx.acme.example", MaxBytes: 1 << 20}
	deps := email.Deps{
		Publisher: r.publisher, Blobs: r.blobs, Validator: v, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg, &deps)
	}
	r.Intake, err = email.NewIntake(cfg, deps)
	require.NoError(t, err)
	return r
}

// bySMTP is a mail's envelope from outside.
func bySMTP(recipients ...string) email.Envelope {
	return email.Envelope{Via: email.ViaSMTP, From: "ada@customer.example", Recipients: recipients, HELO: "mail.customer.example", ReceivedTime: now}
}

// one takes a mail for acme and gives its only event.
func (r *rig) one(raw string) *eventv1.Event {
	r.t.Helper()
	before := len(r.publisher.events("acme"))
	_, err := r.Take(r.t.Context(), bySMTP("support@acme.example"), []byte(raw))
	require.NoError(r.t, err)
	require.Empty(r.t, r.publisher.quarantined("acme"))
	events := r.publisher.events("acme")
	require.Len(r.t, events, before+1)
	return events[before]
}

// crlf makes lines a mail.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

// plain is a mail with a body.
func plain(id, body string) string {
	return crlf("From: Ada <ada@customer.example>", "To: support@acme.example", "Subject: Hello", "Date: Fri, 13 Mar 2026 08:59:00 +0000",
		"Message-ID: <"+id+">", "", body)
}

// client speaks SMTP by hand.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dialSMTP(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(deadline)))
	return c
}

// send writes bytes as they are.
func (c *client) send(s string) {
	c.t.Helper()
	_, err := io.WriteString(c.conn, s)
	require.NoError(c.t, err)
}

// reply reads one answer, with all its lines.
func (c *client) reply() string {
	c.t.Helper()
	var all []string
	for {
		line, err := c.r.ReadString('\n')
		require.NoError(c.t, err)
		line = strings.TrimRight(line, "\r\n")
		all = append(all, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(all, "\n")
		}
	}
}

// do sends a command and wants an answer that begins so.
func (c *client) do(command, want string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	got := c.reply()
	require.True(c.t, strings.HasPrefix(got, want), "%.60q is answered with %q, want %s", command, got, want)
	return got
}

// hello begins a session.
func (c *client) hello() string {
	c.t.Helper()
	require.Contains(c.t, c.reply(), "220 ")
	return c.do("EHLO client.example", "250")
}

// envelope announces a mail for support, up to its data.
func (c *client) envelope() {
	c.t.Helper()
	c.do("MAIL FROM:<ada@customer.example>", "250")
	c.do("RCPT TO:<support@acme.example>", "250")
	c.do("DATA", "354")
}

// closed waits until the server has closed.
func (c *client) closed() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.r)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

// serveSMTP serves until the test ends.
func serveSMTP(t testing.TB, r *rig, cfg email.SMTPConfig) (*email.SMTPServer, string) {
	t.Helper()
	s, err := email.NewSMTPServer(r.Intake, cfg)
	require.NoError(t, err)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(lis) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.NoError(t, s.Stop(ctx))
		require.NoError(t, <-ended)
	})
	return s, lis.Addr().String()
}
