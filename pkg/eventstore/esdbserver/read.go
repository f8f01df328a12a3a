package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rawproto"
)

// Read is Streams.Read: reads and subscriptions, of a stream or of $all.
func (s *Server) Read(req *streams.ReadReq, stream streams.Streams_ReadServer) error {
	ctx, cancel := s.untilStopped(stream.Context())
	defer cancel()
	err := s.read(ctx, req, stream)
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		err = stopping()
	}
	return s.answer(stream.Context(), err)
}

func (s *Server) read(ctx context.Context, req *streams.ReadReq, stream streams.Streams_ReadServer) error {
	r, err := parseRead(req)
	if err != nil {
		return err
	}
	out := &sender{s: s, stream: stream, resolve: r.resolve, tenant: callerOf(ctx).tenant, encoder: encoder{stringIDs: r.stringIDs}}
	defer out.done()
	if r.filter != nil {
		r.filter.restrict(out.tenant)
	} else if err := mayRead(ctx, r.name); err != nil {
		return err
	}
	switch {
	case r.subscription && r.filter != nil:
		return s.subscribeAll(ctx, r, out)
	case r.subscription:
		return s.subscribeStream(ctx, r, out)
	case r.filter != nil:
		return s.readAll(ctx, r, out)
	default:
		return s.readStream(ctx, r, out)
	}
}

func (s *Server) readAll(ctx context.Context, r *readRequest, out *sender) error {
	opts := eventstore.ReadAllOptions{Filter: r.filter.store}
	nothing := r.count == 0
	switch {
	case r.backwards:
		opts.Direction = eventstore.Backwards
		// The store reads 0 as the head; below position 0 or 1 there is nothing.
		opts.From = r.position
		nothing = nothing || !r.fromEnd && r.position <= 1
		if r.fromEnd {
			opts.From = 0
		}
	case r.fromEnd:
		nothing = true
	case r.position > 0:
		opts.From = r.position - 1
	}
	if r.filter.all() {
		opts.Limit = int(min(r.count, math.MaxInt))
	}
	left := r.count
	if !nothing {
		for record, err := range s.store.ReadAll(ctx, opts) {
			if err != nil {
				return fmt.Errorf("read %s: %w", allStream, err)
			}
			if !r.filter.matches(record) {
				continue
			}
			if err := out.event(ctx, record); err != nil {
				return err
			}
			if left--; left == 0 {
				break
			}
		}
	}
	if !r.extras {
		return nil
	}
	head, err := s.store.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the head of %s: %w", allStream, err)
	}
	return out.send(&streams.ReadResp{Content: &streams.ReadResp_LastAllStreamPosition{
		LastAllStreamPosition: &shared.AllStreamPosition{CommitPosition: uint64(head), PreparePosition: uint64(head)},
	}})
}

// window is what readers of a stream are shown of it.
type window struct {
	meta  streamMeta
	first eventstore.Revision
	head  eventstore.Revision
}

// errNotFound: there is no such stream for readers.
var errNotFound = errors.New("stream not found")

// window fails with errNotFound, and where the stream is deleted for good.
func (s *Server) window(ctx context.Context, stream string) (window, error) {
	st := s.states.hold(stream)
	defer s.states.release(st)
	head, deleted, err := s.standing(ctx, st)
	if err != nil {
		return window{}, err
	}
	if head == eventstore.NoStream || deleted {
		return window{}, errNotFound
	}
	meta, err := s.metaOf(ctx, st)
	return window{meta: meta, first: meta.first(head), head: head}, err
}

func (s *Server) readStream(ctx context.Context, r *readRequest, out *sender) error {
	w, err := s.window(ctx, r.stream)
	if errors.Is(err, errNotFound) {
		return out.send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(r.name)},
		}}})
	}
	if err != nil {
		return err
	}
	opts := eventstore.ReadStreamOptions{From: r.revision}
	switch {
	case r.backwards:
		opts.Direction = eventstore.Backwards
		if r.fromEnd {
			opts.From = w.head
		}
	case r.fromEnd:
		opts.From = w.head + 1
	case r.revision < w.first:
		opts.From = w.first
		if r.extras {
			if err := out.send(&streams.ReadResp{
				Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: uint64(w.first)},
			}); err != nil {
				return err
			}
		}
	}
	if r.count > 0 && w.first <= w.head {
		if err := s.readWindow(ctx, r, w, opts, out); err != nil {
			return err
		}
	}
	if r.extras {
		return out.send(&streams.ReadResp{Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: uint64(w.head)}})
	}
	return nil
}

func (s *Server) readWindow(ctx context.Context, r *readRequest, w window, opts eventstore.ReadStreamOptions, out *sender) error {
	left := r.count
	if w.meta.maxAge == 0 {
		opts.Limit = int(min(left, math.MaxInt))
	}
	now := s.cfg.Now()
	for record, err := range s.store.ReadStream(ctx, r.stream, opts) {
		if err != nil {
			return fmt.Errorf("read stream %s: %w", r.name, err)
		}
		if r.backwards && (record.Revision < w.first || w.meta.expired(record, now)) {
			return nil
		}
		if record.Type == storedStreamDeleted {
			return streamDeleted(r.name)
		}
		if w.meta.expired(record, now) {
			continue
		}
		if err := out.event(ctx, record); err != nil {
			return err
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil
}

// sender sends what a read or a subscription answers with.
type sender struct {
	s       *Server
	stream  streams.Streams_ReadServer
	resolve bool
	tenant  string
	encoder encoder
	// events that were sent and not yet counted.
	events int
}

func (o *sender) event(ctx context.Context, r *eventstore.Record) error {
	var resolved *eventstore.Record
	isLink := o.resolve && r.Type == storedLink
	if isLink {
		var err error
		if resolved, err = o.s.follow(ctx, r, o.tenant); err != nil {
			return err
		}
	}
	body := o.encoder.event(r, resolved, isLink)
	if err := o.stream.SendMsg(new(rawproto.Message).Nested(fieldRespEvent, body)); err != nil {
		return err
	}
	if o.events++; o.events == countEvery {
		o.done()
	}
	return nil
}

// countEvery is how many events are counted at once.
const countEvery = 256

// done counts the events that were sent.
func (o *sender) done() {
	o.s.metrics.events.Add(float64(o.events))
	o.events = 0
}

func (o *sender) send(resp *streams.ReadResp) error { return o.stream.Send(resp) }
