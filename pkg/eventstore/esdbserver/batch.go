package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/types/known/emptypb"
)

// appendsInFlight bounds what is under way in one BatchAppend call, in appends
// of the largest size. Until one is answered no more is received.
const appendsInFlight = 8

// BatchAppend is Streams.BatchAppend: many appends over one call, each in one
// message or several. Those to one stream are done in the order in which they
// became complete, those to different streams at the same time; answers come as
// they are known.
func (s *Server) BatchAppend(stream streams.Streams_BatchAppendServer) error {
	ctx := stream.Context()
	b := &batch{
		s: s, stream: stream,
		last:     map[string]chan struct{}{},
		inFlight: semaphore.NewWeighted(int64(appendsInFlight * (s.cfg.MaxAppendBytes + appendOverhead))),
	}
	b.parts = newAssembler(s, b.expired)
	received := make(chan error, 1)
	// It ends with the call: what blocks it is the client.
	go func() { received <- b.receive(ctx) }()
	var err error
	select {
	case err = <-received:
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.stopped:
		err = stopping()
	}
	b.end()
	return s.answer(ctx, err)
}

// batch is one BatchAppend call.
type batch struct {
	s        *Server
	stream   streams.Streams_BatchAppendServer
	inFlight *semaphore.Weighted
	running  sync.WaitGroup

	sending sync.Mutex

	parts *assembler

	mu    sync.Mutex
	ended bool
	// last is the append under way or waiting that is the last one of a stream;
	// closed when it is done.
	last map[string]chan struct{}
}

// end waits for the appends under way; no more begin.
func (b *batch) end() {
	b.parts.stop()
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.running.Wait()
}

func (b *batch) receive(ctx context.Context) error {
	for {
		req, err := b.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p, err := b.parts.take(ctx, req)
		switch {
		case p == nil && err != nil:
			return err
		case err != nil:
			b.tell(p, err)
		case p != nil:
			if err := b.start(ctx, p); err != nil {
				return err
			}
		}
	}
}

// tell answers an append that never began.
func (b *batch) tell(p *partialAppend, err error) {
	if b.run() {
		defer b.running.Done()
		b.answer(p, appended{}, err)
	}
}

// expired is the assembler's: not all came in time.
func (b *batch) expired(p *partialAppend) {
	b.tell(p, fmt.Errorf("append: %w", context.DeadlineExceeded))
}

// run counts one more that may send; false once the call has ended. Who was
// counted says running.Done.
func (b *batch) run() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.running.Add(1)
	}
	return !b.ended
}

// start appends behind what the stream has to wait for. It blocks while too
// much is under way.
func (b *batch) start(ctx context.Context, p *partialAppend) error {
	weight := int64(min(p.size, b.s.cfg.MaxAppendBytes) + appendOverhead)
	if err := b.inFlight.Acquire(ctx, weight); err != nil {
		return err
	}
	if !b.run() {
		return nil
	}
	done := make(chan struct{})
	b.mu.Lock()
	before := b.last[p.stream]
	b.last[p.stream] = done
	b.mu.Unlock()
	go func() {
		defer b.running.Done()
		defer b.inFlight.Release(weight)
		place, err := b.append(ctx, p, before)
		if err != nil {
			b.answer(p, place, err)
		}
		if before != nil {
			// Where it did not wait so long, the next one has to.
			<-before
		}
		b.mu.Lock()
		if b.last[p.stream] == done {
			delete(b.last, p.stream)
		}
		b.mu.Unlock()
		close(done)
		if err == nil {
			b.answer(p, place, nil)
		}
	}()
	return nil
}

func (b *batch) append(ctx context.Context, p *partialAppend, before <-chan struct{}) (place appended, err error) {
	defer func() {
		if failed := b.s.recovered(streams.Streams_BatchAppend_FullMethodName, recover()); failed != nil {
			err = failed
		}
	}()
	if !p.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, p.deadline)
		defer cancel()
	}
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
			return appended{}, fmt.Errorf("append to %s: wait for the append before: %w", p.name, ctx.Err())
		}
	}
	return b.s.append(ctx, &p.appendCommand)
}

// answer sends what became of an append. Where the client has gone nobody needs
// it.
func (b *batch) answer(p *partialAppend, place appended, err error) {
	out := &streams.BatchAppendResp{CorrelationId: p.correlation, StreamIdentifier: p.options.GetStreamIdentifier()}
	if out.StreamIdentifier == nil {
		// Clients read it without looking.
		out.StreamIdentifier = &shared.StreamIdentifier{}
	}
	echo(out, p.options)
	if err != nil {
		e := classify(err)
		if e.reason == reasonUnknown {
			b.s.log.Error("eventstore protocol: batch append failed", "error", err)
		}
		out.Result = &streams.BatchAppendResp_Error{Error: e.status()}
	} else {
		out.Result = &streams.BatchAppendResp_Success_{Success: place.batchSuccess()}
	}
	b.sending.Lock()
	defer b.sending.Unlock()
	if err := b.stream.Send(out); err != nil {
		b.s.log.Debug("eventstore protocol: answer to a batch append was not sent", "error", err)
	}
}

// echo repeats what was expected.
func echo(out *streams.BatchAppendResp, options *streams.BatchAppendReq_Options) {
	switch v := options.GetExpectedStreamPosition().(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_StreamPosition{StreamPosition: min(v.StreamPosition, math.MaxInt64)}
	case *streams.BatchAppendReq_Options_NoStream:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_NoStream{NoStream: &emptypb.Empty{}}
	case *streams.BatchAppendReq_Options_Any:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_Any{Any: &emptypb.Empty{}}
	case *streams.BatchAppendReq_Options_StreamExists:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_StreamExists{StreamExists: &emptypb.Empty{}}
	}
}

func (a appended) batchSuccess() *streams.BatchAppendResp_Success {
	out := &streams.BatchAppendResp_Success{}
	if a.revision < 0 {
		out.CurrentRevisionOption = &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}}
	} else {
		out.CurrentRevisionOption = &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(a.revision)}
	}
	if a.position == 0 {
		out.PositionOption = &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}}
	} else {
		out.PositionOption = &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{
			CommitPosition: uint64(a.position), PreparePosition: uint64(a.position),
		}}
	}
	return out
}
