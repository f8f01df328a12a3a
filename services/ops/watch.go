package ops

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

const defaultWatchInterval = time.Second

// WatchProjections sends the projections now and at every interval. A caller
// that reads slowly gets fewer pictures, each of the moment when it is sent.
func (s *Server) WatchProjections(req *opsv1.WatchProjectionsRequest, stream grpc.ServerStreamingServer[opsv1.WatchProjectionsResponse]) error {
	ctx, end := s.streaming(stream.Context())
	defer end()
	return streamed(ctx, s.watch(ctx, req, stream))
}

func (s *Server) watch(ctx context.Context, req *opsv1.WatchProjectionsRequest, stream grpc.ServerStreamingServer[opsv1.WatchProjectionsResponse]) error {
	if _, err := calling(ctx); err != nil {
		return err
	}
	watched, err := s.watched(req.GetProjections())
	if err != nil {
		return err
	}
	interval := defaultWatchInterval
	if asked := req.GetInterval().AsDuration(); asked > 0 {
		interval = asked
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		now, err := reports(ctx, watched)
		if err != nil {
			return err
		}
		if err := stream.Send(&opsv1.WatchProjectionsResponse{Projections: now}); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watched are the projections named, each once, by name; all for none.
func (s *Server) watched(names []string) ([]*operated, error) {
	if len(names) == 0 {
		return s.all(), nil
	}
	names = slices.Clone(names)
	slices.Sort(names)
	var some []*operated
	for _, name := range slices.Compact(names) {
		p, err := s.projection(name)
		if err != nil {
			return nil, err
		}
		some = append(some, p)
	}
	return some, nil
}
