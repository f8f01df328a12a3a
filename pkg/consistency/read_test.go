package consistency_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// reader is of a generation: for some customers of tenant acme an event waits,
// at the position said.
type reader struct {
	parked map[string]eventstore.Position
	fails  error
	// asked is what was asked of it.
	asked []string
}

func (r *reader) Folded(_ context.Context, tenant, id string, position eventstore.Position) error {
	r.asked = append(r.asked, id)
	if at, waits := r.parked[id]; waits && tenant == "acme" && at <= position || id == "" && tenant == "ruled" {
		return &projection.DeadLetterError{Projection: "secret", Position: at}
	}
	return r.fails
}

func (r *reader) FoldedAt(_ context.Context, position eventstore.Position) error {
	r.asked = append(r.asked, "all")
	for _, at := range r.parked {
		if at == position {
			return &projection.DeadLetterError{Projection: "secret", Position: at}
		}
	}
	return r.fails
}

// TestRead has a customer of whom an event waits at position 4.
func TestRead(t *testing.T) {
	t.Parallel()
	at := func(p eventstore.Position) string { return token.NewConsistency(logID, p).String() }
	about := func(ids ...string) func(context.Context, *consistency.Read[*reader]) error {
		return func(ctx context.Context, r *consistency.Read[*reader]) error { return r.About(ctx, ids...) }
	}
	all := func(ctx context.Context, r *consistency.Read[*reader]) error { return r.AboutAll(ctx) }
	for _, tc := range []struct {
		name   string
		tenant string
		token  string
		about  func(context.Context, *consistency.Read[*reader]) error
		fails  error
		asked  []string
		code   codes.Code
		reason errorv1.Reason
		who    string
	}{
		{name: "of the customer", token: at(5), about: about("p1"), asked: []string{"p1"}, code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER, who: "p1"},
		{name: "its own token", token: at(4), about: about("p1"), asked: []string{"p1"}, code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER, who: "p1"},
		{name: "one of many", token: at(5), about: about("p2", "p1", "p3"), asked: []string{"p2", "p1"}, code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER, who: "p1"},
		{name: "a token before it", token: at(3), about: about("p1"), asked: []string{"p1"}},
		{name: "of another customer", token: at(5), about: about("p2"), asked: []string{"p2"}},
		{name: "of another tenant", tenant: "other", token: at(5), about: about("p1"), asked: []string{"p1"}},
		{name: "about nobody known", token: at(5), about: about()},
		{name: "without a token", about: about("p1", "p2")},
		{name: "all, its own token", token: at(4), about: all, asked: []string{"all"}, code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER},
		{name: "all, another's token", token: at(5), about: all, asked: []string{"all", ""}},
		{name: "all, nobody's waits", tenant: "ruled", token: at(5), about: all, asked: []string{"all", ""}, code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER},
		{name: "all, without a token", about: all},
		{name: "the views are away", token: at(5), about: about("p2"), fails: view.ErrUnavailable, asked: []string{"p2"}, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{name: "all, the views are away", token: at(5), about: all, fails: view.ErrUnavailable, asked: []string{"all"}, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{name: "cannot tell", token: at(5), about: about("p2"), fails: errors.New("secret"), asked: []string{"p2"}, code: codes.Internal, reason: errorv1.Reason_REASON_INTERNAL},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			generation := &reader{parked: map[string]eventstore.Position{"p1": 4}, fails: tc.fails}
			reads := consistency.Reads[*reader]{
				Waiter:  consistency.Waiter{Log: head(10), Model: model{at: 10}},
				Current: func() *reader { return generation },
			}
			if tc.tenant == "" {
				tc.tenant = "acme"
			}
			read, err := reads.Begin(t.Context(), tc.tenant, tc.token)
			require.NoError(t, err)
			require.Same(t, generation, read.Reader)
			require.Equal(t, tc.tenant, read.Tenant)
			err = tc.about(t.Context(), &read)
			require.Equal(t, tc.code, rpcerr.CodeOf(err), "%v", err)
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err), "%v", err)
			require.Equal(t, tc.asked, generation.asked)
			e, refused := rpcerr.Parse(err)
			require.Equal(t, err != nil, refused)
			if refused {
				require.NotContains(t, e.Message, "secret")
				require.Equal(t, tc.who, e.Metadata["customer_id"])
			}
		})
	}
}

// TestAReadBeginsOnceItHasWaited takes the reader of what serves when the wait is
// over, and none where it fails.
func TestAReadBeginsOnceItHasWaited(t *testing.T) {
	t.Parallel()
	before, after := &reader{}, &reader{parked: map[string]eventstore.Position{"p1": 8}}
	serving := before
	reads := consistency.Reads[*reader]{
		Waiter: consistency.Waiter{Log: head(10), Longest: time.Millisecond, Model: model{at: 5, wait: func(context.Context) error {
			serving = after
			return nil
		}}},
		Current: func() *reader { return serving },
	}
	early, err := reads.Begin(t.Context(), "acme", token.NewConsistency(logID, 5).String())
	require.NoError(t, err)
	require.Same(t, before, early.Reader)
	late, err := reads.Begin(t.Context(), "acme", token.NewConsistency(logID, 9).String())
	require.NoError(t, err)
	require.Same(t, after, late.Reader)
	require.EqualValues(t, 9, late.Position)
	require.Equal(t, errorv1.Reason_REASON_DEAD_LETTER, rpcerr.ReasonOf(late.About(t.Context(), "p1")))
	require.Same(t, before, early.Reader, "a read stays with its generation")

	whole, err := reads.BeginAtHead(t.Context(), "acme")
	require.NoError(t, err)
	require.EqualValues(t, 10, whole.Position)
	require.Equal(t, errorv1.Reason_REASON_DEAD_LETTER, rpcerr.ReasonOf(whole.About(t.Context(), "p1")))
	require.NoError(t, whole.About(t.Context(), "p2"))

	reads.Waiter.Model = model{at: 5, wait: behind}
	for _, begin := range []func() (consistency.Read[*reader], error){
		func() (consistency.Read[*reader], error) {
			return reads.Begin(t.Context(), "acme", token.NewConsistency(logID, 9).String())
		},
		func() (consistency.Read[*reader], error) { return reads.BeginAtHead(t.Context(), "acme") },
	} {
		none, err := begin()
		require.Equal(t, errorv1.Reason_REASON_BEHIND, rpcerr.ReasonOf(err), "%v", err)
		require.Nil(t, none.Reader)
	}
}
