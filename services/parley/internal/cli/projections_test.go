package cli_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

const (
	serving   = opsv1.GenerationRole_GENERATION_ROLE_SERVING
	candidate = opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE
	previous  = opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS

	live       = opsv1.GenerationState_GENERATION_STATE_LIVE
	catchingUp = opsv1.GenerationState_GENERATION_STATE_CATCHING_UP
	retrying   = opsv1.GenerationState_GENERATION_STATE_RETRYING
	halted     = opsv1.GenerationState_GENERATION_STATE_HALTED
	paused     = opsv1.GenerationState_GENERATION_STATE_PAUSED
	frozen     = opsv1.GenerationState_GENERATION_STATE_FROZEN

	failed  = opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED
	waiting = opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING
	skipped = opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED
)

func anna() *eventv1.Actor {
	return &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: "anna"}
}

const head = 1_234_567

// liveOne is a generation that is at the log's head.
func liveOne(version, generation uint32, role opsv1.GenerationRole) *opsv1.Generation {
	return &opsv1.Generation{
		Version: version, Generation: generation, Role: role, State: live, Position: head, LagEvents: proto.Uint64(0), LagTime: &durationpb.Duration{},
		EventsPerSecond: 812.4, Fraction: 1, Partitions: 4, CreateTime: at(10, 8), Reason: "first start",
	}
}

// filling is a generation that contains a part of the log.
func filling(version, generation uint32, part float64) *opsv1.Generation {
	position := uint64(part * head)
	left := head - position
	return &opsv1.Generation{
		Version: version, Generation: generation, Role: candidate, State: catchingUp, Position: position, LagEvents: proto.Uint64(left),
		LagTime: durationpb.New(time.Duration(left) * 10 * time.Millisecond), EventsPerSecond: 41_230.7, Fraction: part,
		TimeLeft: durationpb.New(time.Duration(float64(left) / 41_230.7 * float64(time.Second))), Partitions: 4, CreateTime: at(13, 8), Reason: "New loyalty tiers",
	}
}

func projection(name string, all ...*opsv1.Generation) *opsv1.Projection {
	return &opsv1.Projection{Name: name, Version: 3, Head: head, Generations: all, ActiveProcess: "parley-0"}
}

// customerMatch is two projections, nothing special about them.
func customerMatch() *readModels {
	return &readModels{projections: []*opsv1.Projection{
		projection("customer", liveOne(3, 2, serving), liveOne(3, 3, candidate)),
		projection("match", liveOne(3, 1, serving)),
	}}
}

// troubled is projections with everything that can happen to one.
func troubled() *readModels {
	customer := projection("customer", liveOne(2, 2, serving), filling(3, 3, 0.63217), liveOne(2, 1, previous))
	s := customer.GetGenerations()[0]
	s.LagEvents, s.LagTime = proto.Uint64(1234), durationpb.New(2140*time.Millisecond)
	s.Position -= 1234
	s.DeadLetters, s.WaitingEvents, s.OldestDeadLetterTime, s.Diverged = 3, 1012, at(11, 5), true
	customer.GetGenerations()[1].SwitchWhenReady = true
	customer.GetGenerations()[2].State, customer.GetGenerations()[2].LagEvents = frozen, nil
	customer.GetGenerations()[2].LagTime, customer.GetGenerations()[2].EventsPerSecond = durationpb.New(50*time.Hour), 0

	journey := projection("journey", liveOne(1, 1, serving), filling(1, 2, 0.999999))
	j := journey.GetGenerations()[0]
	j.State, j.Error = halted, "fold parley.order.completed at 1234000: integer divide by zero\x1b[31m\nand again\n\tat the second try"
	j.LagEvents, j.LagTime, j.EventsPerSecond = nil, durationpb.New(3*time.Hour+12*time.Minute), 0
	k := journey.GetGenerations()[1]
	k.State, k.Error, k.EventsPerSecond, k.TimeLeft = retrying, "the view store cannot be reached", 0.25, nil

	match := projection("match", liveOne(1, 1, serving))
	match.ActiveProcess = ""
	match.Pause = &opsv1.Pause{Actor: anna(), Reason: "The disk is being moved", Time: at(13, 8)}
	match.GetGenerations()[0].State = paused
	return &readModels{projections: []*opsv1.Projection{customer, journey, match, projection("new")}}
}

// with is how a command is run.
type with struct {
	ctx      context.Context
	environ  []string
	stdin    string
	terminal bool
	now      func() time.Time
	stdout   *syncBuffer
	stderr   *syncBuffer
}

// run runs one command line.
func (w with) run(t *testing.T, args ...string) result {
	t.Helper()
	if w.ctx == nil {
		w.ctx = t.Context()
	}
	if w.now == nil {
		w.now = clock
	}
	if w.stdout == nil {
		w.stdout = &syncBuffer{}
	}
	if w.stderr == nil {
		w.stderr = &syncBuffer{}
	}
	ctx, cancel := context.WithTimeout(w.ctx, deadline)
	defer cancel()
	app := &cli.App{
		Stdin: strings.NewReader(w.stdin), Stdout: w.stdout, Stderr: w.stderr, Environ: w.environ,
		Now: w.now, Location: time.UTC, Random: rand.Reader, Terminal: w.terminal,
	}
	return result{code: app.Run(ctx, args), stdout: w.stdout.String(), stderr: w.stderr.String()}
}

// ticking is a clock that goes on whenever somebody looks at it.
func ticking(step time.Duration) func() time.Time {
	var mu sync.Mutex
	now := clock()
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(step)
		return now
	}
}

func refused(code codes.Code, reason errorv1.Reason) error {
	return rpcerr.New(code, reason, "The server says so.")
}

func unavailable() error {
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_STOPPING, "the server is stopping")
}

func TestProjectionsShown(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		models *readModels
		args   []string
	}{
		"projections_ls":           {troubled(), []string{"ls"}},
		"projections_ls_quiet":     {customerMatch(), []string{"ls"}},
		"projections_ls_json":      {troubled(), []string{"ls", "-o", "json"}},
		"projections_ls_none":      {&readModels{}, []string{"ls"}},
		"projections_get":          {troubled(), []string{"get", "customer"}},
		"projections_get_halted":   {troubled(), []string{"get", "journey"}},
		"projections_get_paused":   {troubled(), []string{"get", "match"}},
		"projections_get_caught":   {customerMatch(), []string{"get", "customer"}},
		"projections_get_json":     {customerMatch(), []string{"get", "match", "-o", "json"}},
		"projections_help":         {customerMatch(), nil},
		"projections_rebuild_help": {customerMatch(), []string{"rebuild", "--help"}},
		"deadletters_help":         {customerMatch(), []string{"deadletters"}},
	} {
		r := with{environ: tc.models.serve(t)}.run(t, append([]string{"projections"}, tc.args...)...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stderr, name)
		require.NotContains(t, r.stdout, "\x1b", name)
		golden(t, name, r.stdout)
	}
}

// TestProjectionRefusals: each says what to do.
func TestProjectionRefusals(t *testing.T) {
	t.Parallel()
	yes := func(args ...string) []string { return append(args, "--yes") }
	missing := codes.NotFound
	unmet := codes.FailedPrecondition
	for name, tc := range map[string]struct {
		args   []string
		method string
		err    error
		want   []string
	}{
		"unknown":         {[]string{"get", "costumer"}, "", nil, []string{"there is no projection costumer (PROJECTION_NOT_FOUND)", "`parley projections ls` lists"}},
		"unknown watched": {[]string{"watch", "costumer"}, "", nil, []string{"PROJECTION_NOT_FOUND", "`parley projections ls` lists"}},
		"running":         {[]string{"rebuild", "customer"}, "rebuild", refused(unmet, errorv1.Reason_REASON_REBUILD_RUNNING), []string{"The server says so. (REBUILD_RUNNING)", "`parley projections watch customer` follows", "drop"}},
		"verifying":       {[]string{"verify", "customer"}, "verify", refused(unmet, errorv1.Reason_REASON_REBUILD_RUNNING), []string{"One verification runs at a time"}},
		"behind":          {yes("switch", "customer"), "switch", refused(unmet, errorv1.Reason_REASON_NOT_CAUGHT_UP), []string{"NOT_CAUGHT_UP", "`parley projections watch customer` shows how far", "Nothing was changed"}},
		"serving":         {yes("switch", "customer"), "switch", refused(unmet, errorv1.Reason_REASON_ALREADY_SERVING), []string{"nothing to switch"}},
		"drop serving":    {yes("drop", "customer", "--generation", "2"), "drop", refused(unmet, errorv1.Reason_REASON_ALREADY_SERVING), []string{"never dropped", "`parley projections switch customer`"}},
		"no generation":   {yes("drop", "customer", "--generation", "v9/g9"), "drop", refused(missing, errorv1.Reason_REASON_GENERATION_NOT_FOUND), []string{"`parley projections get customer` shows the generations"}},
		"nothing before":  {yes("rollback", "customer"), "rollback", refused(unmet, errorv1.Reason_REASON_NOTHING_TO_ROLL_BACK), []string{"NOTHING_TO_ROLL_BACK", "`parley projections rebuild customer`"}},
		"frozen":          {yes("rollback", "customer"), "rollback", refused(unmet, errorv1.Reason_REASON_GENERATION_FROZEN), []string{"has no fold for that version"}},
		"folded":          {[]string{"deadletters", "skip", "customer", "7", "--reason", "r", "--yes"}, "skip", refused(unmet, errorv1.Reason_REASON_ALREADY_FOLDED), []string{"switch to that generation, or drop it"}},
		"no letter":       {[]string{"deadletters", "show", "customer", "7"}, "letter", refused(missing, errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND), []string{"`parley projections deadletters ls customer --all`"}},
		"not active":      {[]string{"resume", "customer"}, "resume", refused(codes.Unavailable, errorv1.Reason_REASON_NOT_ACTIVE), []string{"NOT_ACTIVE", "parley serve"}},
		"not allowed":     {[]string{"ls"}, "list", refused(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED), []string{"NOT_ALLOWED", "parley key new --scope ops"}},
		"no key":          {[]string{"ls"}, "list", refused(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS), []string{"--api-key"}},
		"field":           {[]string{"ls"}, "list", rpcerr.InvalidField("projection", "is odd"), []string{"projection: is odd"}},
		"lost":            {yes("switch", "customer"), "switch", unavailable(), []string{"the server is stopping (STOPPING)", "Whether it was done is not known", "`parley projections get customer` shows what is"}},
		"slow":            {yes("drop", "customer", "--generation", "3"), "drop", refused(codes.DeadlineExceeded, 0), []string{"--timeout waits longer", "Whether it was done is not known"}},
		"lost look":       {[]string{"ls"}, "list", unavailable(), []string{"the server is stopping"}},
	} {
		m := customerMatch()
		m.refusals = map[string][]error{tc.method: {tc.err}}
		r := with{environ: m.serve(t)}.run(t, append([]string{"projections"}, tc.args...)...)
		require.Equal(t, cli.ExitFailed, r.code, "%s: %s", name, r.stderr)
		for _, want := range tc.want {
			require.Contains(t, r.stderr, want, name)
		}
		require.NotContains(t, r.stderr, "rpc error", name)
		require.Equal(t, strings.HasPrefix(name, "lost") && name != "lost look" || name == "slow", strings.Contains(r.stderr, "is not known"), name)
		require.Empty(t, r.stdout, name)
	}
	for _, args := range [][]string{{"ls"}, {"watch"}, {"compare", "customer"}, {"rebuild", "customer", "--wait"}, {"switch", "customer", "--yes"}, {"verify", "customer"}} {
		began := time.Now()
		r := with{}.run(t, append(append([]string{"projections"}, args...), "--addr", "127.0.0.1:1")...)
		require.Equal(t, cli.ExitFailed, r.code)
		require.Contains(t, r.stderr, "Is `parley serve` running at 127.0.0.1:1?", "%v", args)
		require.NotContains(t, r.stderr, "is not known", "%v: nobody was reached", args)
		require.Less(t, time.Since(began), deadline/2, "one that was never there is not waited for")
	}
}

// TestProjectionCommandsReachTheSameServer: they can be pasted as they are.
func TestProjectionCommandsReachTheSameServer(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	host := m.serveAt(t).addr
	r := with{}.run(t, "projections", "switch", "customer", "--yes", "--addr", host)
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "parley projections rollback customer --addr="+host+"\n")
	r = with{}.run(t, "projections", "get", "costumer", "--addr", host)
	require.Contains(t, r.stderr, "`parley projections ls --addr="+host+"`")
}

func TestProjectionsUsage(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", 65)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"lss"}, `did you mean "ls"?`},
		{[]string{"ls", "customer"}, "takes no arguments"},
		{[]string{"get"}, "name one projection"},
		{[]string{"get", "a", "b"}, "name one projection"},
		{[]string{"get", long}, "1 to 64 characters"},
		{[]string{"get", ""}, "1 to 64 characters"},
		{[]string{"watch", "a", "a"}, "a is named twice"},
		{[]string{"watch", "--interval", "99ms"}, "want 100ms to 1m0s"},
		{[]string{"watch", "--interval", "2m"}, "want 100ms to 1m0s"},
		{[]string{"watch", "--patience", "-1s"}, "--patience -1s"},
		{append([]string{"watch"}, many(65)...), "65 projections are more than the 64"},
		{[]string{"rebuild"}, "name the projections"},
		{[]string{"rebuild", "a", "a"}, "a is named twice"},
		{[]string{"rebuild", "a", "--max-rate", "10000001"}, "--max-rate"},
		{[]string{"rebuild", "a", "--max-rate", "-1"}, "--max-rate"},
		{[]string{"rebuild", "a", "--compare"}, "takes --wait"},
		{[]string{"rebuild", "a", "--reason", strings.Repeat("ü", 513)}, "the most are 512"},
		{[]string{"compare"}, "name one projection"},
		{[]string{"compare", "a", "--generation", "third"}, "--generation third: want a generation"},
		{[]string{"compare", "a", "--generation", "v0/g1"}, "count from 1"},
		{[]string{"compare", "a", "--generation", "99999999999"}, "count from 1"},
		{[]string{"compare", "a", "--other", "g"}, "--other g: want a generation"},
		{[]string{"compare", "a", "--documents", "101"}, "want 0 to 100"},
		{[]string{"verify", "a", "--sample", "0"}, "--sample 0"},
		{[]string{"verify", "a", "--sample", "1.1"}, "--sample 1.1"},
		{[]string{"verify", "a", "--sample", "NaN"}, "--sample NaN"},
		{[]string{"switch", "a"}, "--yes does it without asking"},
		{[]string{"rollback", "a"}, "--yes does it without asking"},
		{[]string{"drop", "a", "--yes"}, "--generation: say which one"},
		{[]string{"drop", "a", "--generation", "1"}, "--yes does it without asking"},
		{[]string{"pause", "a"}, "--reason: say why"},
		{[]string{"resume"}, "name one projection"},
		{[]string{"deadletters", "ls"}, "name one projection"},
		{[]string{"deadletters", "ls", "a", "--limit", "-1"}, "--limit -1"},
		{[]string{"deadletters", "show", "a"}, "name a projection and the position"},
		{[]string{"deadletters", "show", "a", "first"}, "first: want the position"},
		{[]string{"deadletters", "show", "a", "0"}, "0: want the position"},
		{[]string{"deadletters", "retry", "a"}, "say which"},
		{[]string{"deadletters", "retry", "a", "1", "--all"}, "say which"},
		{[]string{"deadletters", "retry"}, "name a projection"},
		{append([]string{"deadletters", "retry", "a"}, many(1001)...), "1001 positions are more than the 1000"},
		{[]string{"deadletters", "skip", "a", "7", "--yes"}, "--reason: say why the event is left out"},
		{[]string{"deadletters", "skip", "a", "7", "--reason", " ", "--yes"}, "--reason: say why the event is left out"},
		{[]string{"deadletters", "skip", "a", "7", "--reason", "r"}, "--yes does it without asking"},
	} {
		r := with{}.run(t, append([]string{"projections"}, tc.args...)...)
		require.Equal(t, cli.ExitUsage, r.code, "%v: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.want, "%v", tc.args)
		require.Contains(t, r.stderr, "--help` says how it is used", "%v", tc.args)
		require.Empty(t, r.stdout, "%v", tc.args)
	}
}

// many are so many names that are numbers too.
func many(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(i + 1)
	}
	return all
}

// TestProjectionChanges: what readers see, and what destroys data, is asked
// about once; each shows what is now.
func TestProjectionChanges(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		asks bool
		want proto.Message
	}{
		"projections_switch": {[]string{"switch", "customer", "--reason", "  New tiers "}, true, &opsv1.SwitchOverRequest{
			Generation: &opsv1.GenerationName{Projection: "customer", Version: 3, Generation: 3}, Reason: "New tiers",
		}},
		"projections_rollback": {[]string{"rollback", "journey"}, true, &opsv1.RollbackRequest{Projection: "journey"}},
		"projections_drop": {[]string{"drop", "journey", "--generation", "2"}, true, &opsv1.DropGenerationRequest{
			Generation: &opsv1.GenerationName{Projection: "journey", Version: 3, Generation: 2},
		}},
		"projections_pause": {[]string{"pause", "customer", "--reason", "The disk is being moved"}, false, &opsv1.PauseProjectionRequest{
			Projection: "customer", Reason: "The disk is being moved",
		}},
		"projections_resume": {[]string{"resume", "customer", "--reason", "It is moved"}, false, &opsv1.ResumeProjectionRequest{
			Projection: "customer", Reason: "It is moved",
		}},
	} {
		m := customerMatch()
		m.projections = append(m.projections, projection("journey", liveOne(3, 3, serving), liveOne(3, 2, previous)))
		args := append([]string{"projections"}, tc.args...)
		w := with{environ: m.serve(t), terminal: true}
		if tc.asks {
			for _, answer := range []string{"", "\n", "n\n", "maybe\n"} {
				w.stdin = answer
				r := w.run(t, args...)
				require.Equal(t, cli.ExitFailed, r.code, name)
				require.Contains(t, r.stderr, "Nothing was changed.")
				require.Empty(t, r.stdout)
				require.Zero(t, m.count(tc.want), "%s: %q is no yes", name, answer)
			}
			w.stdin = "y\n"
		}
		r := w.run(t, args...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Equal(t, 1, m.count(tc.want))
		require.Empty(t, prototest(tc.want, m.requests()[len(m.requests())-1]), name)
		golden(t, name, r.stdout)
		if tc.asks {
			require.Equal(t, 1, strings.Count(r.stderr, "[y/N]"), "asks once")
			golden(t, name+"_asked", r.stderr)
			args = append(args, "--yes")
		} else {
			require.Empty(t, r.stderr)
		}

		again := customerMatch()
		again.projections = append(again.projections, projection("journey", liveOne(3, 3, serving), liveOne(3, 2, previous)))
		quiet := with{environ: again.serve(t)}
		r = quiet.run(t, append(args, "-o", "json")...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Contains(t, r.stdout, `"projection": {`, name)
		require.Empty(t, r.stderr, name)
	}
}

// prototest says how two messages differ.
func prototest(want, got proto.Message) string {
	if proto.Equal(want, got) {
		return ""
	}
	return fmt.Sprintf("want %v, got %v", want, got)
}

// TestDropByYes names what was dropped as it was named.
func TestDropByYes(t *testing.T) {
	t.Parallel()
	m := customerMatch()
	r := with{environ: m.serve(t)}.run(t, "projections", "drop", "customer", "--generation", "g3", "-y")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "generation g3 of customer is dropped.")
	require.NotContains(t, r.stdout, "v3/g3")
}
