package cli_test

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// difference is one that has everything.
func difference(version uint32) *opsv1.Difference {
	return &opsv1.Difference{
		Generation: &opsv1.GenerationName{Projection: "customer", Version: 3, Generation: 3},
		Other:      &opsv1.GenerationName{Projection: "customer", Version: version, Generation: 2},
		Position:   head, Sample: 1,
		Collections: []*opsv1.CollectionDifference{
			{
				Collection: "customers", Documents: 100_123, OtherDocuments: 100_124, Differing: 1204,
				Digest: strings.Repeat("1f2e", 16), OtherDigest: strings.Repeat("a0b1", 16),
				Examples: []*opsv1.DocumentDifference{
					{Tenant: "acme", DocumentId: "rpc5dhk3vc5ztlabzqjb7j5cde", Fields: []*opsv1.FieldDifference{
						{Path: "channels[1].inbound_count", Value: "13", OtherValue: "12"},
						{Path: "value_tier", Value: `"gold  plus"`},
						{Path: "traits[0].value_json", Value: "\"\x1b[2J\u202e\"", OtherValue: "\"two\nlines\""},
					}},
					{Tenant: "acme", DocumentId: "6l56cprbaqzev5jc5aqk2vtasy", OnlyInOther: true},
					{Tenant: "umbrella", DocumentId: "aaaacprbaqzev5jc5aqk2vtasy", OnlyInGeneration: true},
				},
			},
			{Collection: "handles", Documents: 7, OtherDocuments: 7, Digest: "77", OtherDigest: "77"},
		},
	}
}

func equalOnes() *opsv1.Difference {
	d := difference(3)
	d.Equal = true
	for _, c := range d.GetCollections() {
		c.Examples, c.Differing, c.OtherDocuments, c.OtherDigest = nil, 0, c.GetDocuments(), c.GetDigest()
	}
	return d
}

func steps() []*opsv1.Progress {
	return []*opsv1.Progress{
		{Step: "waiting for both to reach a position"},
		{Step: "comparing customers", Done: 25_000, Total: 100_000, PerSecond: 50_000, TimeLeft: durationpb.New(1500 * time.Millisecond)},
		{Step: "comparing customers", Done: 75_000, Total: 100_000, PerSecond: 50_000, TimeLeft: durationpb.New(500 * time.Millisecond)},
		{Step: "comparing handles", Done: 3},
	}
}

func TestCompareAndVerify(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		diff *opsv1.Difference
		code int
	}{
		"projections_compare":       {[]string{"compare", "customer"}, difference(2), cli.ExitFailed},
		"projections_compare_same":  {[]string{"compare", "customer"}, difference(3), cli.ExitFailed},
		"projections_compare_equal": {[]string{"compare", "customer"}, equalOnes(), cli.ExitDone},
		"projections_compare_json":  {[]string{"compare", "customer", "-o", "json"}, difference(2), cli.ExitFailed},
		"projections_verify":        {[]string{"verify", "customer", "--sample", "0.01"}, difference(3), cli.ExitFailed},
		"projections_verify_equal":  {[]string{"verify", "customer", "--max-rate", "500"}, equalOnes(), cli.ExitDone},
	} {
		m := customerMatch()
		m.progress, m.diff = steps(), tc.diff
		if strings.Contains(name, "verify") {
			m.diff.Sample = 0.01
		}
		addr := m.serve(t)
		r := with{environ: addr, now: ticking(time.Second)}.run(t, append([]string{"projections"}, tc.args...)...)
		require.Equal(t, tc.code, r.code, "%s: %s", name, r.stderr)
		require.NotContains(t, r.stdout+r.stderr, "\x1b", "%s: colours are for terminals, and nobody else has any", name)
		golden(t, name, r.stdout)
		if strings.HasSuffix(name, "json") {
			require.Empty(t, r.stderr)
			require.Equal(t, 5, strings.Count(r.stdout, "\n"), "an answer a line")
			for l := range strings.Lines(r.stdout) {
				require.True(t, json.Valid([]byte(l)), l)
			}
			continue
		}
		golden(t, "projections_progress", r.stderr)

		shown := with{environ: append(addr, "COLUMNS=80"), terminal: true}.run(t, append([]string{"projections"}, tc.args...)...)
		require.Equal(t, tc.code, shown.code)
		require.Equal(t, r.stdout, colours.ReplaceAllString(shown.stdout, ""), "the same but for the colours")
		require.NotEqual(t, r.stdout, shown.stdout)
		require.Contains(t, shown.stderr, "75.0 %")
		s := shownOn(t, 80, 24, shown.stderr)
		require.Equal(t, "\n", s.text(), "the bar is gone at the end")
		require.False(t, s.hidden)
	}
}

var colours = regexp.MustCompile(`\x1b\[[0-9]*m`)

func TestCompareAsks(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	m.diff = equalOnes()
	addr := m.serve(t)
	for _, args := range [][]string{
		{"compare", "customer"},
		{"compare", "customer", "--generation", "v4/g7", "--other", "g1", "--documents", "0"},
		{"verify", "match", "--sample", "0.5", "--max-rate", "9", "--documents", "3"},
	} {
		r := with{environ: addr}.run(t, append([]string{"projections"}, args...)...)
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
	}
	want := []proto.Message{
		&opsv1.CompareGenerationsRequest{Generation: &opsv1.GenerationName{Projection: "customer"}, MaxDocuments: proto.Int32(10)},
		&opsv1.CompareGenerationsRequest{
			Generation: &opsv1.GenerationName{Projection: "customer", Version: 4, Generation: 7}, Other: &opsv1.GenerationName{Projection: "customer", Generation: 1},
			MaxDocuments: proto.Int32(0),
		},
		&opsv1.VerifyProjectionRequest{Projection: "match", Sample: proto.Float64(0.5), MaxEventsPerSecond: 9, MaxDocuments: proto.Int32(3)},
	}
	for i, got := range m.requests() {
		require.Empty(t, prototest(want[i], got))
	}
}

// TestCompareOverABrokenConnection compares anew; a verification does not, since
// it would begin from nothing unasked.
func TestCompareOverABrokenConnection(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	m.progress, m.diff = steps(), equalOnes()
	m.refusals = map[string][]error{"compare": {unavailable(), unavailable()}, "verify": {unavailable()}}
	addr := m.serve(t)
	r := with{environ: addr}.run(t, "projections", "compare", "customer")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Equal(t, 3, m.count(&opsv1.CompareGenerationsRequest{}))
	require.Equal(t, 2, strings.Count(r.stderr, "trying again in 200ms"), r.stderr)
	r = with{environ: addr}.run(t, "projections", "verify", "customer")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "Whether they are equal is not known; run it again.")
	require.Equal(t, 1, m.count(&opsv1.VerifyProjectionRequest{}))

	m = customerMatch() // ends without a difference
	r = with{environ: m.serve(t)}.run(t, "projections", "compare", "customer")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "before it was done")
}

// TestRebuildIsAskedFor, and how to follow it is said.
func TestRebuildIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want *opsv1.RebuildProjectionsRequest
	}{
		"projections_rebuild": {
			[]string{"customer", "match", "--reason", " New loyalty tiers ", "--max-rate", "50000"},
			&opsv1.RebuildProjectionsRequest{Projections: []string{"customer", "match"}, Reason: "New loyalty tiers", MaxEventsPerSecond: 50_000},
		},
		"projections_rebuild_switch": {[]string{"customer", "--switch", "--yes"}, &opsv1.RebuildProjectionsRequest{Projections: []string{"customer"}, SwitchWhenReady: true}},
		"projections_rebuild_json":   {[]string{"customer", "-o", "json"}, &opsv1.RebuildProjectionsRequest{Projections: []string{"customer"}}},
	} {
		m := customerMatch()
		r := with{environ: m.serve(t)}.run(t, append([]string{"projections", "rebuild"}, tc.args...)...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stderr)
		golden(t, name, r.stdout)
		require.Len(t, m.requests(), 1)
		require.Empty(t, prototest(tc.want, m.requests()[0]), name)
	}
	for _, wait := range []string{"--wait", "--wait=false"} {
		m := customerMatch()
		r := with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "--switch", wait)
		require.Equal(t, cli.ExitFailed, r.code, r.stderr)
		require.Contains(t, r.stderr, "--yes does it without asking")
		require.Empty(t, m.requests(), "nothing is started that is not finished")
	}
	m := customerMatch()
	w := with{environ: m.serve(t), terminal: true, stdin: "n\n"}
	r := w.run(t, "projections", "rebuild", "customer", "--switch")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Empty(t, m.requests())
	w.stdin = "y\n"
	r = w.run(t, "projections", "rebuild", "customer", "--switch")
	require.Equal(t, cli.ExitDone, r.code)
	require.Contains(t, r.stderr, "without anybody having compared them")
	require.Len(t, m.requests(), 1)
}

// rebuilt is a server on which a rebuild comes along.
func rebuilt(diff *opsv1.Difference) *readModels {
	m := customerMatch()
	m.diff = diff
	for _, part := range []float64{0.01, 0.2, 0.4, 0.6} {
		m.pictures = append(m.pictures, one(projection("customer", liveOne(3, 2, serving), filling(3, 3, part))))
	}
	m.pictures = append(m.pictures, one(m.projections[0]))
	return m
}

func TestRebuildAndWait(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args     []string
		diff     *opsv1.Difference
		compared int
		switched int
	}{
		"projections_wait":            {nil, nil, 0, 0},
		"projections_wait_compare":    {[]string{"--compare"}, equalOnes(), 1, 0},
		"projections_wait_switch":     {[]string{"--switch", "--yes", "--reason", "New tiers"}, difference(2), 1, 1},
		"projections_wait_switch_bug": {[]string{"--switch", "--yes"}, difference(3), 1, 1},
		"projections_wait_blind":      {[]string{"--switch", "--yes", "--compare=false"}, nil, 0, 1},
		"projections_wait_json":       {[]string{"--switch", "--yes", "-o", "json"}, difference(2), 1, 1},
		"projections_wait_json_bug":   {[]string{"--switch", "--yes", "-o", "json"}, difference(3), 1, 1},
		"projections_wait_json_only":  {[]string{"-o", "json"}, nil, 0, 0},
	} {
		m := rebuilt(tc.diff)
		r := with{environ: m.serve(t), now: ticking(2 * time.Second)}.run(t, append([]string{"projections", "rebuild", "customer", "--wait"}, tc.args...)...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.NotContains(t, r.stdout+r.stderr, "\x1b")
		require.Equal(t, tc.compared, m.count(&opsv1.CompareGenerationsRequest{}), name)
		require.Equal(t, tc.switched, m.count(&opsv1.SwitchOverRequest{}), name)
		golden(t, name, r.stdout)
		progress, alarm, _ := strings.Cut(r.stderr, "SAME VERSION, DIFFERENT DOCUMENTS.")
		require.Equal(t, name == "projections_wait_json_bug", alarm != "", "%s: it is said where no page says it", name)
		golden(t, "projections_wait_stderr", progress)
		for _, req := range m.requests() {
			if s, ok := req.(*opsv1.SwitchOverRequest); ok {
				require.Equal(t, "v3 g3", "v"+string('0'+rune(s.GetGeneration().GetVersion()))+" g"+string('0'+rune(s.GetGeneration().GetGeneration())))
				require.Equal(t, slices.Contains(tc.args, "--reason"), s.GetReason() == "New tiers")
			}
			if s, ok := req.(*opsv1.RebuildProjectionsRequest); ok {
				require.False(t, s.GetSwitchWhenReady(), "it is switched after the comparison, not before")
			}
		}
		if strings.Contains(name, "json") {
			for l := range strings.Lines(r.stdout) {
				require.True(t, json.Valid([]byte(l)), l)
			}
		}
	}
}

// TestRebuildAsks after showing the comparison, on standard error where the
// question is.
func TestRebuildAsks(t *testing.T) {
	t.Parallel()
	args := []string{"projections", "rebuild", "customer", "--wait", "--switch"}
	m := rebuilt(difference(3))
	r := with{environ: append(m.serve(t), "COLUMNS=80"), terminal: true, stdin: "n\n"}.run(t, args...)
	require.Equal(t, cli.ExitFailed, r.code)
	require.Zero(t, m.count(&opsv1.SwitchOverRequest{}))
	require.Contains(t, r.stderr, "`parley projections switch customer` makes it serve later")
	require.NotContains(t, r.stdout, "SAME VERSION")

	m = rebuilt(difference(3))
	r = with{environ: append(m.serve(t), "COLUMNS=80"), terminal: true, stdin: "y\n"}.run(t, args...)
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Equal(t, 1, m.count(&opsv1.SwitchOverRequest{}))
	require.Contains(t, r.stdout, "customer v3/g3 serves now.")
	s := shownOn(t, 200, 60, r.stderr)
	require.False(t, s.hidden)
	golden(t, "projections_wait_asked", s.text())
	compare, question := strings.Index(r.stderr, "SAME VERSION"), strings.Index(r.stderr, "[y/N]")
	require.Positive(t, compare)
	require.Greater(t, question, compare)
}

// TestRebuildEndsBadly: what will not catch up by itself is not waited for.
func TestRebuildEndsBadly(t *testing.T) {
	t.Parallel()
	broken := filling(3, 3, 0.4)
	broken.State, broken.Error = halted, "1,001 dead letters are more than the 1,000 allowed\nthe first: no such tier"
	none := one(projection("customer", liveOne(3, 2, serving)))
	for name, tc := range map[string]struct {
		pictures []picture
		refusals map[string][]error
		want     []string
	}{
		"halted": {[]picture{one(projection("customer", liveOne(3, 2, serving), broken))}, nil,
			[]string{"customer v3/g3 is halted and does not go on by itself: 1,001 dead letters are more", "the first: no such tier", "`parley projections get customer` shows all"}},
		"dropped": {[]picture{none, one(projection("customer", filling(3, 3, 0.1))), none, none, none}, nil, []string{"customer v3/g3 is gone: somebody has dropped it"}},
		"running": {nil, map[string][]error{"rebuild": {refused(codes.FailedPrecondition, errorv1.Reason_REASON_REBUILD_RUNNING)}}, []string{"REBUILD_RUNNING", "follows the one"}},
		"lost":    {nil, map[string][]error{"rebuild": {unavailable()}}, []string{"Whether it was done is not known"}},
		"away": {[]picture{{end: unavailable()}, {end: unavailable()}, {end: unavailable()}, {end: unavailable()}, {end: unavailable()}}, nil,
			[]string{"trying again in 200ms", "Gave up after 300ms", "The rebuild goes on on the server, and nothing is switched: `parley projections watch customer` follows it"}},
		"compare": {[]picture{one(customerMatch().projections[0])}, map[string][]error{"compare": {refused(codes.Internal, errorv1.Reason_REASON_INTERNAL)}},
			[]string{"INTERNAL", "Nothing was switched. `parley projections compare customer` compares once more."}},
		"switch": {[]picture{one(customerMatch().projections[0])}, map[string][]error{"switch": {refused(codes.FailedPrecondition, errorv1.Reason_REASON_GENERATION_FROZEN)}},
			[]string{"GENERATION_FROZEN", "has no fold for that version"}},
	} {
		m := customerMatch()
		m.pictures, m.refusals, m.diff = tc.pictures, tc.refusals, equalOnes()
		r := with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "--wait", "--switch", "--yes", "--patience", "300ms")
		require.Equal(t, cli.ExitFailed, r.code, "%s: %s", name, r.stderr)
		for _, want := range tc.want {
			require.Contains(t, r.stderr, want, name)
		}
		require.NotContains(t, r.stderr, "rpc error", name)
		require.Equal(t, name == "lost", strings.Contains(r.stderr, "is not known"), "%s: %s", name, r.stderr)
	}
}

// TestRebuildInOneGo over whatever comes between.
func TestRebuildInOneGo(t *testing.T) {
	t.Parallel()
	behind := refused(codes.FailedPrecondition, errorv1.Reason_REASON_NOT_CAUGHT_UP)
	m := rebuilt(equalOnes())
	m.progress = steps()
	m.pictures = slices.Insert(m.pictures, 2, picture{end: unavailable()}, picture{end: unavailable()})
	m.refusals = map[string][]error{"compare": {behind, unavailable()}, "switch": {behind, unavailable(), behind}}
	r := with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "--wait", "--switch", "--yes")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "customer v3/g3 serves now.")
	require.Equal(t, 1, m.count(&opsv1.RebuildProjectionsRequest{}), "the rebuild is asked for once")
	require.Equal(t, 3, m.count(&opsv1.CompareGenerationsRequest{}))
	require.Equal(t, 4, m.count(&opsv1.SwitchOverRequest{}))
	require.Equal(t, 4, strings.Count(r.stderr, "connection lost"), r.stderr)

	// The answer of the switch is lost.
	m = rebuilt(equalOnes())
	m.refusals = map[string][]error{"switch": {unavailable(), refused(codes.FailedPrecondition, errorv1.Reason_REASON_ALREADY_SERVING)}}
	r = with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "--wait", "--switch", "--yes")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "customer v3/g3 serves now.")

	// Somebody else has switched.
	m = customerMatch()
	m.pictures = []picture{one(projection("customer", liveOne(3, 3, serving), liveOne(3, 2, previous)))}
	r = with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "--wait", "--switch", "--yes")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "customer v3/g3 serves already.")
	require.Zero(t, m.count(&opsv1.SwitchOverRequest{}))

	// Always a few events behind the log, as under load, but not behind what serves.
	loaded := projection("customer", liveOne(3, 2, serving), filling(3, 3, 0.9999))
	loaded.GetGenerations()[0].Position = loaded.GetGenerations()[1].GetPosition()
	m = customerMatch()
	m.pictures = []picture{one(loaded)}
	r = with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "--wait")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)

	// It never gets past the one that serves.
	m = customerMatch()
	m.pictures = []picture{one(m.projections[0])}
	for range 100 {
		m.refusals = map[string][]error{"switch": append(m.refusals["switch"], behind)}
	}
	r = with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "--wait", "--switch", "--yes", "--compare=false", "--timeout", "500ms")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "NOT_CAUGHT_UP")
	require.LessOrEqual(t, m.count(&opsv1.SwitchOverRequest{}), 5)
}

// TestRebuildOfSeveral waits for all and does each.
func TestRebuildOfSeveral(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	m.projections[1].Generations = append(m.projections[1].Generations, liveOne(3, 3, candidate))
	m.diff = equalOnes()
	m.pictures = []picture{
		{all: []*opsv1.Projection{projection("customer", liveOne(3, 2, serving), filling(3, 3, 0.5)), projection("match", liveOne(3, 1, serving))}},
		{all: []*opsv1.Projection{m.projections[0], projection("match", liveOne(3, 1, serving), filling(3, 3, 0.5))}},
		{all: m.projections},
	}
	r := with{environ: m.serve(t)}.run(t, "projections", "rebuild", "customer", "match", "--wait", "--switch", "--yes")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "customer v3/g3 serves now.")
	require.Contains(t, r.stdout, "match v3/g3 serves now.")
	require.Equal(t, 2, m.count(&opsv1.SwitchOverRequest{}))
}

// TestRebuildInterrupted goes on on the server.
func TestRebuildInterrupted(t *testing.T) {
	t.Parallel()
	for _, terminal := range []bool{false, true} {
		m := rebuilt(nil)
		m.pictures = m.pictures[:2]
		r := with{terminal: terminal}.watch(t, m, func(_, stderr string) bool { return strings.Contains(stderr, "1.0 %") },
			"projections", "rebuild", "customer", "--wait")
		require.Equal(t, cli.ExitFailed, r.code)
		require.Contains(t, r.stderr, "parley: interrupted\nThe rebuild goes on on the server, and nothing is switched: `parley projections watch customer` follows it")
		require.NotContains(t, r.stderr, "is not known")
		s := shownOn(t, 80, 24, r.stderr)
		require.False(t, s.hidden, "the cursor is given back")
		if terminal {
			require.NotContains(t, s.text(), "1.0 %", "the bar is gone")
		}
	}
}

// TestVerifyInterrupted is no verdict.
func TestVerifyInterrupted(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := with{ctx: ctx, environ: m.serve(t)}.run(t, "projections", "verify", "customer")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "interrupted: whether they are equal is not known")
}
