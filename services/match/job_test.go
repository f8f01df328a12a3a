package match_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/match"
)

// gate lets a job begin once it is opened.
type gate struct {
	eventstore.Store
	reached chan struct{}
	open    chan struct{}
	append  error // instead of appending
}

func (g *gate) StreamHead(ctx context.Context, stream string) (eventstore.Revision, error) {
	g.reached <- struct{}{}
	select {
	case <-g.open:
		return g.Store.StreamHead(ctx, stream)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (g *gate) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	if g.append != nil {
		return eventstore.Appended{}, g.append
	}
	return g.Store.Append(ctx, stream, expected, records...)
}

func (h *house) gated() *gate {
	g := &gate{Store: h.log, reached: make(chan struct{}, 8), open: make(chan struct{})}
	h.start(match.Deps{Log: g})
	return g
}

// One job at a time; it goes on where its caller goes away.
func TestJobOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	g := h.gated()
	ctx, leave := context.WithCancel(h.call("acme"))
	stream, err := h.client.FitMatchModel(ctx, &customerv1.FitMatchModelRequest{Seed: 5})
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, customerv1.FitPhase_FIT_PHASE_FITTING, first.GetPhase())
	<-g.reached
	_, err = h.tryFit(h.call("acme"), &customerv1.FitMatchModelRequest{})
	require.Equal(t, codes.Aborted, rpcerr.CodeOf(err))
	require.Equal(t, errorv1.Reason_REASON_CHANGED_SINCE, rpcerr.ReasonOf(err))
	leave()
	for err == nil || rpcerr.CodeOf(err) == codes.Aborted {
		_, err = stream.Recv()
	}
	require.Equal(t, codes.Canceled, rpcerr.CodeOf(err))
	close(g.open)
	require.Eventually(t, func() bool {
		_, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{})
		return err == nil
	}, patience, time.Millisecond)
	require.Len(t, h.models(), 1)
}

// The server's end is a job's end, whoever follows it.
func TestJobEndsWithTheServer(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(h *house){
		"stopping": func(h *house) { close(h.stopping) },
		"closed":   func(h *house) { h.server.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.town(people, doubles)
			g := h.gated()
			ended := make(chan error, 1)
			go func() {
				_, err := h.tryFit(h.call("acme"), &customerv1.FitMatchModelRequest{})
				ended <- err
			}()
			<-g.reached
			stop(h)
			err := <-ended
			require.Equal(t, codes.Unavailable, rpcerr.CodeOf(err))
			require.Equal(t, errorv1.Reason_REASON_STOPPING, rpcerr.ReasonOf(err))
			h.server.Close()
			h.server.Close()
			require.Eventually(t, func() bool { return len(g.reached) == 0 }, patience, time.Millisecond)
		})
	}
}

// Another tenant's job waits for its turn.
func TestJobsTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	g := h.gated()
	ended := map[string]chan error{"acme": make(chan error, 1), "other": make(chan error, 1)}
	for _, name := range []string{"acme", "other"} {
		go func() {
			_, err := h.tryFit(h.call(name), &customerv1.FitMatchModelRequest{})
			ended[name] <- err
		}()
		if name == "acme" {
			<-g.reached
		}
	}
	require.Empty(t, g.reached)
	close(g.open)
	require.NoError(t, <-ended["acme"])
	require.Equal(t, errorv1.Reason_REASON_NO_MODEL, rpcerr.ReasonOf(<-ended["other"]), "it has no customers")
}

func TestFailuresOfTheLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		reason errorv1.Reason
	}{
		"full":        {eventstore.ErrFull, codes.ResourceExhausted, errorv1.Reason_REASON_STORE_FULL},
		"unavailable": {eventstore.ErrUnavailable, codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		"fitted elsewhere": {
			&eventstore.RevisionConflictError{Stream: "acme.matching", Expected: -1, Actual: 0}, codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.town(people, doubles)
			g := h.gated()
			close(g.open)
			g.append = fmt.Errorf("append: %w", c.err)
			_, err := h.tryFit(h.call("acme"), &customerv1.FitMatchModelRequest{})
			require.Equal(t, c.code.String(), rpcerr.CodeOf(err).String())
			require.Equal(t, c.reason, rpcerr.ReasonOf(err))
			g.append = nil
			h.fit(&customerv1.FitMatchModelRequest{})
		})
	}
}

// lost is a recorder that cannot be reached.
type lost struct{}

func (lost) PublishAndWait(context.Context, string, string, *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	return nil, errors.New("no connection")
}

// Links that were not made are made by the next search; the list is there
// meanwhile.
func TestLinkingGoesOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	h.linkFrom(0.9)
	h.start(match.Deps{Recorder: lost{}})
	told, err := h.tryFit(h.call("acme"), &customerv1.FitMatchModelRequest{Seed: 5})
	require.Equal(t, codes.Internal, rpcerr.CodeOf(err))
	require.NotContains(t, err.Error(), "no connection")
	require.NotEmpty(t, told)
	require.Contains(t, pairsOf(h.list(&customerv1.ListMergeCandidatesRequest{})), h.double(1))
	h.start(match.Deps{})
	told = h.fit(&customerv1.FitMatchModelRequest{SearchOnly: true})
	require.EqualValues(t, doubles, told[len(told)-1].GetLinked())
	require.Len(t, h.models(), 1)
}

// broken cannot read the read model's log position while a job begins.
type broken struct {
	eventstore.Store
	fails chan error
}

func (b *broken) Head(ctx context.Context) (eventstore.Position, error) {
	select {
	case err := <-b.fails:
		return 0, err
	default:
		return b.Store.Head(ctx)
	}
}

func TestJobThatCannotBegin(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	b := &broken{Store: h.log, fails: make(chan error, 1)}
	registry := prometheus.NewRegistry()
	h.start(match.Deps{Log: b, Metrics: registry})
	b.fails <- eventstore.ErrUnavailable
	_, err := h.tryFit(h.call("acme"), &customerv1.FitMatchModelRequest{})
	require.Equal(t, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, rpcerr.ReasonOf(err))
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	require.InDelta(t, 1, counted(t, registry, "parley_match_jobs_total", "failed"), 0)
	require.InDelta(t, 1, counted(t, registry, "parley_match_jobs_total", "done"), 0)
	_, err = match.NewServer(match.Deps{Log: h.log, Codec: h.codec, Engine: h.engine, Metrics: registry})
	require.Error(t, err, "metrics are registered once")
	_, err = match.NewServer(match.Deps{})
	require.Error(t, err)
}

// counted is the value of a counter, where labels are given of the one with them.
func counted(t *testing.T, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(labels) == 0 || m.GetLabel()[0].GetValue() == labels[0] {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
