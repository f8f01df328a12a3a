package ops_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/ops"
)

func TestRequestsCoverTheContract(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, slices.Collect(maps.Keys(methods())), slices.Collect(maps.Keys(requests("customer"))))
	require.Len(t, methods(), 15)
}

// Every method of the contract is refused to whoever has not the scope, before
// any projection is asked.
func TestOnlyOperatorsAreLetIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for method, req := range requests("customer") {
		for key, want := range map[string]errorv1.Reason{
			"": errorv1.Reason_REASON_BAD_CREDENTIALS, "nobody's": errorv1.Reason_REASON_BAD_CREDENTIALS,
			"read": errorv1.Reason_REASON_NOT_ALLOWED, "record": errorv1.Reason_REASON_NOT_ALLOWED, "read,record": errorv1.Reason_REASON_NOT_ALLOWED,
		} {
			err := h.invoke(h.call(key), method, req)
			require.Equal(t, want, rpcerr.ReasonOf(err), "%s with key %q: %v", method, key, err)
		}
	}
	require.Empty(t, h.customer.asked())
	for method, req := range requests("customer") {
		require.NoError(t, h.invoke(h.ops(), method, req), method)
	}
	require.NotEmpty(t, h.customer.asked())
}

// A mistake in how the service is registered opens nothing.
func TestRegisteredWithAnotherScope(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.scope = tenant.Read })
	for method, req := range requests("customer") {
		err := h.invoke(h.call("read"), method, req)
		require.Equal(t, errorv1.Reason_REASON_NOT_ALLOWED, rpcerr.ReasonOf(err), "%s: %v", method, err)
	}
	require.Empty(t, h.customer.asked())
}

// Without an identity nothing is answered in process either.
func TestWithoutAnIdentity(t *testing.T) {
	t.Parallel()
	f := newFake("customer", serving(2, 1))
	service, err := ops.NewServer(ops.Deps{LogID: logID, Projections: []ops.Projection{{Operations: f}}})
	require.NoError(t, err)
	_, err = service.ListProjections(t.Context(), &opsv1.ListProjectionsRequest{})
	require.Equal(t, codes.Unauthenticated, rpcerr.CodeOf(err))
	_, err = service.PauseProjection(t.Context(), &opsv1.PauseProjectionRequest{Projection: "customer"})
	require.Equal(t, errorv1.Reason_REASON_BAD_CREDENTIALS, rpcerr.ReasonOf(err))
	require.Empty(t, f.asked())
}

func TestUnknownProjection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for method, req := range requests("customers") {
		if method == "ListProjections" {
			continue
		}
		err := h.invoke(h.ops(), method, req)
		require.Equal(t, codes.NotFound, rpcerr.CodeOf(err), "%s: %v", method, err)
		require.Equal(t, errorv1.Reason_REASON_PROJECTION_NOT_FOUND, rpcerr.ReasonOf(err), method)
		require.ErrorContains(t, err, `no projection is named "customers": there are customer, feed`, method)
	}
	require.Empty(t, h.customer.asked())
}

func TestBounds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	g := func(number uint32) *opsv1.GenerationName {
		return &opsv1.GenerationName{Projection: "customer", Generation: number}
	}
	agent := func(id string) *eventv1.Actor {
		return &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: id}
	}
	many := make([]uint64, 1001)
	for i := range many {
		many[i] = uint64(i + 1)
	}
	for name, tc := range map[string]struct {
		method string
		req    proto.Message
		field  string
	}{
		"no name":                    {"GetProjection", &opsv1.GetProjectionRequest{}, "projection"},
		"a long name":                {"GetProjection", &opsv1.GetProjectionRequest{Projection: long(65)}, "projection"},
		"an interval too short":      {"WatchProjections", &opsv1.WatchProjectionsRequest{Interval: durationpb.New(99e6)}, "interval"},
		"an interval too long":       {"WatchProjections", &opsv1.WatchProjectionsRequest{Interval: durationpb.New(61e9)}, "interval"},
		"nothing to rebuild":         {"RebuildProjections", &opsv1.RebuildProjectionsRequest{}, "projections"},
		"the same twice":             {"RebuildProjections", &opsv1.RebuildProjectionsRequest{Projections: []string{"customer", "customer"}}, "projections"},
		"a rate too high":            {"RebuildProjections", &opsv1.RebuildProjectionsRequest{Projections: []string{"customer"}, MaxEventsPerSecond: 10_000_001}, "max_events_per_second"},
		"a long reason":              {"PauseProjection", &opsv1.PauseProjectionRequest{Projection: "customer", Reason: long(513)}, "reason"},
		"a reason of many bytes":     {"PauseProjection", &opsv1.PauseProjectionRequest{Projection: "customer", Reason: strings.Repeat("€", 171)}, "reason"},
		"U+0000 in a reason":         {"ResumeProjection", &opsv1.ResumeProjectionRequest{Projection: "customer", Reason: "a\x00b"}, "reason"},
		"U+0000 in an actor":         {"Rollback", &opsv1.RollbackRequest{Projection: "customer", Actor: agent("a\x00b")}, "actor.id"},
		"an actor without an id":     {"Rollback", &opsv1.RollbackRequest{Projection: "customer", Actor: agent("")}, "actor.id"},
		"an actor with a long id":    {"Rollback", &opsv1.RollbackRequest{Projection: "customer", Actor: agent(long(257))}, "actor.id"},
		"no generation to switch to": {"SwitchOver", &opsv1.SwitchOverRequest{}, "generation"},
		"a version without a number": {"SwitchOver", &opsv1.SwitchOverRequest{Generation: &opsv1.GenerationName{Projection: "customer", Version: 2}}, "generation.generation"},
		"no generation to drop":      {"DropGeneration", &opsv1.DropGenerationRequest{Generation: g(0)}, "generation.generation"},
		"a version without a number to compare with": {
			"CompareGenerations", &opsv1.CompareGenerationsRequest{Generation: g(0), Other: &opsv1.GenerationName{Projection: "customer", Version: 2}}, "other.generation",
		},
		"another projection to compare with": {
			"CompareGenerations", &opsv1.CompareGenerationsRequest{Generation: g(0), Other: &opsv1.GenerationName{Projection: "feed"}}, "other.projection",
		},
		"itself to compare with": {"CompareGenerations", &opsv1.CompareGenerationsRequest{Generation: g(1), Other: g(1)}, "other"},
		"too many documents":     {"CompareGenerations", &opsv1.CompareGenerationsRequest{Generation: g(0), MaxDocuments: proto.Int32(101)}, "max_documents"},
		"fewer than none":        {"CompareGenerations", &opsv1.CompareGenerationsRequest{Generation: g(0), MaxDocuments: proto.Int32(-1)}, "max_documents"},
		"a sample of nobody":     {"VerifyProjection", &opsv1.VerifyProjectionRequest{Projection: "customer", Sample: proto.Float64(0)}, "sample"},
		"a sample of no number":  {"VerifyProjection", &opsv1.VerifyProjectionRequest{Projection: "customer", Sample: proto.Float64(math.NaN())}, "sample"},
		"a sample over all":      {"VerifyProjection", &opsv1.VerifyProjectionRequest{Projection: "customer", Sample: proto.Float64(1.01)}, "sample"},
		"too large a page":       {"ListDeadLetters", &opsv1.ListDeadLettersRequest{Generation: g(1), PageSize: 1001}, "page_size"},
		"a page of less":         {"ListDeadLetters", &opsv1.ListDeadLettersRequest{Generation: g(1), PageSize: -1}, "page_size"},
		"no state": {
			"ListDeadLetters", &opsv1.ListDeadLettersRequest{Generation: g(1), States: []opsv1.DeadLetterState{0}}, "states[0]",
		},
		"no tenant's name":         {"ListDeadLetters", &opsv1.ListDeadLettersRequest{Generation: g(1), Tenant: "Acme"}, "tenant"},
		"a customer of nobody":     {"ListDeadLetters", &opsv1.ListDeadLettersRequest{Generation: g(1), CustomerId: "c1"}, "tenant"},
		"what no customer id is":   {"ListDeadLetters", &opsv1.ListDeadLettersRequest{Generation: g(1), Tenant: "acme", CustomerId: "\x00"}, "customer_id"},
		"the log's beginning":      {"GetDeadLetter", &opsv1.GetDeadLetterRequest{Generation: g(1)}, "position"},
		"too many to retry":        {"RetryDeadLetters", &opsv1.RetryDeadLettersRequest{Generation: g(1), Positions: many}, "positions"},
		"the same to retry":        {"RetryDeadLetters", &opsv1.RetryDeadLettersRequest{Generation: g(1), Positions: []uint64{7, 7}}, "positions"},
		"the beginning to retry":   {"RetryDeadLetters", &opsv1.RetryDeadLettersRequest{Generation: g(1), Positions: []uint64{7, 0}}, "positions[1]"},
		"skip without a reason":    {"SkipDeadLetter", &opsv1.SkipDeadLetterRequest{Generation: g(1), Position: 7}, "reason"},
		"skip for an empty reason": {"SkipDeadLetter", &opsv1.SkipDeadLetterRequest{Generation: g(1), Position: 7, Reason: " \n\t"}, "reason"},
	} {
		err := h.invoke(h.ops(), tc.method, tc.req)
		require.Equal(t, codes.InvalidArgument, rpcerr.CodeOf(err), "%s: %v", name, err)
		require.Equal(t, errorv1.Reason_REASON_INVALID_FIELD, rpcerr.ReasonOf(err), name)
		violations := rpcerr.ViolationsOf(err)
		require.Len(t, violations, 1, name)
		require.Equal(t, tc.field, violations[0].Field, name)
		require.NotEmpty(t, violations[0].Message, name)
	}
	require.Empty(t, h.customer.asked())
}

func TestListAndGet(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.customer.now.Pause = &opsv1.Pause{Reason: "disk", Actor: &eventv1.Actor{Id: "ada"}}
	list, err := h.client.ListProjections(h.ops(), &opsv1.ListProjectionsRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetProjections(), 2)
	require.True(t, proto.Equal(h.customer.now, list.GetProjections()[0]), "by name")
	require.True(t, proto.Equal(h.feed.now, list.GetProjections()[1]))
	one, err := h.client.GetProjection(h.ops(), &opsv1.GetProjectionRequest{Projection: "feed"})
	require.NoError(t, err)
	require.True(t, proto.Equal(h.feed.now, one.GetProjection()))

	h.feed.reportErr = fmt.Errorf("read the control record: %w", view.ErrUnavailable)
	_, err = h.client.ListProjections(h.ops(), &opsv1.ListProjectionsRequest{})
	require.Equal(t, codes.Unavailable, rpcerr.CodeOf(err))
	require.Equal(t, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, rpcerr.ReasonOf(err))
}

// What changes something reaches the projection with who asked for it, and the
// answer is the projection as it is then.
func TestOperations(t *testing.T) {
	t.Parallel()
	bea := &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: "bea"}
	named := &opsv1.GenerationName{Projection: "customer", Version: 1, Generation: 4}
	meant := &opsv1.GenerationName{Projection: "customer"}
	for name, tc := range map[string]struct {
		do   func(ctx context.Context, c opsv1.ProjectionServiceClient) (interface{ GetProjection() *opsv1.Projection }, error)
		want string
	}{
		"switch": {func(ctx context.Context, c opsv1.ProjectionServiceClient) (interface{ GetProjection() *opsv1.Projection }, error) {
			return c.SwitchOver(ctx, &opsv1.SwitchOverRequest{Generation: named, Reason: "compared", Actor: bea})
		}, `switch to customer/v1/g4 by agent bea "compared"`},
		"switch to the candidate": {func(ctx context.Context, c opsv1.ProjectionServiceClient) (interface{ GetProjection() *opsv1.Projection }, error) {
			return c.SwitchOver(ctx, &opsv1.SwitchOverRequest{Generation: meant})
		}, `switch to customer/v0/g0 by operator ada-laptop ""`},
		"rollback": {func(ctx context.Context, c opsv1.ProjectionServiceClient) (interface{ GetProjection() *opsv1.Projection }, error) {
			return c.Rollback(ctx, &opsv1.RollbackRequest{Projection: "customer", Reason: "wrong sums"})
		}, `rollback by operator ada-laptop "wrong sums"`},
		"drop": {func(ctx context.Context, c opsv1.ProjectionServiceClient) (interface{ GetProjection() *opsv1.Projection }, error) {
			return c.DropGeneration(ctx, &opsv1.DropGenerationRequest{Generation: named, Reason: "old"})
		}, `drop customer/v1/g4 by operator ada-laptop "old"`},
		"pause": {func(ctx context.Context, c opsv1.ProjectionServiceClient) (interface{ GetProjection() *opsv1.Projection }, error) {
			return c.PauseProjection(ctx, &opsv1.PauseProjectionRequest{Projection: "customer", Reason: "disk"})
		}, `pause by operator ada-laptop "disk"`},
		"resume": {func(ctx context.Context, c opsv1.ProjectionServiceClient) (interface{ GetProjection() *opsv1.Projection }, error) {
			return c.ResumeProjection(ctx, &opsv1.ResumeProjectionRequest{Projection: "customer", Reason: "more disk"})
		}, `resume by operator ada-laptop "more disk"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.customer.now.ActiveProcess = "as it is now"
			answer, err := tc.do(h.ops(), h.client)
			require.NoError(t, err)
			require.Equal(t, []string{tc.want}, h.customer.asked())
			require.True(t, proto.Equal(h.customer.now, answer.GetProjection()))
			require.Empty(t, h.feed.asked())
			require.Contains(t, h.log.String(), "credential=ada-laptop")

			// What the projection refuses is not answered with how it is.
			h.customer.err = fmt.Errorf("refused: %w", projection.ErrFrozen)
			_, err = tc.do(h.ops(), h.client)
			require.Equal(t, errorv1.Reason_REASON_GENERATION_FROZEN, rpcerr.ReasonOf(err), "%v", err)

			// That it was done is said also where how it is cannot be.
			h.customer.err, h.customer.reportErr = nil, view.ErrUnavailable
			if name != "drop" && name != "switch" {
				_, err = tc.do(h.ops(), h.client)
				require.Equal(t, codes.Unavailable, rpcerr.CodeOf(err))
				require.ErrorContains(t, err, "it was done")
			}
		})
	}
}

func TestActors(t *testing.T) {
	t.Parallel()
	actor := func(kind eventv1.ActorKind, id string) *eventv1.Actor { return &eventv1.Actor{Kind: kind, Id: id} }
	for name, tc := range map[string]struct {
		loopback bool
		actor    *eventv1.Actor
		want     string
	}{
		"the credential":           {want: "operator ada-laptop"},
		"nobody said":              {actor: &eventv1.Actor{}, want: "operator ada-laptop"},
		"a person":                 {actor: actor(eventv1.ActorKind_ACTOR_KIND_AGENT, "bea"), want: "agent bea"},
		"a person of no kind":      {actor: actor(eventv1.ActorKind_ACTOR_KIND_UNSPECIFIED, "bea"), want: "operator bea"},
		"no credential":            {loopback: true, want: "operator anonymous"},
		"no credential, but a bot": {loopback: true, actor: actor(eventv1.ActorKind_ACTOR_KIND_BOT, "deploy"), want: "bot deploy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, func(h *house) { h.withoutKeys = tc.loopback })
			key := "ops"
			if tc.loopback {
				key = ""
			}
			_, err := h.client.PauseProjection(h.call(key), &opsv1.PauseProjectionRequest{Projection: "customer", Actor: tc.actor})
			require.NoError(t, err)
			require.Equal(t, []string{"pause by " + tc.want + ` ""`}, h.customer.asked())
		})
	}
}

// The errors of the projections reach the caller as the contract names them.
func TestRefusals(t *testing.T) {
	t.Parallel()
	ns := view.Namespace{Projection: "customer", Version: 2, Generation: 1}
	for _, tc := range []struct {
		err    error
		method string
		code   codes.Code
		reason errorv1.Reason
	}{
		{projection.ErrUnknownGeneration, "SwitchOver", codes.NotFound, errorv1.Reason_REASON_GENERATION_NOT_FOUND},
		{&projection.NotCaughtUpError{Generation: ns, At: 1, Want: 5}, "SwitchOver", codes.FailedPrecondition, errorv1.Reason_REASON_NOT_CAUGHT_UP},
		{projection.ErrAlreadyServing, "SwitchOver", codes.FailedPrecondition, errorv1.Reason_REASON_ALREADY_SERVING},
		{projection.ErrFrozen, "SwitchOver", codes.FailedPrecondition, errorv1.Reason_REASON_GENERATION_FROZEN},
		{projection.ErrNothingToRollBack, "Rollback", codes.FailedPrecondition, errorv1.Reason_REASON_NOTHING_TO_ROLL_BACK},
		{projection.ErrAlreadyServing, "DropGeneration", codes.FailedPrecondition, errorv1.Reason_REASON_ALREADY_SERVING},
		{projection.ErrRebuildRunning, "RebuildProjections", codes.FailedPrecondition, errorv1.Reason_REASON_REBUILD_RUNNING},
		{projection.ErrRebuildRunning, "VerifyProjection", codes.FailedPrecondition, errorv1.Reason_REASON_REBUILD_RUNNING},
		{&projection.NotCaughtUpError{Generation: ns}, "CompareGenerations", codes.FailedPrecondition, errorv1.Reason_REASON_NOT_CAUGHT_UP},
		{fmt.Errorf("with itself: %w", view.ErrInvalid), "CompareGenerations", codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD},
		{projection.ErrPaused, "CompareGenerations", codes.Unavailable, errorv1.Reason_REASON_NOT_ACTIVE},
		{projection.ErrUnknownGeneration, "ListDeadLetters", codes.NotFound, errorv1.Reason_REASON_GENERATION_NOT_FOUND},
		{projection.ErrUnknownDeadLetter, "GetDeadLetter", codes.NotFound, errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND},
		{projection.ErrUnknownDeadLetter, "RetryDeadLetters", codes.NotFound, errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND},
		{&projection.AlreadyFoldedError{Generation: ns, Position: 7}, "SkipDeadLetter", codes.FailedPrecondition, errorv1.Reason_REASON_ALREADY_FOLDED},
		{&projection.NotActiveError{Projection: "customer"}, "PauseProjection", codes.Unavailable, errorv1.Reason_REASON_NOT_ACTIVE},
		{eventstore.ErrUnavailable, "ResumeProjection", codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{view.ErrConflict, "ResumeProjection", codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE},
		{errors.New("secret detail"), "ResumeProjection", codes.Internal, errorv1.Reason_REASON_INTERNAL},
	} {
		t.Run(tc.method+" "+tc.reason.String(), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.customer.err = fmt.Errorf("carry it out: %w", tc.err)
			err := h.invoke(h.ops(), tc.method, requests("customer")[tc.method])
			require.Equal(t, tc.code, rpcerr.CodeOf(err), "%v", err)
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err))
			require.NotContains(t, err.Error(), "secret")
			require.Len(t, h.customer.asked(), 1)
		})
	}
}

// Whoever waits in vain is told that it may be done all the same.
func TestDeadline(t *testing.T) {
	t.Parallel()
	f := newFake("customer", serving(2, 1))
	f.wait = make(chan struct{})
	service, err := ops.NewServer(ops.Deps{LogID: logID, Projections: []ops.Projection{{Operations: f}}})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(tenant.NewContext(t.Context(), tenant.Identity{Scopes: tenant.Ops}), 1)
	defer cancel()
	_, err = service.SwitchOver(ctx, &opsv1.SwitchOverRequest{Generation: &opsv1.GenerationName{Projection: "customer"}})
	require.Equal(t, codes.DeadlineExceeded, rpcerr.CodeOf(err))
	require.ErrorContains(t, err, "may still be done")
}

// A generation without its version is the newest of that number.
func TestGenerationsWithoutAVersion(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.customer.now.Generations = []*opsv1.Generation{
		serving(2, 1), candidate(3, 1, opsv1.GenerationState_GENERATION_STATE_LIVE),
		generation(1, 1, opsv1.GenerationRole_GENERATION_ROLE_RETIRED, opsv1.GenerationState_GENERATION_STATE_FROZEN),
		generation(1, 4, opsv1.GenerationRole_GENERATION_ROLE_RETIRED, opsv1.GenerationState_GENERATION_STATE_FROZEN),
	}
	name := func(number uint32) *opsv1.GenerationName {
		return &opsv1.GenerationName{Projection: "customer", Generation: number}
	}
	_, err := h.client.SwitchOver(h.ops(), &opsv1.SwitchOverRequest{Generation: name(1)})
	require.NoError(t, err)
	_, err = h.client.DropGeneration(h.ops(), &opsv1.DropGenerationRequest{Generation: name(4)})
	require.NoError(t, err)
	stream, err := h.client.CompareGenerations(h.ops(), &opsv1.CompareGenerationsRequest{Generation: name(1), Other: name(4), MaxDocuments: proto.Int32(0)})
	require.NoError(t, err)
	_, err = all(stream)
	require.NoError(t, err)
	require.Equal(t, []string{
		`switch to customer/v3/g1 by operator ada-laptop ""`, `drop customer/v1/g4 by operator ada-laptop ""`,
		`compare customer/v3/g1 with customer/v1/g4, 0 documents`,
	}, h.customer.asked())

	for method, req := range map[string]proto.Message{
		"SwitchOver":         &opsv1.SwitchOverRequest{Generation: name(9)},
		"DropGeneration":     &opsv1.DropGenerationRequest{Generation: name(9)},
		"CompareGenerations": &opsv1.CompareGenerationsRequest{Generation: name(1), Other: name(9)},
		"ListDeadLetters":    &opsv1.ListDeadLettersRequest{Generation: name(9)},
		"GetDeadLetter":      &opsv1.GetDeadLetterRequest{Generation: name(9), Position: 1},
		"RetryDeadLetters":   &opsv1.RetryDeadLettersRequest{Generation: name(9)},
		"SkipDeadLetter":     &opsv1.SkipDeadLetterRequest{Generation: name(9), Position: 1, Reason: "x"},
	} {
		err := h.invoke(h.ops(), method, req)
		require.Equal(t, errorv1.Reason_REASON_GENERATION_NOT_FOUND, rpcerr.ReasonOf(err), "%s: %v", method, err)
	}
	require.Len(t, h.customer.asked(), 3)
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	answer, err := h.client.RebuildProjections(h.ops(), &opsv1.RebuildProjectionsRequest{
		Projections: []string{"feed", "customer"}, SwitchWhenReady: true, MaxEventsPerSecond: 5000, Reason: "new index",
	})
	require.NoError(t, err)
	require.Len(t, answer.GetGenerations(), 2)
	require.True(t, proto.Equal(&opsv1.GenerationName{Projection: "feed", Version: 2, Generation: 5}, answer.GetGenerations()[0]), "in the order of the request")
	require.Equal(t, "customer", answer.GetGenerations()[1].GetProjection())
	scan := uuid.UUID{15: 1}.String()
	want := `rebuild by operator ada-laptop "new index" {SwitchWhenReady:true MaxEventsPerSecond:5000 Scan:` + scan + `}`
	require.Equal(t, []string{want}, h.feed.asked())
	require.Equal(t, []string{want}, h.customer.asked())

	_, err = h.client.RebuildProjections(h.ops(), &opsv1.RebuildProjectionsRequest{Projections: []string{"feed"}})
	require.NoError(t, err)
	require.Equal(t, `rebuild by operator ada-laptop "" {SwitchWhenReady:false MaxEventsPerSecond:0 Scan:}`, h.feed.asked()[1], "one needs no scan in common")
}

// What can be told beforehand keeps all of them from being begun.
func TestRebuildAllOrNone(t *testing.T) {
	t.Parallel()
	filling := candidate(3, 1, opsv1.GenerationState_GENERATION_STATE_CATCHING_UP)
	for name, tc := range map[string]struct {
		change func(h *house)
		names  []string
		reason errorv1.Reason
	}{
		"an unknown one": {func(*house) {}, []string{"customer", "feeds"}, errorv1.Reason_REASON_PROJECTION_NOT_FOUND},
		"one with a rebuild running": {func(h *house) {
			h.feed.now.Generations = append(h.feed.now.Generations, filling)
		}, []string{"customer", "feed"}, errorv1.Reason_REASON_REBUILD_RUNNING},
		"one with a candidate that waits": {func(h *house) {
			h.feed.now.Generations = append(h.feed.now.Generations, candidate(3, 1, opsv1.GenerationState_GENERATION_STATE_LIVE))
		}, []string{"customer", "feed"}, errorv1.Reason_REASON_REBUILD_RUNNING},
		"one that cannot be asked": {func(h *house) { h.feed.reportErr = view.ErrUnavailable }, []string{"customer", "feed"}, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			tc.change(h)
			_, err := h.client.RebuildProjections(h.ops(), &opsv1.RebuildProjectionsRequest{Projections: tc.names})
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err), "%v", err)
			require.Empty(t, h.customer.asked())
			require.Empty(t, h.feed.asked())
		})
	}
	t.Run("refused after others were begun", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		h.feed.err = &projection.NotActiveError{Projection: "feed", Active: "host-2"}
		_, err := h.client.RebuildProjections(h.ops(), &opsv1.RebuildProjectionsRequest{Projections: []string{"customer", "feed"}})
		e, ok := rpcerr.Parse(err)
		require.True(t, ok)
		require.Equal(t, errorv1.Reason_REASON_NOT_ACTIVE, e.Reason)
		require.Equal(t, map[string]string{"begun": "customer/v2/g5", "projection": "feed", "active_process": "host-2"}, e.Metadata)
		require.Contains(t, e.Message, "customer/v2/g5")
	})
}

func TestNewServerChecks(t *testing.T) {
	t.Parallel()
	_, err := ops.NewServer(ops.Deps{})
	require.ErrorContains(t, err, "LogID")
	_, err = ops.NewServer(ops.Deps{LogID: logID, Projections: []ops.Projection{{}}})
	require.ErrorContains(t, err, "without Operations")
	_, err = ops.NewServer(ops.Deps{LogID: logID, Projections: []ops.Projection{{Operations: newFake("feed")}, {Operations: newFake("feed")}}})
	require.ErrorContains(t, err, "two projections are named feed")

	// A process may have none.
	service, err := ops.NewServer(ops.Deps{LogID: logID})
	require.NoError(t, err)
	ctx := tenant.NewContext(t.Context(), tenant.Identity{Scopes: tenant.Ops})
	_, err = service.GetProjection(ctx, &opsv1.GetProjectionRequest{Projection: "feed"})
	require.ErrorContains(t, err, "this process has none")
}
