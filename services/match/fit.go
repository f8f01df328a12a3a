package match

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	linkage "github.com/parleyhq/parley/pkg/identity/match"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// sourceMatch is where models and the links they want come from.
const sourceMatch = "match"

// work does what a job is to do: fit, search, link.
func (s *Server) work(ctx context.Context, j *job) error {
	var at eventstore.Position // where the model stands that was fitted; 0 for none
	if !j.searchOnly {
		var err error
		if at, err = s.fit(ctx, j); err != nil {
			return err
		}
	}
	r := s.now(j.who.Tenant, at)
	// Where the model could not be folded, the newest is the one before.
	if err := r.AboutAll(ctx); err != nil {
		return err
	}
	model, err := r.usable(ctx)
	if err != nil {
		return err
	}
	var threshold float64 // from which on pairs are linked; 0 for never
	if j.link {
		if threshold, err = r.linkProbability(ctx); err != nil {
			return err
		}
	}
	least := j.least
	if threshold > 0 {
		least = min(least, threshold)
	}
	list := &pairList{model: model.eventID, searched: s.deps.Now()}
	pairs, err := s.search(ctx, j, r, model, least)
	if err != nil {
		return err
	}
	list.pairs = atLeast(pairs, j.least)
	s.mu.Lock()
	s.lists[j.who.Tenant] = list
	s.mu.Unlock()
	s.metrics.pairs.Add(float64(len(list.pairs)))
	if err := s.link(ctx, j, model.eventID, pairs, threshold); err != nil {
		return err
	}
	j.tell(func(p *customerv1.FitMatchModelResponse) {
		p.Phase, p.Done, p.ModelEventId = customerv1.FitPhase_FIT_PHASE_DONE, 1, model.eventID
	})
	return nil
}

// fit learns from all that the log has now and appends the model. It returns
// once the read model has come to it, with where it stands.
//
// Events that wait to be folded keep no tenant from a model: what one customer
// out of many last said of himself changes next to nothing of how often people
// agree.
func (s *Server) fit(ctx context.Context, j *job) (eventstore.Position, error) {
	begun := s.deps.Now()
	stream := Stream(j.who.Tenant)
	// Who fits at the same time elsewhere makes one of the two fail.
	revision, err := s.deps.Log.StreamHead(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("read the head of %s: %w", stream, err)
	}
	if _, err := s.reads.Waiter.WaitHead(ctx); err != nil {
		return 0, err
	}
	r := s.now(j.who.Tenant, 0)
	position := r.Reader.Position()
	before, err := r.model(ctx)
	if err != nil {
		return 0, err
	}
	var expected uint64 // about how many records there are; 0 where nobody knows
	if before != nil && before.model != nil {
		expected = before.model.Records
	}
	model, err := linkage.Fit(ctx, r.source(func(n int64) {
		j.tell(func(p *customerv1.FitMatchModelResponse) {
			p.Customers = n
			if expected > 0 {
				// Reading is about half of it.
				const half = 0.5
				p.Done = half * min(1, float64(n)/float64(expected))
			}
		})
	}), linkage.FitOptions{Seed: j.seed, Workers: s.deps.Workers})
	if few, ok := errors.AsType[*linkage.TooFewError](err); ok {
		return 0, rpcerr.New(codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL,
			fmt.Sprintf("there is too little to learn from: %d customers of whom anything can be compared", few.Records), rpcerr.WithCause(err))
	}
	if err != nil {
		return 0, fmt.Errorf("fit a model: %w", err)
	}
	id, err := s.deps.NewID()
	if err != nil {
		return 0, fmt.Errorf("make an event's id: %w", err)
	}
	ev := &eventv1.Event{
		Id: id.String(), Tenant: j.who.Tenant, Source: sourceMatch, Channel: channelIdentity,
		Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: j.who.Source},
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_ModelFitted{ModelFitted: &eventv1.ModelFitted{
			Position: uint64(position), BegunTime: timestamppb.New(begun), Seed: j.seed,
			Model: &eventv1.ModelFitted_Match{Match: modelToProto(model)},
		}}},
	}
	event.Stamp(ev)
	now := s.deps.Now()
	event.SetOccurred(ev, now, now, false)
	record, err := s.deps.Codec.Encode(ev)
	if err != nil {
		return 0, fmt.Errorf("encode the model: %w", err)
	}
	at, err := s.deps.Log.Append(ctx, stream, revision, record)
	if conflict, ok := errors.AsType[*eventstore.RevisionConflictError](err); ok {
		return 0, rpcerr.New(codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE, "another process fitted a model meanwhile", rpcerr.WithCause(conflict))
	}
	if err != nil {
		return 0, fmt.Errorf("append the model to %s: %w", stream, err)
	}
	if err := s.deps.Engine.WaitFor(ctx, at.Position); err != nil {
		return 0, fmt.Errorf("wait for the model at position %d: %w", at.Position, err)
	}
	j.tell(func(p *customerv1.FitMatchModelResponse) { p.Done, p.ModelEventId = 1, ev.GetId() })
	return at.Position, nil
}

// source are the tenant's records of whom anything can be compared, as of one
// state for each reading. Now and then it tells how many there were.
func (r *read) source(tell func(n int64)) linkage.Source {
	return func(ctx context.Context) iter.Seq2[*linkage.Record, error] {
		return func(yield func(*linkage.Record, error) bool) {
			const every = 1 << 10
			var n int64
			for entry, err := range r.Reader.Scan(ctx, r.Tenant) {
				var doc customerv1.MatchRecord
				if err == nil {
					err = decodeRecord(entry.Data, &doc)
				}
				if err != nil {
					yield(nil, err)
					return
				}
				record := recordOf(&doc)
				if !hasAnything(&record) {
					continue
				}
				if n++; n%every == 0 {
					tell(n)
				}
				if !yield(&record, nil) {
					return
				}
			}
			tell(n)
		}
	}
}

// search finds the tenant's best pairs, the best first.
func (s *Server) search(ctx context.Context, j *job, r *read, model *fitted, least float64) ([]pair, error) {
	var pairs []pair
	j.tell(func(p *customerv1.FitMatchModelResponse) {
		p.Phase, p.Done, p.Candidates = customerv1.FitPhase_FIT_PHASE_SEARCHING, 0, 0
	})
	found := linkage.Candidates(ctx, r.source(func(int64) {}), model.model, linkage.Options{
		Threshold: max(least, minThreshold), MemoryBytes: s.deps.MemoryBytes, Workers: s.deps.Workers,
		Progress: func(o linkage.Progress) {
			j.tell(func(p *customerv1.FitMatchModelResponse) {
				p.Customers, p.Candidates, p.Done = max(p.GetCustomers(), int64(o.Records)), int64(o.Found), o.Done
			})
		},
	})
	told := newToldApart(r)
	for p, err := range found {
		if err != nil {
			return nil, fmt.Errorf("search for pairs: %w", err)
		}
		apart, err := told.pair(ctx, p.A, p.B)
		if err != nil {
			return nil, fmt.Errorf("search for pairs: %w", err)
		}
		if apart {
			continue
		}
		pairs = append(pairs, pair{place: placeOf(p.Score.Weight, p.A, p.B), probability: p.Score.Probability})
		if len(pairs) == maxPairs {
			s.deps.Logger.Warn("more pairs than are kept; the best ones are", "tenant", j.who.Tenant, "pairs", maxPairs)
			break
		}
	}
	j.tell(func(p *customerv1.FitMatchModelResponse) {
		p.Done, p.Candidates = 1, int64(len(atLeast(pairs, j.least)))
	})
	return pairs, nil
}

// atLeast are the first of some pairs, the best of which come first.
func atLeast(pairs []pair, probability float64) []pair {
	n, _ := slices.BinarySearchFunc(pairs, probability, func(p pair, probability float64) int {
		if p.probability >= probability {
			return -1
		}
		return 1
	})
	return pairs[:n:n]
}

// minThreshold keeps a search from giving every pair of the tenant.
const minThreshold = 0.001

// link has those pairs linked, the best first, that the tenant's rules want
// linked without asking. What the recorder refuses stays a suggestion.
func (s *Server) link(ctx context.Context, j *job, model string, pairs []pair, threshold float64) error {
	if threshold <= 0 {
		return nil
	}
	pairs = atLeast(pairs, threshold)
	cause, err := uuid.Parse(model)
	if err != nil {
		return fmt.Errorf("event id of the model: %w", err)
	}
	j.tell(func(p *customerv1.FitMatchModelResponse) { p.Phase, p.Done = customerv1.FitPhase_FIT_PHASE_LINKING, 0 })
	told := newToldApart(s.now(j.who.Tenant, 0))
	var last eventstore.Position
	var linked int64
	for i := range pairs {
		p := &pairs[i]
		// A person may have decided since the search.
		apart, err := told.pair(ctx, p.a, p.b)
		if err != nil {
			return err
		}
		if !apart {
			reply, err := s.command(ctx, j.who.Tenant, linkCommand(cause, model, p))
			if err != nil {
				return err
			}
			last = max(last, eventstore.Position(reply.GetPosition()))
			refusal := reply.GetCommand().GetRefusal()
			s.metrics.links.WithLabelValues(outcomeOf(refusal)).Inc()
			if refusal == interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNSPECIFIED {
				linked++
			}
		}
		j.tell(func(p *customerv1.FitMatchModelResponse) {
			p.Linked, p.Done = linked, float64(i+1)/float64(len(pairs))
		})
	}
	if err := s.deps.Engine.WaitFor(ctx, last); err != nil {
		return fmt.Errorf("wait for the links at position %d: %w", last, err)
	}
	return nil
}

// linkCommand wants a pair linked. The same model never wants it twice.
func linkCommand(cause uuid.UUID, model string, p *pair) *interactionv1.IdentityCommand {
	return &interactionv1.IdentityCommand{
		Id: event.DerivedID(cause, "link:"+p.a+":"+p.b).String(), Source: sourceMatch,
		Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_SYSTEM, Id: sourceMatch},
		Kind: &interactionv1.IdentityCommand_Link{Link: &interactionv1.IdentityCommand_LinkProfiles{
			ProfileId: p.a, OtherProfileId: p.b, Probability: p.probability, ModelEventId: model,
		}},
	}
}

// outcomeOf names what became of a link, for counting.
func outcomeOf(r interactionv1.IdentityRefusal) string {
	switch r {
	case interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNSPECIFIED:
		return "linked"
	case interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER:
		return "same_customer"
	case interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES:
		return "rules"
	default:
		return "other"
	}
}
