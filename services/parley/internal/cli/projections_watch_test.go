package cli_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// watch runs a command until all pictures are out and enough says that what it
// wrote is what is waited for, then interrupts it.
func (w with) watch(t *testing.T, m *readModels, enough func(stdout, stderr string) bool, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watched := make(chan struct{})
	m.mu.Lock()
	m.watched = watched
	m.mu.Unlock()
	if w.environ == nil {
		w.environ = m.serve(t)
	}
	w.ctx, w.stdout, w.stderr = ctx, &syncBuffer{}, &syncBuffer{}
	ended := make(chan result, 1)
	go func() { ended <- w.run(t, args...) }()
	select {
	case r := <-ended:
		require.FailNow(t, "ended by itself", "%d %s", r.code, r.stderr)
	case <-watched:
	case <-time.After(deadline):
		require.FailNow(t, "the pictures were not asked for", "%s", w.stderr.String())
	}
	require.Eventually(t, func() bool { return enough(w.stdout.String(), w.stderr.String()) }, deadline, time.Millisecond,
		"%s%s", w.stdout, w.stderr)
	cancel()
	return <-ended
}

func one(p *opsv1.Projection) picture { return picture{all: []*opsv1.Projection{p}} }

// TestWatchInLines: a line where something changed, one a second at most.
func TestWatchInLines(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	serves := liveOne(3, 2, serving)
	caught := liveOne(3, 3, candidate)
	caught.DeadLetters, caught.WaitingEvents = 1, 2
	stopped := projection("customer", liveOne(3, 2, serving), caught)
	stopped.Pause = &opsv1.Pause{Actor: anna(), Reason: "Disk"}
	stopped.GetGenerations()[0].State = paused
	m.pictures = []picture{
		{all: []*opsv1.Projection{projection("customer", serves, filling(3, 3, 0.1)), projection("match", liveOne(3, 1, serving))}},
		one(projection("customer", serves, filling(3, 3, 0.2))), // too soon
		one(projection("customer", serves, filling(3, 3, 0.3))),
		one(projection("customer", serves, filling(3, 3, 0.3))),
		one(projection("customer", serves, filling(3, 3, 0.3))),
		one(projection("customer", serves, caught)),
		one(stopped),
		one(stopped),
		one(troubled().projections[1]),
	}
	w := with{now: ticking(600 * time.Millisecond)}
	r := w.watch(t, m, func(stdout, _ string) bool { return strings.Contains(stdout, "journey v1/g2") }, "projections", "watch")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Empty(t, r.stderr)
	golden(t, "projections_watch", r.stdout)
}

func TestWatchAsJSON(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	m.pictures = []picture{one(projection("customer", filling(3, 3, 0.1))), one(projection("customer", filling(3, 3, 0.1)))}
	r := with{terminal: true}.watch(t, m, func(stdout, _ string) bool { return strings.Count(stdout, "\n") == 2 },
		"projections", "watch", "customer", "--interval", "250ms", "-o", "json")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	for l := range strings.Lines(r.stdout) {
		require.True(t, json.Valid([]byte(l)), l)
		require.Contains(t, l, `"generation":3`)
	}
	asked, ok := m.requests()[0].(*opsv1.WatchProjectionsRequest)
	require.True(t, ok)
	require.Equal(t, []string{"customer"}, asked.GetProjections())
	require.Equal(t, 250*time.Millisecond, asked.GetInterval().AsDuration())
}

// TestWatchOnATerminal draws in place, fits what it draws, and gives the cursor back.
func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		columns, rows int
		environ       []string
	}{
		"wide":   {140, 24, []string{"COLUMNS=140", "LINES=24", "LANG=C.UTF-8"}},
		"usual":  {80, 24, []string{"NO_COLOR=1"}},
		"narrow": {40, 24, []string{"COLUMNS=40", "LINES=24"}},
		"low":    {100, 6, []string{"COLUMNS=100", "LINES=6"}},
		"tiny":   {12, 2, []string{"COLUMNS=12", "LINES=2"}},
	} {
		m := troubled()
		last := m.projections
		m.pictures = []picture{
			{all: []*opsv1.Projection{projection("customer", filling(3, 3, 0.01)), projection("a-projection-of-a-very-long-name", filling(1, 1, 0.5))}},
			{all: append(troubled().projections, troubled().projections...)},
			{all: last},
		}
		// Drawn three times once the third frame is whole.
		r := with{terminal: true, environ: append(m.serve(t), tc.environ...)}.watch(t, m, func(stdout, _ string) bool {
			return strings.Count(stdout, "\x1b[J") == 3
		}, "projections", "watch")
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		require.Empty(t, r.stderr)
		require.True(t, strings.HasSuffix(r.stdout, "\x1b[?25h"), "the cursor is given back")
		require.Equal(t, name == "usual", !strings.Contains(r.stdout, "\x1b[0m"), "%s: colours unless NO_COLOR", name)
		s := shownOn(t, tc.columns, tc.rows, r.stdout)
		require.False(t, s.hidden)
		require.Less(t, len(s.lines), tc.rows+1, "%s: it never scrolls", name)
		golden(t, "projections_watch_"+name, s.text())
	}
	dumb := customerMatch()
	dumb.pictures = []picture{{all: dumb.projections}}
	r := with{terminal: true, environ: append(dumb.serve(t), "TERM=dumb")}.watch(t, dumb, func(stdout, _ string) bool {
		return strings.Count(stdout, "\n") == 3
	}, "projections", "watch")
	require.NotContains(t, r.stdout, "\x1b")
}

// TestWatchGoesOn where the connection breaks: it says so, and draws on.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	pictures := func() []picture {
		return []picture{
			one(projection("customer", filling(3, 3, 0.1))), {end: unavailable()}, {end: unavailable()},
			one(projection("customer", filling(3, 3, 0.2))), {end: refused(codes.Aborted, errorv1.Reason_REASON_UNSPECIFIED)},
			one(projection("customer", filling(3, 3, 0.3))),
		}
	}
	m := customerMatch()
	m.pictures = pictures()
	r := with{now: ticking(time.Second)}.watch(t, m, func(stdout, _ string) bool { return strings.Count(stdout, "\n") == 3 }, "projections", "watch")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	said := strings.Split(strings.TrimSpace(r.stderr), "\n")
	require.Len(t, said, 5, r.stderr)
	require.Regexp(t, `^parley: connection lost: the server is stopping \(STOPPING\); trying again in 200ms, for another (2m|1m59s) at most$`, said[0])
	require.Regexp(t, `trying again in 400ms, `, said[1])
	require.Regexp(t, `^parley: connected again after \d+(ms|\.\ds)$`, said[2])
	require.Regexp(t, `connection lost: The server says so.; trying again in 200ms`, said[3])
	require.Regexp(t, `^parley: connected again after `, said[4])

	m = customerMatch()
	m.pictures = pictures()
	r = with{terminal: true, environ: append(m.serve(t), "COLUMNS=100")}.watch(t, m, func(stdout, _ string) bool { return strings.Contains(stdout, "30.0 %") }, "projections", "watch")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Empty(t, r.stderr, "the terminal is drawn on, nothing else writes there")
	require.Contains(t, r.stdout, "connection lost: the server is stopping")
	s := shownOn(t, 100, 24, r.stdout)
	require.NotContains(t, s.text(), "connection lost", "that is gone once it is back")
	require.Equal(t, 2, strings.Count(s.text(), "connected again after"), s.text())
	require.Equal(t, 1, strings.Count(s.text(), "customer v3/g3"), s.text())
}

// TestWatchOutlivesTheServer: one that is stopped and started again.
func TestWatchOutlivesTheServer(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	m.pictures = []picture{one(projection("customer", filling(3, 3, 0.1)))}
	watched := make(chan struct{})
	m.watched = watched
	server := m.serveAt(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := with{ctx: ctx, environ: []string{"PARLEY_ADDR=" + server.addr}, stdout: &syncBuffer{}, stderr: &syncBuffer{}, now: ticking(time.Second)}
	ended := make(chan result, 1)
	go func() { ended <- w.run(t, "projections", "watch", "customer") }()
	require.Eventually(t, func() bool { return strings.Contains(w.stdout.String(), "10.0 %") }, deadline, time.Millisecond)
	<-watched
	server.stop()
	require.Eventually(t, func() bool { return strings.Contains(w.stderr.String(), "connection refused") }, deadline, time.Millisecond)
	m.mu.Lock()
	m.pictures = []picture{one(projection("customer", filling(3, 3, 0.2)))}
	m.mu.Unlock()
	server.start()
	require.Eventually(t, func() bool { return strings.Contains(w.stdout.String(), "20.0 %") }, deadline, time.Millisecond, "%s", w.stderr)
	cancel()
	r := <-ended
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stderr, "connected again after")
}

// TestWatchGivesUp on a server that stays away, and on none other than that.
func TestWatchGivesUp(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	m.pictures = []picture{one(projection("customer", filling(3, 3, 0.1)))}
	for range 20 {
		m.pictures = append(m.pictures, picture{end: unavailable()})
	}
	r := with{environ: m.serve(t)}.run(t, "projections", "watch", "--patience", "500ms")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "the server is stopping (STOPPING)")
	require.Contains(t, r.stderr, "Gave up after 500ms; --patience waits longer.")
	require.Less(t, strings.Count(r.stderr, "trying again"), 6)

	m = customerMatch()
	m.pictures = []picture{one(projection("customer", filling(3, 3, 0.1))), {end: refused(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED)}}
	r = with{environ: m.serve(t)}.run(t, "projections", "watch")
	require.Equal(t, cli.ExitFailed, r.code)
	require.NotContains(t, r.stderr, "trying again")

	// A server that says nothing any more.
	m = customerMatch()
	m.pictures = []picture{one(projection("customer", filling(3, 3, 0.1))), {}}
	r = with{environ: m.serve(t)}.run(t, "projections", "watch", "--interval", "100ms", "--timeout", "300ms", "--patience", "0s")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "no word from the server for 300ms")
}
