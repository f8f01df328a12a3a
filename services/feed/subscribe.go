package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
)

// Subscribe streams events: first what is there, then what comes.
func (s *Server) Subscribe(req *feedv1.SubscribeRequest, stream grpc.ServerStreamingServer[feedv1.SubscribeResponse]) error {
	who, ok := tenant.From(stream.Context())
	if !ok {
		return errNoTenant()
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer s.whenStopping(cancel)()
	err := s.subscribe(ctx, who, req, stream)
	if errors.Is(context.Cause(ctx), errStop) {
		return errStopping()
	}
	return rpcerr.FromError(err)
}

// errStop is the cause of a subscription's end when the server stops.
var errStop = errors.New("server is stopping")

// whenStopping cancels once the server stops. The function that it returns ends
// that.
func (s *Server) whenStopping(cancel context.CancelCauseFunc) func() {
	if s.deps.Stopping == nil {
		return func() {}
	}
	done := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-s.deps.Stopping:
			cancel(errStop)
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-gone
	}
}

func (s *Server) subscribe(ctx context.Context, who tenant.Identity, req *feedv1.SubscribeRequest, stream grpc.ServerStreamingServer[feedv1.SubscribeResponse]) error {
	types, err := newTypeFilter(req.GetTypes())
	if err != nil {
		return err
	}
	after, err := s.from(ctx, req)
	if err != nil {
		return err
	}
	sub, err := s.deps.Log.Subscribe(ctx, eventstore.SubscribeOptions{
		After:     after,
		Filter:    eventstore.Filter{Types: types.exact, StreamPrefixes: prefixes(who, req.GetStreamPrefixes())},
		Heartbeat: s.deps.Heartbeat,
	})
	if err != nil {
		return fmt.Errorf("subscribe behind position %d: %w", after, err)
	}
	feed := &feed{server: s, stream: stream, types: types, lastSent: s.deps.Now()}
	return errors.Join(feed.run(ctx, sub), closing(sub))
}

func closing(sub eventstore.Subscription) error {
	if err := sub.Close(); err != nil && !errors.Is(err, eventstore.ErrClosed) {
		return fmt.Errorf("close subscription: %w", err)
	}
	return nil
}

// from is the position behind which to begin.
func (s *Server) from(ctx context.Context, req *feedv1.SubscribeRequest) (eventstore.Position, error) {
	switch from := req.GetFrom().(type) {
	case *feedv1.SubscribeRequest_Start:
		return 0, nil
	case *feedv1.SubscribeRequest_Now:
		head, err := s.deps.Log.Head(ctx)
		if err != nil {
			return 0, fmt.Errorf("subscribe from now: %w", err)
		}
		return head, nil
	case *feedv1.SubscribeRequest_ResumeToken:
		t, err := token.Parse(token.Resume, from.ResumeToken)
		if err != nil {
			return 0, rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
				"resume_token was not made by this service", rpcerr.WithCause(err))
		}
		position, err := t.In(ctx, s.deps.Log.LogID(), s.deps.Origins)
		if errors.Is(err, token.ErrOtherLog) {
			return 0, rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
				"resume_token belongs to another log", rpcerr.WithCause(err))
		}
		return position, err
	default:
		return 0, rpcerr.InvalidField("from", "must be set: now, start or resume_token")
	}
}

// prefixes are those of the request behind the tenant's; a tenant never gets
// past its own.
func prefixes(who tenant.Identity, asked []string) []string {
	wall := streamPrefix(who)
	if len(asked) == 0 {
		return []string{wall}
	}
	inside := make([]string, len(asked))
	for i, prefix := range asked {
		inside[i] = wall + prefix
	}
	return inside
}

// typeFilter chooses by event type. The store knows exact types; where a
// pattern is among them, all are matched here.
type typeFilter struct {
	// exact is for the store.
	exact []string
	// patterns are matched here, in order of their prefixes.
	patterns []typePattern
}

// typePattern matches a type that is, or begins with, text.
type typePattern struct {
	text   string
	prefix bool
}

func newTypeFilter(types []string) (typeFilter, error) {
	const wildcard = "*"
	f := typeFilter{}
	anyPattern := false
	for i, typ := range types {
		text, isPattern := strings.CutSuffix(typ, wildcard)
		if strings.Contains(text, wildcard) {
			return typeFilter{}, rpcerr.InvalidField(fmt.Sprintf("types[%d]", i), "`*` may stand at the end only")
		}
		anyPattern = anyPattern || isPattern
		f.patterns = append(f.patterns, typePattern{text: text, prefix: isPattern})
	}
	if !anyPattern {
		f.exact, f.patterns = slices.Clone(types), nil
	}
	return f, nil
}

func (f *typeFilter) matches(typ string) bool {
	return len(f.patterns) == 0 || slices.ContainsFunc(f.patterns, func(p typePattern) bool {
		return p.text == typ || p.prefix && strings.HasPrefix(typ, p.text)
	})
}

// feed is one subscription being served.
type feed struct {
	server   *Server
	stream   grpc.ServerStreamingServer[feedv1.SubscribeResponse]
	types    typeFilter
	lastSent time.Time
	// caughtUp says that the subscriber has been told so.
	caughtUp bool
	// recorded is used for every event: gRPC encodes it before Send returns.
	recorded eventv1.RecordedEvent
}

func (f *feed) run(ctx context.Context, sub eventstore.Subscription) error {
	for {
		batch, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("read on: %w", err)
		}
		for _, rec := range batch.Records {
			if err := f.record(ctx, rec); err != nil {
				return err
			}
		}
		reached := batch.CaughtUp && !f.caughtUp
		f.caughtUp = batch.CaughtUp
		if reached || len(batch.Records) == 0 || f.silent() {
			if err := f.heartbeat(batch.Position, batch.CaughtUp); err != nil {
				return err
			}
		}
	}
}

func (f *feed) record(ctx context.Context, rec *eventstore.Record) error {
	if !event.IsEvent(rec) || !f.types.matches(rec.Type) {
		if f.silent() {
			return f.heartbeat(rec.Position, false)
		}
		return nil
	}
	if err := f.server.deps.Codec.DecodeInto(rec, &f.recorded); err != nil {
		return fmt.Errorf("event at position %d: %w", rec.Position, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("event at position %d: %w", rec.Position, err)
	}
	return f.send(rec.Position, &feedv1.SubscribeResponse{Item: &feedv1.SubscribeResponse_Event{Event: &f.recorded}})
}

// silent says that nothing was sent for as long as may be.
func (f *feed) silent() bool {
	return f.server.deps.Now().Sub(f.lastSent) >= f.server.deps.Heartbeat
}

func (f *feed) heartbeat(position eventstore.Position, caughtUp bool) error {
	return f.send(position, &feedv1.SubscribeResponse{Item: &feedv1.SubscribeResponse_Heartbeat{Heartbeat: &feedv1.Heartbeat{
		Position: uint64(position), CaughtUp: caughtUp, Time: timestamppb.New(f.server.deps.Now()),
	}}})
}

func (f *feed) send(position eventstore.Position, item *feedv1.SubscribeResponse) error {
	item.ResumeToken = token.NewResume(f.server.deps.Log.LogID(), position).String()
	if err := f.stream.Send(item); err != nil {
		return fmt.Errorf("send position %d: %w", position, err)
	}
	f.lastSent = f.server.deps.Now()
	return nil
}
