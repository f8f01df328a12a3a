package ops_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, cancel := context.WithCancel(h.ops())
	stream, err := h.client.WatchProjections(ctx, &opsv1.WatchProjectionsRequest{
		// In any order, and some twice.
		Projections: []string{"feed", "customer", "feed"}, Interval: durationpb.New(100 * time.Millisecond),
	})
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Len(t, first.GetProjections(), 2)
	require.Equal(t, "customer", first.GetProjections()[0].GetName())
	require.Equal(t, uint64(100), first.GetProjections()[0].GetHead())

	h.customer.mu.Lock()
	h.customer.now.Head = 200
	h.customer.mu.Unlock()
	for seen := uint64(0); seen != 200; {
		next, err := stream.Recv()
		require.NoError(t, err)
		seen = next.GetProjections()[0].GetHead()
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	require.Equal(t, codes.Canceled, rpcerr.CodeOf(err))
}

func TestWatchOfAll(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stream, err := h.client.WatchProjections(h.ops(), &opsv1.WatchProjectionsRequest{})
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Len(t, first.GetProjections(), 2)
	h.feed.mu.Lock()
	h.feed.reportErr = view.ErrUnavailable
	h.feed.mu.Unlock()
	for err == nil {
		_, err = stream.Recv()
	}
	require.Equal(t, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, rpcerr.ReasonOf(err), "%v", err)
}

// Every stream ends when the server stops, whichever way it hears of it, and
// with it the work.
func TestStoppingEndsStreams(t *testing.T) {
	t.Parallel()
	for how, stop := range map[string]func(h *house){
		"told itself": func(h *house) { close(h.stopping) },
		"drained":     func(h *house) { h.server.Drain() },
	} {
		for _, method := range []string{"WatchProjections", "CompareGenerations", "VerifyProjection"} {
			t.Run(method+" "+how, func(t *testing.T) {
				t.Parallel()
				ended := make(chan error, 1)
				h := newHouse(t)
				h.customer.compare = func(ctx context.Context, opts projection.CompareOptions) (*opsv1.Difference, error) {
					opts.Progress(&opsv1.Progress{Step: "folding"})
					<-ctx.Done()
					ended <- ctx.Err()
					return nil, ctx.Err()
				}
				recv := h.open(method)
				require.NoError(t, recv())
				stop(h)
				var err error
				for err == nil {
					err = recv()
				}
				require.Equal(t, codes.Unavailable, rpcerr.CodeOf(err), "%v", err)
				require.Equal(t, errorv1.Reason_REASON_STOPPING, rpcerr.ReasonOf(err))
				if method != "WatchProjections" {
					require.ErrorIs(t, <-ended, context.Canceled)
				}
			})
		}
	}
}

// open begins a stream about the customer; what it returns receives.
func (h *house) open(method string) (recv func() error) {
	h.t.Helper()
	switch method {
	case "WatchProjections":
		stream, err := h.client.WatchProjections(h.ops(), &opsv1.WatchProjectionsRequest{})
		require.NoError(h.t, err)
		return func() error { _, err := stream.Recv(); return err }
	case "CompareGenerations":
		stream, err := h.client.CompareGenerations(h.ops(), &opsv1.CompareGenerationsRequest{Generation: &opsv1.GenerationName{Projection: "customer"}})
		require.NoError(h.t, err)
		return func() error { _, err := stream.Recv(); return err }
	default:
		stream, err := h.client.VerifyProjection(h.ops(), &opsv1.VerifyProjectionRequest{Projection: "customer"})
		require.NoError(h.t, err)
		return func() error { _, err := stream.Recv(); return err }
	}
}

func TestCompareTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	heard := make(chan struct{})
	want := &opsv1.Difference{
		Generation: &opsv1.GenerationName{Projection: "customer", Version: 3, Generation: 1}, Position: 100, Equal: true,
		Collections: []*opsv1.CollectionDifference{{Collection: "customers", Documents: 7, OtherDocuments: 7, Digest: "ab", OtherDigest: "ab"}},
	}
	h.customer.compare = func(ctx context.Context, opts projection.CompareOptions) (*opsv1.Difference, error) {
		// The same message is used again and again.
		p := &opsv1.Progress{Step: "folding", Done: 1, Total: 10}
		opts.Progress(p)
		select {
		case <-heard:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		p.Step, p.Done = "comparing customers", 10
		opts.Progress(p)
		p.Step = "garbage"
		return want, nil
	}
	stream, err := h.client.CompareGenerations(h.ops(), &opsv1.CompareGenerationsRequest{Generation: &opsv1.GenerationName{Projection: "customer"}})
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.True(t, proto.Equal(&opsv1.CompareGenerationsResponse{Progress: &opsv1.Progress{Step: "folding", Done: 1, Total: 10}}, first), "got %v", first)
	close(heard)
	rest, err := all(stream)
	require.NoError(t, err)
	last := rest[len(rest)-1]
	require.True(t, proto.Equal(want, last.GetDifference()), "got %v", last)
	require.Equal(t, "comparing customers", last.GetProgress().GetStep())
	for _, one := range rest[:len(rest)-1] {
		require.Nil(t, one.GetDifference(), "in the last answer only")
	}
	require.Equal(t, []string{"compare customer/v0/g0 with customer/v0/g0, 10 documents"}, h.customer.asked())
}

// However often the work tells, and however long the interval, the result comes
// at once, and nothing is sent twice.
func TestProgressIsPaced(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.progress = time.Hour })
	h.customer.compare = func(_ context.Context, opts projection.CompareOptions) (*opsv1.Difference, error) {
		for i := range uint64(1000) {
			opts.Progress(&opsv1.Progress{Step: "folding", Done: i})
		}
		return &opsv1.Difference{}, nil
	}
	stream, err := h.client.VerifyProjection(h.ops(), &opsv1.VerifyProjectionRequest{Projection: "customer"})
	require.NoError(t, err)
	answers, err := all(stream)
	require.NoError(t, err)
	require.Len(t, answers, 1)
	require.Equal(t, uint64(999), answers[0].GetProgress().GetDone())
	require.NotNil(t, answers[0].GetDifference())
}

func TestVerify(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, req := range []*opsv1.VerifyProjectionRequest{
		{Projection: "customer"},
		{Projection: "customer", Sample: proto.Float64(0.25), MaxDocuments: proto.Int32(0), MaxEventsPerSecond: 9},
	} {
		stream, err := h.client.VerifyProjection(h.ops(), req)
		require.NoError(t, err)
		answers, err := all(stream)
		require.NoError(t, err)
		require.True(t, answers[len(answers)-1].GetDifference().GetEqual())
	}
	require.Equal(t, []string{
		`verify 1, 10 documents, 0 a second, by operator ada-laptop ""`,
		`verify 0.25, 0 documents, 9 a second, by operator ada-laptop ""`,
	}, h.customer.asked())
}

// Nobody computes for a caller who has gone.
func TestWorkEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"CompareGenerations", "VerifyProjection"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			begun, ended := make(chan struct{}), make(chan struct{})
			h := newHouse(t)
			h.customer.compare = func(ctx context.Context, _ projection.CompareOptions) (*opsv1.Difference, error) {
				close(begun)
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			}
			ctx, cancel := context.WithCancel(h.ops())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- h.invoke(ctx, method, requests("customer")[method]) }()
			await(t, begun)
			cancel()
			require.Equal(t, codes.Canceled, rpcerr.CodeOf(<-result))
			await(t, ended)
		})
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		require.Fail(t, "waited in vain")
	}
}

func TestWorkThatFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		compare func(context.Context, projection.CompareOptions) (*opsv1.Difference, error)
		reason  errorv1.Reason
	}{
		"later": {func(_ context.Context, opts projection.CompareOptions) (*opsv1.Difference, error) {
			opts.Progress(&opsv1.Progress{Step: "folding"})
			return nil, view.ErrUnavailable
		}, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		"without a result": {func(context.Context, projection.CompareOptions) (*opsv1.Difference, error) {
			return nil, nil
		}, errorv1.Reason_REASON_INTERNAL},
		"by a panic": {func(_ context.Context, opts projection.CompareOptions) (*opsv1.Difference, error) {
			opts.Progress(&opsv1.Progress{Step: "folding"})
			panic(errors.New("index out of range"))
		}, errorv1.Reason_REASON_INTERNAL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.customer.compare = tc.compare
			stream, err := h.client.CompareGenerations(h.ops(), &opsv1.CompareGenerationsRequest{Generation: &opsv1.GenerationName{Projection: "customer"}})
			require.NoError(t, err)
			_, err = all(stream)
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err), "%v", err)
			_, err = h.client.ListProjections(h.ops(), &opsv1.ListProjectionsRequest{})
			require.NoError(t, err, "it goes on")
		})
	}
}
