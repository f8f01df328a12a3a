package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

var logID = uuid.MustParse("5e0a3f6e-0d52-4d0b-9f3a-0f0c5c1c9c11")

type head eventstore.Position

func (head) LogID() uuid.UUID                                    { return logID }
func (h head) Head(context.Context) (eventstore.Position, error) { return eventstore.Position(h), nil }

// model stands at a position and gets no further: wait says how it ends.
type model struct {
	at    eventstore.Position
	wait  func(ctx context.Context) error
	state projection.State
}

func (m model) WaitFor(ctx context.Context, _ eventstore.Position) error { return m.wait(ctx) }
func (m model) Position() eventstore.Position                            { return m.at }
func (m model) Status() projection.Status {
	return projection.Status{Behind: 1500 * time.Millisecond, State: m.state}
}

// stopped is behind, and fails with why.
func stopped(why error) func(context.Context) error {
	return func(context.Context) error {
		return fmt.Errorf("wait: %w", &projection.BehindError{Projection: "secret", Want: 9, At: 5, Err: why})
	}
}

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
		state  projection.State
		code   codes.Code
		reason errorv1.Reason
		// position of a wait that succeeds, or what the message ends with.
		position eventstore.Position
		message  string
		retry    time.Duration
	}{
		{name: "no token"},
		{name: "already there", token: at(5), position: 5},
		{name: "long there", token: at(2), position: 2},
		{name: "gets there", token: at(9), wait: func(context.Context) error { return nil }, position: 9},
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
		{
			name: "too late", token: at(9), wait: behind, state: projection.CatchingUp,
			code: codes.Unavailable, reason: errorv1.Reason_REASON_BEHIND, message: "4 events behind the consistency token", retry: 100 * time.Millisecond,
		},
		{
			name: "retrying", token: at(9), wait: stopped(errors.New("a secret that passes")), state: projection.Retrying,
			code: codes.Unavailable, reason: errorv1.Reason_REASON_BEHIND, message: "4 events behind the consistency token", retry: 100 * time.Millisecond,
		},
		{
			name: "paused", token: at(9), wait: stopped(fmt.Errorf("%w by a secret: secret", projection.ErrPaused)),
			code: codes.Unavailable, reason: errorv1.Reason_REASON_BEHIND, message: "token: an operator has paused it", retry: 5 * time.Second,
		},
		{
			name: "paused while it retried", token: at(9), wait: stopped(errors.New("a secret that passes")), state: projection.Paused,
			code: codes.Unavailable, reason: errorv1.Reason_REASON_BEHIND, message: "token: an operator has paused it", retry: 5 * time.Second,
		},
		{
			name: "too many dead letters", token: at(9), state: projection.Halted, wait: stopped(&projection.TooManyDeadLettersError{
				Projection: "secret", Failed: 1000, Err: &projection.FoldError{EventID: "secret"},
			}),
			code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER, message: "operators see which",
		},
		{
			name: "another log", token: at(9), wait: stopped(fmt.Errorf("run secret: %w", projection.ErrOtherLog)), state: projection.Halted,
			code: codes.Unavailable, reason: errorv1.Reason_REASON_BEHIND, message: "token: it has halted; operators see why", retry: 5 * time.Second,
		},
		{
			name: "log closed", token: at(9), wait: func(context.Context) error { return eventstore.ErrClosed },
			code: codes.Unavailable, reason: errorv1.Reason_REASON_STOPPING, retry: time.Second,
		},
		{
			name: "views closed", token: at(9), wait: stopped(view.ErrClosed), state: projection.Halted,
			code: codes.Unavailable, reason: errorv1.Reason_REASON_STOPPING, retry: time.Second,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := consistency.Waiter{Log: head(10), Model: model{at: 5, wait: tc.wait, state: tc.state}, Longest: time.Millisecond}
			position, err := w.Wait(t.Context(), tc.token)
			require.Equal(t, tc.code, rpcerr.CodeOf(err), "%v", err)
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err), "%v", err)
			if err == nil {
				require.Equal(t, tc.position, position)
				return
			}
			e, ok := rpcerr.Parse(err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tc.retry, e.RetryAfter)
			require.NotContains(t, e.Message, "secret")
			require.True(t, strings.HasSuffix(e.Message, tc.message), e.Message)
			if e.Code == codes.Unavailable && tc.reason != errorv1.Reason_REASON_STOPPING {
				require.Equal(t, map[string]string{"lag_events": "4", "lag_seconds": "1.500"}, e.Metadata)
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
		_, err := w.Wait(ctx, token.NewConsistency(logID, 9).String())
		require.Equal(t, errorv1.Reason_REASON_BEHIND, rpcerr.ReasonOf(err), "%v", err)
		require.Equal(t, 900*time.Millisecond, time.Since(began))
	})
}

func TestACancelledCallIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := consistency.Waiter{Log: head(10), Model: model{at: 5, wait: behind}}
	_, err := w.Wait(ctx, token.NewConsistency(logID, 9).String())
	require.Equal(t, codes.Canceled, rpcerr.CodeOf(err), "%v", err)
}

// origins has one log that was copied; a position there is one less than here.
type origins struct{ err error }

var movedID = uuid.MustParse("0c9c1c0a-7b3e-4a51-8f0a-2d6f8f2f7a55")

func (o origins) Resolve(_ context.Context, log uuid.UUID, position eventstore.Position) (eventstore.Position, error) {
	if log != movedID {
		return 0, &posmap.UnknownLogError{LogID: log, Own: logID}
	}
	return position + 1, o.err
}

// TestTokensOfALogThatWasMoved are waited for where their write is now.
func TestTokensOfALogThatWasMoved(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		log      uuid.UUID
		origins  origins
		at, want eventstore.Position
		reason   errorv1.Reason
	}{
		{name: "there", log: movedID, at: 4, want: 5},
		{name: "gets there", log: movedID, at: 8, want: 9},
		{name: "its own", log: logID, at: 4, want: 4},
		{name: "another", log: uuid.New(), at: 4, reason: errorv1.Reason_REASON_INVALID_TOKEN},
		{name: "cannot tell", log: movedID, origins: origins{err: eventstore.ErrUnavailable}, at: 4, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := consistency.Waiter{Log: head(10), Origins: tc.origins, Model: model{at: 5, wait: func(context.Context) error { return nil }}}
			got, err := w.Wait(t.Context(), token.NewConsistency(tc.log, tc.at).String())
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err), "%v", err)
			require.Equal(t, tc.want, got)
		})
	}
}
