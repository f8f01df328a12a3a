package ops_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/ops"
)

// lettersOf are the dead letters of a generation, at positions that tell which
// one it is; the cursor is the position behind which to go on.
func lettersOf(ns view.Namespace, q projection.DeadLetterQuery) (projection.DeadLetterPage, error) {
	const each = 5
	after := 0
	if q.Cursor != nil {
		n, err := strconv.Atoi(string(q.Cursor))
		if err != nil {
			return projection.DeadLetterPage{}, fmt.Errorf("%w: %w", view.ErrInvalidCursor, err)
		}
		after = n
	}
	var page projection.DeadLetterPage
	for i := after + 1; i <= each && len(page.DeadLetters) < q.Limit; i++ {
		page.DeadLetters = append(page.DeadLetters, &opsv1.DeadLetter{Position: uint64(ns.Generation)*100 + uint64(i)})
		after = i
	}
	if after < each {
		page.Next = []byte(strconv.Itoa(after))
	}
	return page, nil
}

func TestListDeadLetters(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.customer.letters = lettersOf
	req := &opsv1.ListDeadLettersRequest{
		Generation: &opsv1.GenerationName{Projection: "customer"}, PageSize: 2, Tenant: "acme", CustomerId: "c1",
		States: []opsv1.DeadLetterState{opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING},
	}
	var positions []uint64
	for pages := 0; ; pages++ {
		answer, err := h.client.ListDeadLetters(h.ops(), req)
		require.NoError(t, err)
		for _, l := range answer.GetDeadLetters() {
			positions = append(positions, l.GetPosition())
		}
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			require.Equal(t, 2, pages)
			break
		}
		// Another generation comes to serve between two pages.
		h.customer.mu.Lock()
		h.customer.now.Generations = []*opsv1.Generation{serving(3, 2)}
		h.customer.mu.Unlock()
	}
	require.Equal(t, []uint64{101, 102, 103, 104, 105}, positions, "all of one generation")
	require.Equal(t, `list customer/v2/g1 "acme" "c1" [DEAD_LETTER_STATE_WAITING] 2 ""`, h.customer.asked()[0])
	require.Equal(t, `list customer/v2/g1 "acme" "c1" [DEAD_LETTER_STATE_WAITING] 2 "2"`, h.customer.asked()[1])

	_, err := h.client.ListDeadLetters(h.ops(), &opsv1.ListDeadLettersRequest{Generation: &opsv1.GenerationName{Projection: "customer", Version: 1, Generation: 9}})
	require.NoError(t, err)
	require.Equal(t, `list customer/v1/g9 "" "" [] 100 ""`, h.customer.asked()[3])
}

func TestPageTokensOfDeadLetters(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.customer.letters, h.feed.letters = lettersOf, lettersOf
	customer := &opsv1.GenerationName{Projection: "customer"}
	first, err := h.client.ListDeadLetters(h.ops(), &opsv1.ListDeadLettersRequest{Generation: customer, PageSize: 2})
	require.NoError(t, err)
	given := first.GetNextPageToken()
	require.NotEmpty(t, given)
	forged := func(content string) string {
		f, err := token.FingerprintOf("", &opsv1.ListDeadLettersRequest{Generation: customer})
		require.NoError(t, err)
		s, err := token.Page("ops.dead_letters", f, []byte(content))
		require.NoError(t, err)
		return s
	}
	for name, tc := range map[string]struct {
		req  *opsv1.ListDeadLettersRequest
		asks int // how often the projection is asked
	}{
		"garbage":            {req: &opsv1.ListDeadLettersRequest{Generation: customer, PageToken: "garbage"}},
		"another projection": {req: &opsv1.ListDeadLettersRequest{Generation: &opsv1.GenerationName{Projection: "feed"}, PageToken: given}},
		"another tenant":     {req: &opsv1.ListDeadLettersRequest{Generation: customer, Tenant: "acme", PageToken: given}},
		"another kind":       {req: &opsv1.ListDeadLettersRequest{Generation: customer, PageToken: token.NewResume(logID, 1).String()}},
		"too short":          {req: &opsv1.ListDeadLettersRequest{Generation: customer, PageToken: forged("\x00\x00\x00\x02\x00\x00\x00")}},
		"no generation":      {req: &opsv1.ListDeadLettersRequest{Generation: customer, PageToken: forged("\x00\x00\x00\x02\x00\x00\x00\x00x")}},
		"no version":         {req: &opsv1.ListDeadLettersRequest{Generation: customer, PageToken: forged("\x00\x00\x00\x00\x00\x00\x00\x01x")}},
		"no cursor":          {req: &opsv1.ListDeadLettersRequest{Generation: customer, PageToken: forged("\x00\x00\x00\x02\x00\x00\x00\x01x")}, asks: 1},
	} {
		before := len(h.customer.asked())
		_, err := h.client.ListDeadLetters(h.ops(), tc.req)
		require.Equal(t, codes.InvalidArgument, rpcerr.CodeOf(err), "%s: %v", name, err)
		require.Equal(t, errorv1.Reason_REASON_INVALID_TOKEN, rpcerr.ReasonOf(err), name)
		require.Len(t, h.customer.asked(), before+tc.asks, name)
	}
	// The size may change from page to page.
	next, err := h.client.ListDeadLetters(h.ops(), &opsv1.ListDeadLettersRequest{Generation: customer, PageSize: 1, PageToken: given})
	require.NoError(t, err)
	require.Equal(t, uint64(103), next.GetDeadLetters()[0].GetPosition())

	h.customer.now.Generations = nil
	_, err = h.client.ListDeadLetters(h.ops(), &opsv1.ListDeadLettersRequest{Generation: customer})
	require.Equal(t, errorv1.Reason_REASON_GENERATION_NOT_FOUND, rpcerr.ReasonOf(err), "none serves: %v", err)
}

func TestGetDeadLetterShowsNothingPersonal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const secret = "ada@example.com"
	h.customer.detail = projection.DeadLetterDetail{
		DeadLetter: &opsv1.DeadLetter{Position: 7, Error: "amount is no number", Attempts: 3},
		Event: &eventv1.RecordedEvent{Position: 7, Stream: "acme.email-t1", Event: &eventv1.Event{
			Id: "e7", Tenant: "acme", Type: "parley.email.received", ProfileId: "p1",
			Identifiers: []*eventv1.Identifier{{Kind: "email", Value: secret}}, ContextJson: `{"from":"` + secret + `"}`, Sealed: []byte(secret),
			Payload: &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: &eventv1.EmailReceived{Subject: "from " + secret}}},
		}},
		Documents: []proto.Message{
			&customerv1.Customer{
				CustomerId: "c1", DisplayName: secret, InteractionCount: 2,
				RecentInteractions: []*customerv1.InteractionSummary{{EventId: "e6", Summary: "mail of " + secret}},
			},
			nil,
			&customerv1.Customer{CustomerId: "c2", Traits: []*customerv1.CustomerTrait{{Name: "email", ValueJson: secret}}},
		},
	}
	generation := &opsv1.GenerationName{Projection: "customer"}
	got, err := h.client.GetDeadLetter(h.ops(), &opsv1.GetDeadLetterRequest{Generation: generation, Position: 7})
	require.NoError(t, err)
	require.Equal(t, []string{"show customer/v0/g0 7"}, h.customer.asked())
	require.NotContains(t, got.String(), "ada")
	require.True(t, proto.Equal(h.customer.detail.DeadLetter, got.GetDeadLetter()))
	require.Equal(t, "p1", got.GetEvent().GetEvent().GetProfileId())
	require.Equal(t, "acme.email-t1", got.GetEvent().GetStream())
	require.NotNil(t, got.GetEvent().GetEvent().GetPayload().GetEmailReceived(), "what it is stays")
	require.Equal(t, []string{
		`{"customerId":"c1","interactionCount":"2","recentInteractions":[{"eventId":"e6"}]}`, `{"customerId":"c2"}`,
	}, got.GetDocumentsJson())
}

// An event that cannot be decoded is why some are dead letters.
func TestGetDeadLetterOfAnUndecodableEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := uuid.MustParse("0190b3a0-7c3e-7000-8000-000000000007")
	h.customer.detail = projection.DeadLetterDetail{
		DeadLetter: &opsv1.DeadLetter{Position: 7},
		Record: &eventstore.Record{
			NewRecord: eventstore.NewRecord{ID: id, Type: "parley.tracked", Data: []byte("ada")}, Stream: "acme.web-s1", Revision: 3, Position: 7,
		},
	}
	req := &opsv1.GetDeadLetterRequest{Generation: &opsv1.GenerationName{Projection: "customer"}, Position: 7}
	got, err := h.client.GetDeadLetter(h.ops(), req)
	require.NoError(t, err)
	require.Equal(t, id.String(), got.GetEvent().GetEvent().GetId())
	require.Equal(t, "acme", got.GetEvent().GetEvent().GetTenant())
	require.Equal(t, "parley.tracked", got.GetEvent().GetEvent().GetType())
	require.Equal(t, uint64(3), got.GetEvent().GetRevision())
	require.NotContains(t, got.String(), "ada")

	h.customer.detail.Record = nil
	got, err = h.client.GetDeadLetter(h.ops(), req)
	require.NoError(t, err)
	require.Nil(t, got.GetEvent())
}

// A projection may have its documents shown its own way.
func TestShownItsOwnWay(t *testing.T) {
	t.Parallel()
	f := newFake("customer", serving(2, 1))
	f.detail.Documents = []proto.Message{&customerv1.Customer{CustomerId: "c1"}}
	show := func(proto.Message) (string, error) { return "[]", nil }
	service, err := ops.NewServer(ops.Deps{LogID: logID, Projections: []ops.Projection{{Operations: f, Show: func(m proto.Message) (string, error) { return show(m) }}}})
	require.NoError(t, err)
	ctx := tenant.NewContext(t.Context(), tenant.Identity{Scopes: tenant.Ops})
	req := &opsv1.GetDeadLetterRequest{Generation: &opsv1.GenerationName{Projection: "customer"}, Position: 7}
	got, err := service.GetDeadLetter(ctx, req)
	require.NoError(t, err)
	require.Equal(t, []string{"[]"}, got.GetDocumentsJson())
	show = func(proto.Message) (string, error) { return "", errors.New("no JSON") }
	_, err = service.GetDeadLetter(ctx, req)
	require.Equal(t, codes.Internal, rpcerr.CodeOf(err))
}

func TestRetry(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.customer.retried = projection.RetryResult{Folded: 12, Failed: 1, Waiting: 3}
	generation := &opsv1.GenerationName{Projection: "customer", Version: 2, Generation: 1}
	got, err := h.client.RetryDeadLetters(h.ops(), &opsv1.RetryDeadLettersRequest{Generation: generation, Positions: []uint64{9, 7}})
	require.NoError(t, err)
	require.True(t, proto.Equal(&opsv1.RetryDeadLettersResponse{Folded: 12, DeadLetters: 1, WaitingEvents: 3}, got), "got %v", got)
	_, err = h.client.RetryDeadLetters(h.ops(), &opsv1.RetryDeadLettersRequest{Generation: &opsv1.GenerationName{Projection: "customer"}})
	require.NoError(t, err)
	require.Equal(t, []string{
		`retry customer/v2/g1 [9 7] by operator ada-laptop ""`, `retry customer/v0/g0 [] by operator ada-laptop ""`,
	}, h.customer.asked())
}

func TestSkip(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.customer.skipped = projection.Skipped{Position: 4711, EventID: "e1", Failed: 2}
	got, err := h.client.SkipDeadLetter(h.ops(), &opsv1.SkipDeadLetterRequest{
		Generation: &opsv1.GenerationName{Projection: "customer"}, Position: 7, Reason: "empty body",
		Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: "bea"},
	})
	require.NoError(t, err)
	require.Equal(t, []string{`skip customer/v0/g0 7 by operator bea "empty body"`}, h.customer.asked())
	require.Equal(t, "e1", got.GetEventId())
	require.Equal(t, uint64(2), got.GetDeadLetters())
	place, err := token.Parse(token.Consistency, got.GetConsistencyToken())
	require.NoError(t, err)
	require.Equal(t, token.NewConsistency(logID, 4711), place)
}

// A difference tells where documents differ, and what of it is nobody's
// business is withheld.
func TestDifferencesWithholdWhatIsPersonal(t *testing.T) {
	t.Parallel()
	field := func(path, value, other string) *opsv1.FieldDifference {
		return &opsv1.FieldDifference{Path: path, Value: value, OtherValue: other}
	}
	shown := []*opsv1.FieldDifference{
		field("interaction_count", "2", "3"), field("interactionCount", "2", "3"), field("channels[1].inbound_count", "2", ""),
		field("channels", `[{"channel":"web"}]`, ""), field("orders.totals[0].units", `"39"`, `"40"`), field("recent_interactions[0].event_id", `"e1"`, `"e2"`),
		field("first_seen_time", `"2026-03-01T09:00:00Z"`, ""), field("profile_ids[3]", `"p1"`, `"p2"`),
	}
	hidden := []string{
		"display_name", "identifiers[0].kind", "identifiers", "traits[0].value_json", "working.orders.count",
		"recent_interactions[0]", "recent_interactions", "recent_interactions[0].summary", "links[2].reason",
		// What is not understood may be anything.
		"no_such_field", "channels[1", "channels[x].inbound_count", "channels[-1]", "channels[1]inbound_count", "channels[1].",
		"interaction_count[0]", "interaction_count.x", "channels[1].no_such_field", "", ".", "[0]", "channels[0][1]",
	}
	difference := func() *opsv1.Difference {
		doc := &opsv1.DocumentDifference{Tenant: "acme", DocumentId: "c1"}
		for _, f := range shown {
			doc.Fields = append(doc.Fields, proto.CloneOf(f))
		}
		for _, path := range hidden {
			doc.Fields = append(doc.Fields, field(path, `"ada"`, ""), field(path, "", `"ada"`))
		}
		other := proto.CloneOf(doc)
		return &opsv1.Difference{Collections: []*opsv1.CollectionDifference{
			{Collection: "customers", Examples: []*opsv1.DocumentDifference{doc}}, {Collection: "others", Examples: []*opsv1.DocumentDifference{other}},
		}}
	}
	kept := difference()
	h := newHouse(t, func(h *house) { h.messages = map[string]proto.Message{"customers": &customerv1.Customer{}} })
	h.customer.compare = compareTo(kept)
	stream, err := h.client.CompareGenerations(h.ops(), &opsv1.CompareGenerationsRequest{Generation: &opsv1.GenerationName{Projection: "customer"}})
	require.NoError(t, err)
	compared, err := all(stream)
	require.NoError(t, err)
	verifying, err := h.client.VerifyProjection(h.ops(), &opsv1.VerifyProjectionRequest{Projection: "customer"})
	require.NoError(t, err)
	verified, err := all(verifying)
	require.NoError(t, err)
	require.True(t, proto.Equal(difference(), kept), "the projection's own is left alone")

	for _, got := range []*opsv1.Difference{compared[len(compared)-1].GetDifference(), verified[len(verified)-1].GetDifference()} {
		require.NotContains(t, got.String(), "ada")
		fields := got.GetCollections()[0].GetExamples()[0].GetFields()
		for i, want := range shown {
			require.True(t, proto.Equal(want, fields[i]), "%v", fields[i])
		}
		for i, path := range hidden {
			one, other := fields[len(shown)+2*i], fields[len(shown)+2*i+1]
			require.Equal(t, path, one.GetPath())
			require.Equal(t, `"(personal)"`, one.GetValue(), path)
			require.Empty(t, one.GetOtherValue(), "%s: absent is absent", path)
			require.Equal(t, `"(personal)"`, other.GetOtherValue(), path)
		}
		for _, f := range got.GetCollections()[1].GetExamples()[0].GetFields() {
			require.NotContains(t, f.GetValue()+f.GetOtherValue(), "3", "nothing is known of that collection")
		}
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	_, err := ops.Show(&customerv1.Customer{CustomerId: "\xff"})
	require.ErrorContains(t, err, "parley.customer.v1.Customer")
	got, err := ops.Show(&customerv1.Customer{})
	require.NoError(t, err)
	require.Equal(t, "{}", got)
}

func compareTo(d *opsv1.Difference) func(context.Context, projection.CompareOptions) (*opsv1.Difference, error) {
	return func(context.Context, projection.CompareOptions) (*opsv1.Difference, error) { return d, nil }
}
