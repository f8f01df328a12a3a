package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

var logID = uuid.MustParse("5e0a3f6e-0d52-4d0b-9f3a-0f0c5c1c9c11")

type head eventstore.Position

func (head) LogID() uuid.UUID                                    { return logID }
func (h head) Head(context.Context) (eventstore.Position, error) { return eventstore.Position(h), nil }

// model stands at a position and gets no further: wait says how it ends.
type model struct {
	at   eventstore.Position
	wait func(ctx context.Context) error
}

func (m model) WaitFor(ctx context.Context, _ eventstore.Position) error { return m.wait(ctx) }
func (m model) Position() eventstore.Position                            { return m.at }
func (m model) Status() projection.Status                                { return projection.Status{Behind: 1500 * time.Millisecond} }

func behind(ctx context.Context) error {
	<-ctx.Done()
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return &projection.BehindError{Projection: "customer", Want: 9, At: 5}
}

func TestWait(t *testing.T) {
	t.Parallel()
	at := func(p eventstore.Position) string { return token.NewConsistency(logID, p).String() }
	for _, tc := range []struct {
		name   string
		token  string
		wait   func(context.Context) error
		code   codes.Code
		reason errorv1.Reason
	}{
		{name: "no token"},
		{name: "already there", token: at(5)},
		{name: "gets there", token: at(9), wait: func(context.Context) error { return nil }},
		{name: "garbage", token: "garbage", code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN},
		{
			name: "a resume token", token: token.NewResume(logID, 5).String(),
			code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN,
		},
		{
			name: "another log", token: token.NewConsistency(uuid.New(), 5).String(),
			code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN,
		},
		{name: "ahead of the log", token: at(11), code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN},
		{name: "too late", token: at(9), wait: behind, code: codes.Unavailable, reason: errorv1.Reason_REASON_BEHIND},
		{
			name: "halted", token: at(9), wait: func(context.Context) error {
				return fmt.Errorf("run: %w", &projection.FoldError{EventID: "secret"})
			},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER,
		},
		{
			name: "store closed", token: at(9), wait: func(context.Context) error { return eventstore.ErrClosed },
			code: codes.Unavailable, reason: errorv1.Reason_REASON_STOPPING,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := consistency.Waiter{Log: head(10), Model: model{at: 5, wait: tc.wait}, Longest: time.Millisecond}
			err := w.Wait(t.Context(), tc.token)
			require.Equal(t, tc.code, rpcerr.CodeOf(err), "%v", err)
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err), "%v", err)
			if e, ok := rpcerr.Parse(err); ok && e.Code == codes.Unavailable && tc.reason != errorv1.Reason_REASON_STOPPING {
				require.Equal(t, map[string]string{"lag_events": "4", "lag_seconds": "1.500"}, e.Metadata)
				require.NotContains(t, e.Message, "secret")
			}
		})
	}
}

func TestTheAnswerComesBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := consistency.Waiter{Log: head(10), Model: model{at: 5, wait: behind}}
		err := w.Wait(ctx, token.NewConsistency(logID, 9).String())
		require.Equal(t, errorv1.Reason_REASON_BEHIND, rpcerr.ReasonOf(err), "%v", err)
		require.Equal(t, 900*time.Millisecond, time.Since(began))
	})
}

func TestACancelledCallIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := consistency.Waiter{Log: head(10), Model: model{at: 5, wait: behind}}
	err := w.Wait(ctx, token.NewConsistency(logID, 9).String())
	require.Equal(t, codes.Canceled, rpcerr.CodeOf(err), "%v", err)
}
