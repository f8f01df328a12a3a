package deploytest_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"net/http"
	"net/smtp"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/parleyhq/parley/pkg/projection"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 60 * time.Second

// deploy is the folder that is checked.
var deploy = filepath.Join("..", "..", "..", "..", "deploy")

// sample is one line of /metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

var (
	samplePattern = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)
	labelPattern  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// scrape reads /metrics.
func scrape(t testing.TB, r *serve.Running) []sample {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addresses.Admin+"/metrics", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var samples []sample
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		m := samplePattern.FindStringSubmatch(lines.Text())
		require.NotNil(t, m, lines.Text())
		s := sample{name: m[1], labels: map[string]string{}}
		s.value, err = strconv.ParseFloat(m[3], 64)
		require.NoError(t, err, lines.Text())
		for _, l := range labelPattern.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[2]
		}
		samples = append(samples, s)
	}
	require.NoError(t, lines.Err())
	return samples
}

// serveAll runs all services until the test ends.
func serveAll(t *testing.T) *serve.Running {
	t.Helper()
	s := serve.DefaultSettings()
	s.Storage.DataDir = filepath.Join(t.TempDir(), "data")
	s.Listen = serve.Listen{GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", SMTP: "127.0.0.1:0", Admin: "127.0.0.1:0", NATS: "127.0.0.1:0"}
	s.Mail.Authentication = false
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready := make(chan *serve.Running, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Options{
			Settings: s, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Now: time.Now,
			OnReady: func(_ context.Context, r *serve.Running) error { ready <- r; return nil },
		})
	}()
	select {
	case r := <-ready:
		t.Cleanup(func() {
			cancel()
			require.NoError(t, <-ended)
		})
		return r
	case err := <-ended:
		cancel()
		t.Fatalf("ended before it served: %v", err)
	case <-time.After(deadline):
		cancel()
		t.Fatal("did not serve in time")
	}
	return nil
}

func dial(t *testing.T, r *serve.Running) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(r.Addresses.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// appearing are counters that Prometheus is not told of before there is something to count.
var appearing = []string{
	"parley_grpc_requests_total", "parley_web_requests_total", "parley_email_mails_total", "parley_recorder_events_total",
	"parley_recorder_quarantined_total", "parley_match_jobs_total",
}

// use does what makes those appear.
func use(t *testing.T, r *serve.Running) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	conn := dial(t, r)
	record := func(path string) error {
		_, err := interactionv1.NewInteractionServiceClient(conn).Record(ctx, &interactionv1.RecordRequest{Interaction: &interactionv1.Interaction{
			SourceId: "the same", Channel: "web", Direction: eventv1.Direction_DIRECTION_INBOUND,
			Identifiers: []*eventv1.Identifier{{Kind: "user_id", Value: "u1"}},
			Payload:     &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: path}}},
		}})
		return err
	}
	require.NoError(t, record("/"))
	// The same id with another content goes to quarantine.
	require.Error(t, record("/other"))

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.Addresses.HTTP+"/v1/track", strings.NewReader(`{"anonymousId":"b1","event":"Hello","messageId":"m1"}`))
	require.NoError(t, err)
	req.SetBasicAuth(serve.DevKey, "")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)

	require.NoError(t, smtp.SendMail(r.Addresses.SMTP, nil, "ada@example.com", []string{"help@parley.local"},
		[]byte("From: ada@example.com\r\nTo: help@parley.local\r\nSubject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\nHello\r\n")))

	// Whether there is anything to learn from, it is a job.
	fit, err := customerv1.NewCustomerServiceClient(conn).FitMatchModel(ctx, &customerv1.FitMatchModelRequest{})
	require.NoError(t, err)
	for err == nil {
		_, err = fit.Recv()
	}
	require.NoError(t, r.Settled(ctx))
}

// exposed is what Prometheus would know of a process.
type exposed struct {
	// labels of the metrics, by name; those of the target among them.
	labels map[string][]string
}

// observe takes what /metrics has, as Prometheus stores it.
func observe(samples []sample) exposed {
	e := exposed{labels: map[string][]string{"up": {"job", "instance"}}}
	for _, s := range samples {
		for _, label := range slices.Concat([]string{"job", "instance"}, slices.Collect(maps.Keys(s.labels))) {
			if !slices.Contains(e.labels[s.name], label) {
				e.labels[s.name] = append(e.labels[s.name], label)
			}
		}
	}
	// Prometheus's own, with the labels of the alerts.
	e.labels["ALERTS"] = []string{"alertname", "alertstate", "severity", "job", "instance", "projection", "version", "generation", "code"}
	return e
}

// functions that the expressions may call; a typing error is not among them.
var functions = []string{"absent", "histogram_quantile", "increase", "last_over_time", "rate"}

// check says that all that an expression names is there, and returns the labels that it can have.
func (e exposed) check(t *testing.T, where, expr string) []string {
	t.Helper()
	q, err := readQuery(expr)
	require.NoError(t, err, "%s: %s", where, expr)
	require.NotEmpty(t, q.selectors, "%s: %s names no metric", where, expr)
	var labels []string
	for _, s := range q.selectors {
		require.Contains(t, e.labels, s.metric, "%s: no process has this metric", where)
		for _, label := range s.labels {
			require.Contains(t, e.labels[s.metric], label, "%s: label of %s", where, s.metric)
		}
		labels = append(labels, e.labels[s.metric]...)
	}
	for _, label := range q.groupings {
		require.Contains(t, labels, label, "%s: grouped by a label that nothing there has", where)
	}
	for _, f := range q.functions {
		require.Contains(t, functions, f, "%s", where)
	}
	return labels
}

// TestDeploy runs a process with all services, uses each once, and checks what
// operators are given against it.
func TestDeploy(t *testing.T) {
	t.Parallel()
	r := serveAll(t)
	use(t, r)
	conn := dial(t, r)
	ops := opsv1.NewProjectionServiceClient(conn)
	_, err := ops.RebuildProjections(t.Context(), &opsv1.RebuildProjectionsRequest{Projections: []string{"customer"}})
	require.NoError(t, err)
	var e exposed
	require.Eventually(t, func() bool {
		e = observe(scrape(t, r))
		return !slices.ContainsFunc(appearing, func(metric string) bool { return e.labels[metric] == nil })
	}, deadline, 10*time.Millisecond, "some of %v never appeared", appearing)
	t.Run("rules", func(t *testing.T) {
		t.Parallel()
		checkRules(t, e)
	})
	t.Run("tests of the rules", func(t *testing.T) {
		t.Parallel()
		checkRuleTests(t, e)
	})
	t.Run("dashboard", func(t *testing.T) {
		t.Parallel()
		checkDashboard(t, e)
	})
	t.Run("states", func(t *testing.T) {
		t.Parallel()
		checkStates(t, r, ops)
	})
}

// checkStates checks what the expressions rely on: which generation serves, and what state it
// is in, as operators are told it.
func checkStates(t *testing.T, r *serve.Running, ops opsv1.ProjectionServiceClient) {
	// state of the customer's generations, "serves" before that of the one that does.
	states := func() string {
		var all []string
		found := map[string]map[string]float64{}
		for _, s := range scrape(t, r) {
			if s.labels["projection"] != "customer" {
				continue
			}
			g := s.labels["generation"]
			if found[g] == nil {
				found[g] = map[string]float64{}
			}
			found[g][s.name] = s.value
		}
		for _, g := range slices.Sorted(maps.Keys(found)) {
			words := "g" + g + " "
			if found[g]["parley_projection_serving"] > 0 {
				words += "serves, "
			}
			all = append(all, words+projection.State(found[g]["parley_projection_state"]).String())
		}
		return strings.Join(all, "; ")
	}
	await := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool { return states() == want }, deadline, 10*time.Millisecond, "want %q, at last %q", want, &lazily{states})
	}
	await("g1 serves, live; g2 live")
	_, err := ops.PauseProjection(t.Context(), &opsv1.PauseProjectionRequest{Projection: "customer"})
	require.NoError(t, err)
	await("g1 serves, paused; g2 paused")
	_, err = ops.ResumeProjection(t.Context(), &opsv1.ResumeProjectionRequest{Projection: "customer"})
	require.NoError(t, err)
	_, err = ops.SwitchOver(t.Context(), &opsv1.SwitchOverRequest{Generation: &opsv1.GenerationName{Projection: "customer"}})
	require.NoError(t, err)
	await("g1 live; g2 serves, live")
}

// lazily is text that is made when it is printed.
type lazily struct{ text func() string }

func (l *lazily) String() string { return l.text() }
