package rpcerr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// wire takes an error through the bytes that a client would see.
func wire(t *testing.T, err error) error {
	t.Helper()
	s, ok := status.FromError(err)
	require.True(t, ok, "%v is no status", err)
	return status.FromProto(s.Proto()).Err()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"plain": rpcerr.New(codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, "no customer has this id"),
		"metadata": rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BEHIND, "not there yet",
			rpcerr.WithMetadata("lag_events", "12"), rpcerr.WithMetadata("lag_seconds", "0.5"), rpcerr.WithRetryAfter(250*time.Millisecond)),
		"violations": rpcerr.Invalid(
			rpcerr.Violation{Field: "interaction.channel", Rule: "STRING_PATTERN", Message: "must match"},
			rpcerr.Violation{Message: "of the whole"}),
		"cause": rpcerr.New(codes.Internal, errorv1.Reason_REASON_INTERNAL, "internal error", rpcerr.WithCause(io.ErrUnexpectedEOF)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, ok := rpcerr.Parse(err)
			require.True(t, ok)
			got, ok := rpcerr.Parse(wire(t, err))
			require.True(t, ok)
			require.Empty(t, cmp.Diff(want, got, cmpopts.IgnoreUnexported(rpcerr.Error{})))
			require.Equal(t, rpcerr.ReasonOf(err), rpcerr.ReasonOf(wire(t, err)))
			require.Equal(t, rpcerr.CodeOf(err), rpcerr.CodeOf(wire(t, err)))
			require.Equal(t, rpcerr.ViolationsOf(err), rpcerr.ViolationsOf(wire(t, err)))
			require.Equal(t, err.Error(), got.Error())
		})
	}
}

func TestEveryReasonComesBack(t *testing.T) {
	t.Parallel()
	for number := range errorv1.Reason_name {
		reason := errorv1.Reason(number)
		err := rpcerr.New(codes.Unavailable, reason, "x")
		require.Equal(t, reason, rpcerr.ReasonOf(wire(t, err)))
	}
}

func TestCauseStaysInside(t *testing.T) {
	t.Parallel()
	err := rpcerr.FromError(fmt.Errorf("open /var/secret/place: %w", io.ErrUnexpectedEOF))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, codes.Internal, rpcerr.CodeOf(err))
	require.NotContains(t, wire(t, err).Error(), "secret")
	require.NotErrorIs(t, wire(t, err), io.ErrUnexpectedEOF)
}

func TestFromError(t *testing.T) {
	t.Parallel()
	own := rpcerr.New(codes.NotFound, errorv1.Reason_REASON_EVENT_NOT_FOUND, "no such event")
	for _, tc := range []struct {
		err    error
		code   codes.Code
		reason errorv1.Reason
	}{
		{nil, codes.OK, errorv1.Reason_REASON_UNSPECIFIED},
		{own, codes.NotFound, errorv1.Reason_REASON_EVENT_NOT_FOUND},
		{fmt.Errorf("get: %w", own), codes.NotFound, errorv1.Reason_REASON_EVENT_NOT_FOUND},
		{status.Error(codes.Unimplemented, "no such method"), codes.Unimplemented, errorv1.Reason_REASON_UNSPECIFIED},
		{status.Error(codes.Unknown, "leak"), codes.Internal, errorv1.Reason_REASON_INTERNAL},
		{context.Canceled, codes.Canceled, errorv1.Reason_REASON_UNSPECIFIED},
		{fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, errorv1.Reason_REASON_UNSPECIFIED},
		{fmt.Errorf("append: %w", eventstore.ErrFull), codes.ResourceExhausted, errorv1.Reason_REASON_STORE_FULL},
		{fmt.Errorf("append: %w", eventstore.ErrUnavailable), codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{eventstore.ErrClosed, codes.Unavailable, errorv1.Reason_REASON_STOPPING},
		{eventstore.ErrAhead, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN},
		{eventstore.ErrCorrupt, codes.DataLoss, errorv1.Reason_REASON_INTERNAL},
		{fmt.Errorf("publish: %w", bus.ErrFull), codes.ResourceExhausted, errorv1.Reason_REASON_INGRESS_FULL},
		{bus.ErrUnavailable, codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{bus.ErrTooLarge, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD},
		{view.ErrInvalidCursor, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN},
		{view.ErrFailed, codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{view.ErrFull, codes.ResourceExhausted, errorv1.Reason_REASON_STORE_FULL},
		{view.ErrUnavailable, codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{fmt.Errorf("open: %w: version 9", view.ErrServer), codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{view.ErrDropped, codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{view.ErrFenced, codes.Unavailable, errorv1.Reason_REASON_NOT_ACTIVE},
		{view.ErrConflict, codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE},
		{fmt.Errorf("switch: %w", projection.ErrUnknownGeneration), codes.NotFound, errorv1.Reason_REASON_GENERATION_NOT_FOUND},
		{projection.ErrUnknownDeadLetter, codes.NotFound, errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND},
		{projection.ErrRebuildRunning, codes.FailedPrecondition, errorv1.Reason_REASON_REBUILD_RUNNING},
		{projection.ErrAlreadyServing, codes.FailedPrecondition, errorv1.Reason_REASON_ALREADY_SERVING},
		{projection.ErrNothingToRollBack, codes.FailedPrecondition, errorv1.Reason_REASON_NOTHING_TO_ROLL_BACK},
		{projection.ErrFrozen, codes.FailedPrecondition, errorv1.Reason_REASON_GENERATION_FROZEN},
		{projection.ErrPaused, codes.Unavailable, errorv1.Reason_REASON_NOT_ACTIVE},
		{token.ErrInvalid, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN},
		{token.ErrMismatch, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN},
		{eventstore.ErrInvalid, codes.Internal, errorv1.Reason_REASON_INTERNAL},
		{errors.New("anything"), codes.Internal, errorv1.Reason_REASON_INTERNAL},
	} {
		got := rpcerr.FromError(tc.err)
		require.Equal(t, tc.code, rpcerr.CodeOf(got), "%v", tc.err)
		require.Equal(t, tc.reason, rpcerr.ReasonOf(got), "%v", tc.err)
		if tc.err == nil {
			require.NoError(t, got)
		}
	}
}

// What a projection fails with says what to do, and programs get the numbers.
func TestFromErrorOfProjections(t *testing.T) {
	t.Parallel()
	generation := view.Namespace{Projection: "customer", Version: 2, Generation: 3}
	since := time.Date(2026, 3, 1, 9, 0, 0, 0, time.FixedZone("", 3600))
	for name, tc := range map[string]struct {
		err      error
		code     codes.Code
		reason   errorv1.Reason
		says     []string
		metadata map[string]string
		retry    bool
	}{
		"not caught up": {
			err:  &projection.NotCaughtUpError{Generation: generation, At: 80, Want: 200},
			code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_NOT_CAUGHT_UP, retry: true,
			says:     []string{"customer/v2/g3", "120 events", "parley projections watch"},
			metadata: map[string]string{"generation": "customer/v2/g3", "position": "80", "lag_events": "120"},
		},
		"caught up meanwhile": {
			err:  &projection.NotCaughtUpError{Generation: generation, At: 201, Want: 200},
			code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_NOT_CAUGHT_UP, retry: true,
			metadata: map[string]string{"generation": "customer/v2/g3", "position": "201", "lag_events": "0"},
		},
		"already folded": {
			err:  &projection.AlreadyFoldedError{Generation: generation, Position: 7},
			code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_ALREADY_FOLDED,
			says:     []string{"customer/v2/g3", "position 7", "switch", "drop"},
			metadata: map[string]string{"generation": "customer/v2/g3", "position": "7"},
		},
		"nobody folds": {
			err:  &projection.NotActiveError{Projection: "customer"},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_NOT_ACTIVE, retry: true,
			says: []string{"no process folds customer"}, metadata: map[string]string{"projection": "customer"},
		},
		"another folds": {
			err:  &projection.NotActiveError{Projection: "customer", Active: "host-2", Since: since},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_NOT_ACTIVE, retry: true,
			says:     []string{"host-2"},
			metadata: map[string]string{"projection": "customer", "active_process": "host-2", "last_heard_time": "2026-03-01T08:00:00Z"},
		},
		"a dead letter": {
			err:  &projection.DeadLetterError{Projection: "customer", Position: 7},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER,
			says: []string{"operators"},
		},
		"too many dead letters": {
			err:  &projection.TooManyDeadLettersError{Projection: "customer", Failed: 1000, Err: &projection.FoldError{Stream: "acme.web-s1"}},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER, says: []string{"parley projections deadletters"},
		},
		"halted": {
			err:  &projection.FoldError{Projection: "customer", Stream: "acme.web-s1", Position: 7, Err: errors.New("defect")},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER, says: []string{"parley projections resume"},
		},
		"behind": {
			err:  &projection.BehindError{Projection: "customer", Want: 9, At: 4, Err: eventstore.ErrUnavailable},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_BEHIND, retry: true,
			says: []string{"5 events"}, metadata: map[string]string{"lag_events": "5"},
		},
		"behind what halted": {
			err:  &projection.BehindError{Projection: "customer", Want: 9, At: 4, Err: &projection.FoldError{Stream: "acme.web-s1", Err: errors.New("defect")}},
			code: codes.Unavailable, reason: errorv1.Reason_REASON_DEAD_LETTER,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := rpcerr.Parse(wire(t, rpcerr.FromError(fmt.Errorf("carry it out: %w", tc.err))))
			require.True(t, ok)
			require.Equal(t, tc.code, got.Code)
			require.Equal(t, tc.reason, got.Reason)
			require.Equal(t, tc.metadata, got.Metadata)
			require.Equal(t, tc.retry, got.RetryAfter > 0)
			for _, text := range tc.says {
				require.Contains(t, got.Message, text)
			}
			require.NotContains(t, got.Message, "acme", "another tenant's event is nobody's business")
			require.ErrorIs(t, rpcerr.FromError(tc.err), tc.err)
		})
	}
}

func TestParseOfOthers(t *testing.T) {
	t.Parallel()
	_, ok := rpcerr.Parse(nil)
	require.False(t, ok)
	_, ok = rpcerr.Parse(io.EOF)
	require.False(t, ok)
	e, ok := rpcerr.Parse(status.Error(codes.Unavailable, "proxy"))
	require.True(t, ok)
	require.Equal(t, errorv1.Reason_REASON_UNSPECIFIED, e.Reason)
	require.Equal(t, codes.Unknown, rpcerr.CodeOf(io.EOF))
}

func TestInvalidNamesTheFirstFields(t *testing.T) {
	t.Parallel()
	err := rpcerr.Invalid(
		rpcerr.Violation{Field: "a", Rule: "string.max_len", Message: "too long"},
		rpcerr.Violation{Field: "b", Message: "missing"},
		rpcerr.Violation{Field: "c", Message: "odd"},
		rpcerr.Violation{Field: "d", Message: "never named"})
	require.ErrorContains(t, err, "invalid request: a: too long; b: missing; c: odd; and more")
	require.NotContains(t, err.Error(), "never named")
	require.Equal(t, "STRING_MAX_LEN", rpcerr.ViolationsOf(wire(t, err))[0].Rule)
	require.ErrorContains(t, rpcerr.InvalidField("query", "too short"), "query: too short")
}
