package web_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/web"
)

const (
	writeKey   = "dev-write-key"
	slowKey    = "slow-write-key"
	linkSecret = "0123456789abcdef0123456789abcdef"
)

// noon is when every test's requests arrive.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// recorder is a Publisher that keeps what it gets, or fails.
type recorder struct {
	mu      sync.Mutex
	batches []*interactionv1.IngressBatch
	tenants []string
	err     error
}

func (r *recorder) Publish(_ context.Context, tenant, channel string, batch *interactionv1.IngressBatch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.batches = append(r.batches, proto.CloneOf(batch))
	r.tenants = append(r.tenants, tenant+"/"+channel)
	return nil
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *recorder) all() *interactionv1.IngressBatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := &interactionv1.IngressBatch{}
	for _, b := range r.batches {
		all.Events = append(all.Events, b.GetEvents()...)
		all.Quarantined = append(all.Quarantined, b.GetQuarantined()...)
	}
	return all
}

// take gives what came since the last time.
func (r *recorder) take() *interactionv1.IngressBatch {
	all := r.all()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = nil
	return all
}

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// counter makes ids that say which they are.
func counter() func() uuid.UUID {
	var mu sync.Mutex
	n := 0
	return func() uuid.UUID {
		mu.Lock()
		defer mu.Unlock()
		n++
		return uuid.MustParse(fmt.Sprintf("01900000-0000-7000-8000-%012d", n))
	}
}

var sharedValidator = sync.OnceValue(func() *event.Validator {
	v, err := event.NewValidator()
	if err != nil {
		panic(err)
	}
	return v
})

type fixture struct {
	t       testing.TB
	gateway *web.Gateway
	handler http.Handler
	got     *recorder
	clock   *clock
	log     *bytes.Buffer
}

func newFixture(t testing.TB, change ...func(*web.Config)) *fixture {
	t.Helper()
	keys, err := web.NewKeyTable(map[string]web.Key{
		writeKey: {Tenant: "acme", Source: "shop", DefaultRegion: "AT"},
		slowKey:  {Tenant: "acme", Source: "slow", RatePerSecond: 10},
	})
	require.NoError(t, err)
	f := &fixture{t: t, got: &recorder{}, clock: &clock{at: noon}, log: &bytes.Buffer{}}
	cfg := web.Config{LinkSecret: linkSecret}
	for _, c := range change {
		c(&cfg)
	}
	f.gateway, err = web.New(cfg, web.Deps{
		Publisher: f.got, Keys: keys, Validator: sharedValidator(), Now: f.clock.now, NewID: counter(),
		Logger: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	require.NoError(t, err)
	f.handler = f.gateway.Handler()
	return f
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	body   web.Answer
}

type option func(*http.Request)

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func basic(key string) option { return func(r *http.Request) { r.SetBasicAuth(key, "") } }

// send serves one request. Without options it has the write key as Basic.
func (f *fixture) send(method, path, body string, options ...option) answer {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "198.51.100.7:4711"
	if len(options) == 0 {
		options = []option{basic(writeKey)}
	}
	for _, o := range options {
		o(r)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Result().Body)
	require.NoError(f.t, err)
	a := answer{status: w.Code, header: w.Result().Header, text: string(text)}
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		require.NoError(f.t, json.Unmarshal(text, &a.body), a.text)
	}
	return a
}

func (f *fixture) post(path, body string, options ...option) answer {
	return f.send(http.MethodPost, path, body, options...)
}

// one is the only event that came.
func (f *fixture) one() *eventv1.Event {
	f.t.Helper()
	got := f.got.take()
	require.Len(f.t, got.GetEvents(), 1)
	return got.GetEvents()[0]
}

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, text)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.String()
}
