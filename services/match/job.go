package match

import (
	"context"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// FitMatchModel begins a job, or refuses to while the tenant has one, and
// tells how far it is. Where the caller goes away the job goes on.
func (s *Server) FitMatchModel(req *customerv1.FitMatchModelRequest, stream grpc.ServerStreamingServer[customerv1.FitMatchModelResponse]) error {
	ctx := stream.Context()
	who, err := calling(ctx, tenant.Ops)
	if err != nil {
		return err
	}
	j, err := s.beginJob(ctx, order{
		who: who, searchOnly: req.GetSearchOnly(), least: leastProbability(req.GetMinProbability()), seed: req.GetSeed(), link: true,
	})
	if err != nil {
		return err
	}
	tick := time.NewTicker(s.deps.ProgressInterval)
	defer tick.Stop()
	for {
		if err := stream.Send(j.now()); err != nil {
			return rpcerr.FromError(err)
		}
		select {
		case <-j.done:
			if j.err != nil {
				return failed(j.err)
			}
			if err := stream.Send(j.now()); err != nil {
				return rpcerr.FromError(err)
			}
			return nil
		case <-tick.C:
		case <-s.deps.Stopping:
			return errStopping()
		case <-ctx.Done():
			return rpcerr.FromError(context.Cause(ctx))
		}
	}
}

// order is what a job is to do.
type order struct {
	who tenant.Identity
	// searchOnly by the model that there is.
	searchOnly bool
	least      float64
	seed       uint64
	// link those over the tenant's threshold.
	link bool
	// unasked: to have a list again that was lost. It makes room for a job
	// that somebody asks for.
	unasked bool
}

// job is one tenant's fitting, searching and linking.
type job struct {
	order
	cancel context.CancelFunc
	done   chan struct{} // closed at the end; err is set by then
	err    error

	mu       sync.Mutex
	progress customerv1.FitMatchModelResponse
}

// now is how far it is.
func (j *job) now() *customerv1.FitMatchModelResponse {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &customerv1.FitMatchModelResponse{
		Phase: j.progress.GetPhase(), Done: j.progress.GetDone(), Customers: j.progress.GetCustomers(),
		Candidates: j.progress.GetCandidates(), Linked: j.progress.GetLinked(), ModelEventId: j.progress.GetModelEventId(),
	}
}

// tell changes how far it is.
func (j *job) tell(change func(p *customerv1.FitMatchModelResponse)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.progress)
}

func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// beginJob starts a job, unless the tenant has one.
func (s *Server) beginJob(ctx context.Context, o order) (*job, error) {
	for {
		s.mu.Lock()
		running := s.jobs[o.who.Tenant]
		switch {
		case s.closed:
			s.mu.Unlock()
			return nil, errStopping()
		case running == nil || running.ended():
			j := s.start(ctx, o)
			s.mu.Unlock()
			return j, nil
		case o.unasked:
			s.mu.Unlock()
			return running, nil
		case !running.unasked:
			s.mu.Unlock()
			return nil, rpcerr.New(codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE, "a job of the tenant is running already")
		}
		running.cancel()
		s.mu.Unlock()
		select {
		case <-running.done:
		case <-ctx.Done():
			return nil, rpcerr.FromError(context.Cause(ctx))
		}
	}
}

// start starts a job that outlives the call. The server is locked.
func (s *Server) start(ctx context.Context, o order) *job {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	j := &job{order: o, cancel: cancel, done: make(chan struct{})}
	j.progress.Phase = customerv1.FitPhase_FIT_PHASE_FITTING
	if o.searchOnly {
		j.progress.Phase = customerv1.FitPhase_FIT_PHASE_SEARCHING
	}
	s.jobs[o.who.Tenant] = j
	s.wg.Go(func() {
		select {
		case <-s.deps.Stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	s.wg.Go(func() {
		defer close(j.done)
		defer cancel()
		began := s.deps.Now()
		j.err = s.inTurn(ctx, j)
		s.ended(j, s.deps.Now().Sub(began))
	})
	return j
}

// inTurn runs a job once there is room for it.
func (s *Server) inTurn(ctx context.Context, j *job) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return errStopping()
	}
	defer func() { <-s.slots }()
	s.metrics.running.Inc()
	defer s.metrics.running.Dec()
	err := s.work(ctx, j)
	if err != nil && ctx.Err() != nil {
		return errStopping()
	}
	return err
}

// ended notes how a job ended, for those who do not follow it.
func (s *Server) ended(j *job, took time.Duration) {
	p := j.now()
	log := s.deps.Logger.With("tenant", j.who.Tenant, "customers", p.GetCustomers(), "pairs", p.GetCandidates(), "linked", p.GetLinked(), "took", took)
	switch {
	case j.err == nil:
		s.metrics.jobs.WithLabelValues("done").Inc()
		log.Info("searched for customers who may be one person", "model_event_id", p.GetModelEventId(), "search_only", j.searchOnly)
	case rpcerr.ReasonOf(j.err) == errorv1.Reason_REASON_STOPPING:
		s.metrics.jobs.WithLabelValues("stopped").Inc()
		log.Info("a search for customers who may be one person was given up")
	default:
		s.metrics.jobs.WithLabelValues("failed").Inc()
		log.Error("a search for customers who may be one person failed", "error", j.err)
	}
}

// searchUnasked has the tenant's list searched for, if nobody does. It tells
// once that the search before it failed.
func (s *Server) searchUnasked(ctx context.Context, who tenant.Identity) error {
	s.mu.Lock()
	last := s.jobs[who.Tenant]
	if last != nil && last.ended() {
		delete(s.jobs, who.Tenant)
	}
	s.mu.Unlock()
	if last != nil && last.unasked && last.ended() && last.err != nil && rpcerr.ReasonOf(last.err) != errorv1.Reason_REASON_STOPPING {
		return failed(last.err)
	}
	_, err := s.beginJob(ctx, order{who: who, searchOnly: true, least: defaultProbability, unasked: true})
	return err
}

// defaultWorkers leaves half of the processors to what is asked meanwhile.
func defaultWorkers() int { return max(1, min(runtime.GOMAXPROCS(0), runtime.NumCPU())/2) }
