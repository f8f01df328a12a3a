package esdbserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

const (
	// unfinishedAppends bounds what is unfinished in one BatchAppend call, in
	// appends of the largest size.
	unfinishedAppends = 8
	// appendOverhead is what an append costs beside its bytes, at least.
	appendOverhead = 1 << 10
)

// partialAppend is an append of which not all messages may have come.
type partialAppend struct {
	appendCommand

	id          uuid.UUID
	correlation *shared.UUID
	options     *streams.BatchAppendReq_Options
	size        int
	// deadline is zero, and expiry nil, where there is none.
	deadline time.Time
	expiry   *time.Timer
	// refused: it was answered, and what still comes of it is let go. It is
	// remembered, since a client may say the options with each message: the rest
	// must not be taken for an append.
	refused bool
}

// assembler puts the appends of one BatchAppend call together from their
// messages. Its methods may be called concurrently.
type assembler struct {
	s *Server
	// expired is called without a lock held.
	expired func(*partialAppend)

	mu      sync.Mutex
	stopped bool
	appends map[uuid.UUID]*partialAppend
	bytes   int
}

func newAssembler(s *Server, expired func(*partialAppend)) *assembler {
	return &assembler{s: s, expired: expired, appends: map[uuid.UUID]*partialAppend{}}
}

// stop has nothing expire any more.
func (a *assembler) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	for _, p := range a.appends {
		if p.expiry != nil {
			p.expiry.Stop()
		}
	}
}

// take adds a message to its append. It answers with the append where that is
// complete; with an append and an error where it is refused; with an error
// alone where the message belongs to none.
func (a *assembler) take(ctx context.Context, req *streams.BatchAppendReq) (*partialAppend, error) {
	id, err := parseUUID(req.GetCorrelationId())
	if err != nil {
		return nil, invalidArgument("correlation id of a batch append: %v", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.appends[id]
	switch {
	case p == nil && req.GetOptions() == nil:
		// The rest of an append that was answered, and let go.
		return nil, nil
	case p == nil:
		p = &partialAppend{id: id, correlation: req.GetCorrelationId(), options: req.GetOptions()}
		a.appends[id] = p
		a.bytes += appendOverhead
		err = a.begin(ctx, p)
	case p.refused:
		if req.GetIsFinal() {
			a.drop(p)
		}
		return nil, nil
	}
	if err == nil {
		err = a.add(p, req.GetProposedMessages())
	}
	if req.GetIsFinal() {
		a.drop(p)
		return p, err
	}
	bound := unfinishedAppends * a.s.cfg.MaxAppendBytes
	if err == nil {
		if a.bytes <= bound {
			return nil, nil
		}
		err = invalidArgument("too much of unfinished appends: finish one before the next")
	}
	a.refuse(p)
	if a.bytes > bound {
		a.drop(p)
	}
	return p, err
}

// begin checks an append's options.
func (a *assembler) begin(ctx context.Context, p *partialAppend) (err error) {
	if p.expected, err = batchExpectation(p.options); err != nil {
		return err
	}
	if p.name, p.stream, err = streamName(p.options.GetStreamIdentifier().GetStreamName()); err != nil {
		return err
	}
	if err := a.s.mayWrite(ctx, p.name); err != nil {
		return err
	}
	left, bounded, err := a.s.timeLeft(p.options)
	if err != nil || !bounded {
		return err
	}
	p.deadline = time.Now().Add(left)
	if !a.stopped {
		p.expiry = time.AfterFunc(left, func() { a.expire(p) })
	}
	return nil
}

// add adds events.
func (a *assembler) add(p *partialAppend, messages []*streams.BatchAppendReq_ProposedMessage) error {
	for _, m := range messages {
		record, err := newRecord(p.name, m)
		if err != nil {
			return err
		}
		size := recordSize(&record)
		if p.size+size > a.s.cfg.MaxAppendBytes {
			return appendTooLarge(a.s.cfg.MaxAppendBytes)
		}
		if len(p.records) == eventstore.MaxAppendRecords {
			return tooManyRecords()
		}
		p.records = append(p.records, record)
		p.size += size
		a.bytes += size
	}
	return nil
}

// expire refuses an append whose messages did not all come in time.
func (a *assembler) expire(p *partialAppend) {
	a.mu.Lock()
	due := a.appends[p.id] == p && !p.refused
	if due {
		a.refuse(p)
	}
	a.mu.Unlock()
	if due {
		a.expired(p)
	}
}

// refuse lets go of all but the place of an append.
func (a *assembler) refuse(p *partialAppend) {
	a.bytes -= p.size
	p.refused, p.records, p.size = true, nil, 0
	if p.expiry != nil {
		p.expiry.Stop()
	}
}

// drop forgets an append.
func (a *assembler) drop(p *partialAppend) {
	delete(a.appends, p.id)
	a.bytes -= p.size + appendOverhead
	if p.expiry != nil {
		p.expiry.Stop()
	}
}

// timeLeft is how long an append may take.
func (s *Server) timeLeft(o *streams.BatchAppendReq_Options) (left time.Duration, bounded bool, err error) {
	switch o.GetDeadlineOption().(type) {
	case *streams.BatchAppendReq_Options_Deadline:
		if err := o.GetDeadline().CheckValid(); err != nil {
			return 0, false, invalidArgument("deadline: %v", err)
		}
		left = o.GetDeadline().AsDuration()
	case *streams.BatchAppendReq_Options_Deadline_21_10_0:
		if err := o.GetDeadline_21_10_0().CheckValid(); err != nil {
			return 0, false, invalidArgument("deadline: %v", err)
		}
		left = o.GetDeadline_21_10_0().AsTime().Sub(s.cfg.Now())
	default:
		return 0, false, nil
	}
	if left <= 0 {
		return 0, false, fmt.Errorf("append: %w", context.DeadlineExceeded)
	}
	return left, true, nil
}
