package cli_test

import (
	"encoding/json"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

func deadLetter(position uint64, state opsv1.DeadLetterState, text string) *opsv1.DeadLetter {
	d := &opsv1.DeadLetter{
		Position: position, Tenant: "acme", EventId: eventID(int(position)), Type: "parley.order.completed", Stream: "acme.web-b-ada", State: state,
		RecordedTime: at(11, 8), ProfileIds: []string{id("ada"), id("laptop")}, Error: text, ParkedTime: at(11, 9),
	}
	if state == failed {
		d.Attempts, d.TriedTime = 4, at(13, 8)
	}
	return d
}

// A stack as runtime/debug writes it where a fold panics.
const foldStack = `goroutine 117 [running]:
runtime/debug.Stack()
	/usr/local/go/src/runtime/debug/stack.go:26 +0x5e
github.com/parleyhq/parley/pkg/projection.(*folder[...]).guarded.func1()
	/build/parley/pkg/projection/folder.go:231 +0x52
panic({0xb0e3c0?, 0x14f5c90?})
	/usr/local/go/src/runtime/panic.go:787 +0x132
runtime.panicIndex(...)
	/usr/local/go/src/runtime/panic.go:115
strings.Repeat({0xc2a1b1, 0x1}, 0xffffffffffffffff)
	/usr/local/go/src/strings/strings.go:624 +0x5a5
github.com/parleyhq/parley/services/customer.tierOf(0xc000482000, {0x1, 0x2, 0x3})
	/build/parley/services/customer/tiers.go:44 +0x1d
github.com/parleyhq/parley/services/customer.(*fold).order(0xc0004a6000, 0xc000482000?)
	/build/parley/services/customer/fold.go:120 +0x3f9
github.com/parleyhq/parley/services/customer.Fold.func3(...)
	/build/parley/services/customer/fold.go:61
github.com/parleyhq/parley/pkg/projection.(*folder[...]).guarded(0xc0001c4000, {0x15a2b38, 0xc0003f4000})
	/build/parley/pkg/projection/folder.go:238 +0xa5
github.com/parleyhq/parley/pkg/projection.(*folder[...]).run(...)
	/build/parley/pkg/projection/folder.go:113 +0x1bb
created by github.com/parleyhq/parley/pkg/projection.(*runner[...]).start in goroutine 61
	/build/parley/pkg/projection/runner.go:77 +0x2b1
`

func panicked() *opsv1.GetDeadLetterResponse {
	d := deadLetter(4711, failed, "panic: strings: negative Repeat count\x1b[31m\nwhile folding the order's\ttiers")
	d.Stack = foldStack
	return &opsv1.GetDeadLetterResponse{
		DeadLetter: d,
		Event: &eventv1.RecordedEvent{
			Stream: "acme.web-b-ada", Revision: 3, Position: 4711, RecordedTime: at(11, 8),
			Event: &eventv1.Event{
				Id: eventID(4711), Tenant: "acme", Type: "parley.order.completed", Channel: "web", OccurredTime: at(11, 8), ProfileId: id("ada"),
				Payload: &eventv1.Payload{Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{OrderId: "o-1"}}},
			},
		},
		DocumentsJson: []string{`{"customer_id":"` + id("ada") + `","channels":[{"channel":"web","inbound_count":3}]}`, "not JSON"},
	}
}

func parked() *readModels {
	m := customerMatch()
	m.letters = []*opsv1.DeadLetter{
		deadLetter(4711, failed, "panic: strings: negative Repeat count\n"+foldStack),
		deadLetter(4712, waiting, ""),
		deadLetter(4720, failed, "no such tier: "+strings.Repeat("very ", 60)+"gold\u202e"),
		deadLetter(4800, skipped, "Test data of the migration"),
		deadLetter(5000, failed, ""),
	}
	m.letters[2].RecordedTime = timestamppb.New(clock().Add(-65e9))
	m.letter = panicked()
	return m
}

func TestDeadLettersShown(t *testing.T) {
	t.Parallel()
	panicless := parked()
	panicless.letter.Event, panicless.letter.DocumentsJson = nil, nil
	panicless.letter.DeadLetter = deadLetter(4711, skipped, "Test data of the migration")
	other := parked()
	other.letter.DeadLetter.Stack = strings.Repeat("at Fold (fold.js:1)\n", 20)
	for name, tc := range map[string]struct {
		models *readModels
		args   []string
	}{
		"deadletters_ls":          {parked(), []string{"ls", "customer"}},
		"deadletters_ls_all":      {parked(), []string{"ls", "customer", "--all", "--tenant", "acme", "--customer", id("ada")}},
		"deadletters_ls_few":      {parked(), []string{"ls", "customer", "--limit", "1", "--generation", "v3/g2"}},
		"deadletters_ls_json":     {parked(), []string{"ls", "customer", "--limit", "0", "-o", "json"}},
		"deadletters_ls_none":     {customerMatch(), []string{"ls", "customer"}},
		"deadletters_show":        {parked(), []string{"show", "customer", "4,711"}},
		"deadletters_show_stack":  {parked(), []string{"show", "customer", "4711", "--stack"}},
		"deadletters_show_json":   {parked(), []string{"show", "customer", "4711", "-o", "json"}},
		"deadletters_show_skip":   {panicless, []string{"show", "customer", "4711"}},
		"deadletters_show_no_go":  {other, []string{"show", "customer", "4711"}},
		"deadletters_retry_help":  {parked(), []string{"retry", "--help"}},
		"deadletters_ls_all_none": {customerMatch(), []string{"ls", "customer", "--all"}},
	} {
		r := with{environ: tc.models.serve(t)}.run(t, append([]string{"projections", "deadletters"}, tc.args...)...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stderr, name)
		golden(t, name, r.stdout)
		if !strings.HasSuffix(name, "json") {
			require.NotContains(t, r.stdout, "\x1b", name)
			require.NotContains(t, r.stdout, "\u202e", name)
			require.NotContains(t, r.stdout, "\t", name)
		} else {
			require.True(t, json.Valid([]byte(r.stdout)))
		}
	}
	m := parked()
	r := with{environ: m.serve(t)}.run(t, "projections", "deadletters", "ls", "customer", "--all", "--tenant", "acme", "--customer", id("ada"), "--generation", "2", "--limit", "0")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Len(t, m.requests(), 3, "all pages")
	require.Empty(t, prototest(&opsv1.ListDeadLettersRequest{
		Generation: &opsv1.GenerationName{Projection: "customer", Generation: 2}, Tenant: "acme", CustomerId: id("ada"),
		States: []opsv1.DeadLetterState{failed, waiting, skipped}, PageSize: 1000,
	}, m.requests()[0]))
}

// TestRealStack: the frames that matter are found in what Go really writes.
func TestRealStack(t *testing.T) {
	t.Parallel()
	m := parked()
	m.letter.DeadLetter.Stack = stackOfAPanic()
	r := with{environ: m.serve(t)}.run(t, "projections", "deadletters", "show", "customer", "4711")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	_, stack, _ := strings.Cut(r.stdout, "\nStack\n")
	first, _, _ := strings.Cut(stack, "\n")
	require.Regexp(t, `^  services/parley/internal/cli_test\.brokenFold +…/internal/cli/deadletters_test\.go:\d+$`, first)
	require.Regexp(t, `… and \d+ more frames; --stack shows all`, stack)
}

func stackOfAPanic() (stack string) {
	defer func() {
		if recover() != nil {
			stack = string(debug.Stack())
		}
	}()
	return brokenFold(nil)
}

//go:noinline
func brokenFold(tiers []string) string { return tiers[len(tiers)+2] }

func TestDeadLettersRetried(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		resp *opsv1.RetryDeadLettersResponse
		code int
		want []uint64
	}{
		"deadletters_retry_done":  {[]string{"--all"}, &opsv1.RetryDeadLettersResponse{Folded: 1012}, cli.ExitDone, nil},
		"deadletters_retry_one":   {[]string{"4700", "4700"}, &opsv1.RetryDeadLettersResponse{Folded: 1, DeadLetters: 3, WaitingEvents: 1}, cli.ExitDone, []uint64{4700}},
		"deadletters_retry_again": {[]string{"4711", "4800", "4720"}, &opsv1.RetryDeadLettersResponse{Folded: 1, DeadLetters: 3, WaitingEvents: 1}, cli.ExitFailed, []uint64{4711, 4800, 4720}},
		"deadletters_retry_all":   {[]string{"--all"}, &opsv1.RetryDeadLettersResponse{DeadLetters: 1003, WaitingEvents: 2}, cli.ExitFailed, nil},
		"deadletters_retry_json":  {[]string{"4711", "-o", "json"}, &opsv1.RetryDeadLettersResponse{Folded: 2, DeadLetters: 3}, cli.ExitFailed, []uint64{4711}},
	} {
		m := parked()
		m.retry = tc.resp
		r := with{environ: m.serve(t)}.run(t, append([]string{"projections", "deadletters", "retry", "customer"}, tc.args...)...)
		require.Equal(t, tc.code, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stderr, name)
		golden(t, name, r.stdout)
		require.Empty(t, prototest(&opsv1.RetryDeadLettersRequest{Generation: &opsv1.GenerationName{Projection: "customer"}, Positions: tc.want}, m.requests()[0]))
	}
	m := parked()
	m.retry = &opsv1.RetryDeadLettersResponse{Folded: 2, DeadLetters: 3}
	m.refusals = map[string][]error{"letters": {refused(codes.Internal, errorv1.Reason_REASON_INTERNAL)}}
	r := with{environ: m.serve(t)}.run(t, "projections", "deadletters", "retry", "customer", "--all")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "The retry itself was done: 2 events folded.")

	m = parked()
	m.refusals = map[string][]error{"retry": {refused(codes.DeadlineExceeded, 0)}}
	r = with{environ: m.serve(t)}.run(t, "projections", "deadletters", "retry", "customer", "--all")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "the server may be at it still")
}

func TestDeadLetterSkipped(t *testing.T) {
	t.Parallel()
	args := []string{"projections", "deadletters", "skip", "customer", "4711", "--reason", " Test data of the migration "}
	want := &opsv1.SkipDeadLetterRequest{
		Generation: &opsv1.GenerationName{Projection: "customer"}, Position: 4711, Reason: "Test data of the migration",
	}
	m := parked()
	w := with{environ: m.serve(t), terminal: true}
	for _, answer := range []string{"", "\n", "no\n"} {
		w.stdin = answer
		r := w.run(t, args...)
		require.Equal(t, cli.ExitFailed, r.code)
		require.Contains(t, r.stderr, "Nothing was changed.")
		require.Zero(t, m.count(want))
	}
	w.stdin = "yes\n"
	r := w.run(t, args...)
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Equal(t, 1, m.count(want))
	require.Empty(t, prototest(want, m.requests()[len(m.requests())-1]))
	golden(t, "deadletters_skip", r.stdout)
	golden(t, "deadletters_skip_asked", r.stderr)

	m = parked()
	quiet := with{environ: m.serve(t)}
	r = quiet.run(t, append(slices.Clone(args), "--yes", "--generation", "v3/g2")...)
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Empty(t, r.stderr)
	want.Generation = &opsv1.GenerationName{Projection: "customer", Version: 3, Generation: 2}
	require.Len(t, m.requests(), 1, "--yes does not look first")
	require.Empty(t, prototest(want, m.requests()[0]))
	r = quiet.run(t, append(slices.Clone(args), "--yes", "-o", "json")...)
	require.Contains(t, r.stdout, `"consistencyToken": "`)

	unknown := append(slices.Clone(args), "--yes")
	unknown[4] = "12"
	m.refusals = map[string][]error{"skip": {refused(codes.NotFound, errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND)}}
	r = quiet.run(t, unknown...)
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "may be folded or skipped by now")
}
