package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// readModels is a ProjectionService that answers what it was told to, and notes
// what it was asked.
type readModels struct {
	opsv1.UnimplementedProjectionServiceServer

	mu          sync.Mutex
	projections []*opsv1.Projection
	// pictures are sent to whoever watches, over all calls once.
	pictures []picture
	// watched is closed once all pictures are out.
	watched chan struct{}
	// refusals by method; each call takes one.
	refusals map[string][]error
	progress []*opsv1.Progress
	diff     *opsv1.Difference
	letters  []*opsv1.DeadLetter
	letter   *opsv1.GetDeadLetterResponse
	retry    *opsv1.RetryDeadLettersResponse
	asked    []proto.Message
}

// picture is sent, or ends the call; one with neither stays silent.
type picture struct {
	all []*opsv1.Projection
	end error
}

func (m *readModels) ask(method string, req proto.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if req != nil {
		m.asked = append(m.asked, proto.Clone(req))
	}
	if left := m.refusals[method]; len(left) > 0 {
		m.refusals[method] = left[1:]
		return left[0]
	}
	return nil
}

func (m *readModels) find(name string) (*opsv1.Projection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.projections {
		if p.GetName() == name {
			return proto.CloneOf(p), nil
		}
	}
	return nil, rpcerr.New(codes.NotFound, errorv1.Reason_REASON_PROJECTION_NOT_FOUND, "there is no projection "+name)
}

func (m *readModels) ListProjections(context.Context, *opsv1.ListProjectionsRequest) (*opsv1.ListProjectionsResponse, error) {
	if err := m.ask("list", nil); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	resp := &opsv1.ListProjectionsResponse{}
	for _, p := range m.projections {
		resp.Projections = append(resp.Projections, proto.CloneOf(p))
	}
	return resp, nil
}

func (m *readModels) GetProjection(_ context.Context, req *opsv1.GetProjectionRequest) (*opsv1.GetProjectionResponse, error) {
	if err := m.ask("get", nil); err != nil {
		return nil, err
	}
	p, err := m.find(req.GetProjection())
	return &opsv1.GetProjectionResponse{Projection: p}, err
}

func (m *readModels) WatchProjections(req *opsv1.WatchProjectionsRequest, stream grpc.ServerStreamingServer[opsv1.WatchProjectionsResponse]) error {
	if err := m.ask("watch", req); err != nil {
		return err
	}
	for _, name := range req.GetProjections() {
		if _, err := m.find(name); err != nil {
			return err
		}
	}
	for {
		m.mu.Lock()
		var next *picture
		if len(m.pictures) > 0 {
			next = &m.pictures[0]
			m.pictures = m.pictures[1:]
		} else if m.watched != nil {
			close(m.watched)
			m.watched = nil
		}
		m.mu.Unlock()
		switch {
		case next != nil && next.end != nil:
			return next.end
		case next != nil && next.all != nil:
			if err := stream.Send(&opsv1.WatchProjectionsResponse{Projections: next.all}); err != nil {
				return err
			}
		default:
			<-stream.Context().Done()
			return stream.Context().Err()
		}
	}
}

func (m *readModels) RebuildProjections(_ context.Context, req *opsv1.RebuildProjectionsRequest) (*opsv1.RebuildProjectionsResponse, error) {
	if err := m.ask("rebuild", req); err != nil {
		return nil, err
	}
	resp := &opsv1.RebuildProjectionsResponse{}
	for _, name := range req.GetProjections() {
		p, err := m.find(name)
		if err != nil {
			return nil, err
		}
		resp.Generations = append(resp.Generations, &opsv1.GenerationName{Projection: name, Version: p.GetVersion(), Generation: 3})
	}
	return resp, nil
}

func (m *readModels) CompareGenerations(req *opsv1.CompareGenerationsRequest, stream grpc.ServerStreamingServer[opsv1.CompareGenerationsResponse]) error {
	err := m.ask("compare", req)
	for _, p := range m.progress {
		if err := stream.Send(&opsv1.CompareGenerationsResponse{Progress: p}); err != nil {
			return err
		}
	}
	if err != nil || m.diff == nil {
		return err
	}
	return stream.Send(&opsv1.CompareGenerationsResponse{Difference: m.diff})
}

func (m *readModels) VerifyProjection(req *opsv1.VerifyProjectionRequest, stream grpc.ServerStreamingServer[opsv1.VerifyProjectionResponse]) error {
	err := m.ask("verify", req)
	for _, p := range m.progress {
		if err := stream.Send(&opsv1.VerifyProjectionResponse{Progress: p}); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return stream.Send(&opsv1.VerifyProjectionResponse{Difference: m.diff})
}

// serving makes one generation of a projection serve.
func (m *readModels) serving(name string, serves func(*opsv1.Generation) bool) (*opsv1.Projection, error) {
	if _, err := m.find(name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.projections {
		if p.GetName() != name {
			continue
		}
		for _, g := range p.GetGenerations() {
			switch {
			case serves(g):
				g.Role = opsv1.GenerationRole_GENERATION_ROLE_SERVING
			case g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_SERVING:
				g.Role = opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS
			}
		}
		return proto.CloneOf(p), nil
	}
	return nil, errors.New("gone")
}

func (m *readModels) SwitchOver(_ context.Context, req *opsv1.SwitchOverRequest) (*opsv1.SwitchOverResponse, error) {
	if err := m.ask("switch", req); err != nil {
		return nil, err
	}
	p, err := m.serving(req.GetGeneration().GetProjection(), func(g *opsv1.Generation) bool {
		if n := req.GetGeneration().GetGeneration(); n != 0 {
			return g.GetGeneration() == n
		}
		return g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE
	})
	return &opsv1.SwitchOverResponse{Projection: p}, err
}

func (m *readModels) Rollback(_ context.Context, req *opsv1.RollbackRequest) (*opsv1.RollbackResponse, error) {
	if err := m.ask("rollback", req); err != nil {
		return nil, err
	}
	p, err := m.serving(req.GetProjection(), func(g *opsv1.Generation) bool {
		return g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS
	})
	return &opsv1.RollbackResponse{Projection: p}, err
}

func (m *readModels) DropGeneration(_ context.Context, req *opsv1.DropGenerationRequest) (*opsv1.DropGenerationResponse, error) {
	if err := m.ask("drop", req); err != nil {
		return nil, err
	}
	p, err := m.find(req.GetGeneration().GetProjection())
	if err == nil {
		p.Generations = slices.DeleteFunc(p.Generations, func(g *opsv1.Generation) bool {
			return g.GetGeneration() == req.GetGeneration().GetGeneration()
		})
	}
	return &opsv1.DropGenerationResponse{Projection: p}, err
}

func (m *readModels) PauseProjection(_ context.Context, req *opsv1.PauseProjectionRequest) (*opsv1.PauseProjectionResponse, error) {
	if err := m.ask("pause", req); err != nil {
		return nil, err
	}
	p, err := m.find(req.GetProjection())
	if err == nil {
		p.Pause = &opsv1.Pause{Actor: anna(), Reason: req.GetReason(), Time: timestamppb.New(clock())}
		for _, g := range p.GetGenerations() {
			g.State = opsv1.GenerationState_GENERATION_STATE_PAUSED
		}
	}
	return &opsv1.PauseProjectionResponse{Projection: p}, err
}

func (m *readModels) ResumeProjection(_ context.Context, req *opsv1.ResumeProjectionRequest) (*opsv1.ResumeProjectionResponse, error) {
	if err := m.ask("resume", req); err != nil {
		return nil, err
	}
	p, err := m.find(req.GetProjection())
	if err == nil {
		p.Pause = nil
	}
	return &opsv1.ResumeProjectionResponse{Projection: p}, err
}

func (m *readModels) ListDeadLetters(_ context.Context, req *opsv1.ListDeadLettersRequest) (*opsv1.ListDeadLettersResponse, error) {
	if err := m.ask("letters", req); err != nil {
		return nil, err
	}
	states := req.GetStates()
	if len(states) == 0 {
		states = []opsv1.DeadLetterState{failed}
	}
	resp := &opsv1.ListDeadLettersResponse{}
	from := 0
	if _, err := fmt.Sscanf(req.GetPageToken()+"0", "behind %d", &from); req.GetPageToken() != "" && err != nil {
		return nil, err
	}
	from /= 10
	for _, d := range m.letters {
		switch {
		case d.GetPosition() <= uint64(from) || !slices.Contains(states, d.GetState()):
		case len(resp.GetDeadLetters()) == min(int(req.GetPageSize()), 2): // smaller pages than asked for
			resp.NextPageToken = fmt.Sprintf("behind %d", resp.GetDeadLetters()[len(resp.GetDeadLetters())-1].GetPosition())
			return resp, nil
		default:
			resp.DeadLetters = append(resp.DeadLetters, d)
		}
	}
	return resp, nil
}

func (m *readModels) GetDeadLetter(_ context.Context, req *opsv1.GetDeadLetterRequest) (*opsv1.GetDeadLetterResponse, error) {
	if err := m.ask("letter", req); err != nil {
		return nil, err
	}
	if m.letter.GetDeadLetter().GetPosition() != req.GetPosition() {
		return nil, rpcerr.New(codes.NotFound, errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND, "no dead letter there")
	}
	return m.letter, nil
}

func (m *readModels) RetryDeadLetters(_ context.Context, req *opsv1.RetryDeadLettersRequest) (*opsv1.RetryDeadLettersResponse, error) {
	return m.retry, m.ask("retry", req)
}

func (m *readModels) SkipDeadLetter(_ context.Context, req *opsv1.SkipDeadLetterRequest) (*opsv1.SkipDeadLetterResponse, error) {
	return &opsv1.SkipDeadLetterResponse{EventId: newEvent, DeadLetters: 2, ConsistencyToken: newToken}, m.ask("skip", req)
}

// served is a server that can be stopped and started where it was.
type served struct {
	addr  string
	stop  func()
	start func()
}

func (m *readModels) serveAt(t *testing.T) *served {
	t.Helper()
	s := &served{addr: "127.0.0.1:0"}
	s.start = func() {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.addr)
		require.NoError(t, err)
		s.addr = listener.Addr().String()
		server := grpc.NewServer()
		opsv1.RegisterProjectionServiceServer(server, m)
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		s.stop = sync.OnceFunc(func() {
			server.Stop()
			// A command that asks nobody may be done before it serves.
			if err := <-ended; !errors.Is(err, grpc.ErrServerStopped) {
				require.NoError(t, err)
			}
		})
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (m *readModels) serve(t *testing.T) []string {
	t.Helper()
	return []string{"PARLEY_ADDR=" + m.serveAt(t).addr}
}

// requests are what it was asked to change, and the like.
func (m *readModels) requests() []proto.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

func (m *readModels) count(want proto.Message) int {
	n := 0
	for _, r := range m.requests() {
		if r.ProtoReflect().Descriptor() == want.ProtoReflect().Descriptor() {
			n++
		}
	}
	return n
}
