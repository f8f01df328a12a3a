package takeovertest

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
)

// server lets recorders reach the store, notes what each of them does, and
// holds calls of theirs.
type server struct {
	store   eventstore.Store
	address string
	closing chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed with every change, then another one
	holds   []*hold
	seen    map[string]*seen
	taken   int // records that are no identity events
}

// seen is what a child has done.
type seen struct {
	answered  int // appends that the store has done or refused
	accepted  int // of them those that added something
	repeated  int // that were there already
	conflicts int // that were refused
	// first is when the first one since the last mark added something, or was
	// held.
	first   time.Time
	status  Status
	reports int
}

// moment is where in a call it is held.
type moment int

const (
	asked moment = iota // before the store has done it
	done                // before the answer is delivered
)

// hold stops a child's call.
type hold struct {
	child    string
	appends  bool // an append, else a look at the head
	moment   moment
	skip     int           // calls to let pass first
	reached  chan struct{} // closed when the call is held
	released chan struct{}
	passed   chan struct{} // closed when the store has done it and it goes on
	once     sync.Once
}

// release lets the call go on, also one that was never held.
func (h *hold) release() { h.once.Do(func() { close(h.released) }) }

func serve(t *testing.T, store eventstore.Store) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{
		store: store, address: listener.Addr().String(), closing: make(chan struct{}), changed: make(chan struct{}), seen: map[string]*seen{},
	}
	r := rpc.NewServer()
	require.NoError(t, r.RegisterName("Wire", &Wire{s}))
	var conns sync.Map
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Store(conn, nil)
			serving.Go(func() {
				r.ServeConn(conn)
				conns.Delete(conn)
			})
		}
	})
	t.Cleanup(func() {
		close(s.closing)
		require.NoError(t, listener.Close())
		conns.Range(func(conn, _ any) bool {
			_ = conn.(net.Conn).Close()
			return true
		})
		serving.Wait()
	})
	return s
}

// hold stops the child's next append, or look at the head, after some others.
func (s *server) hold(child string, appends bool, m moment, skip int) *hold {
	h := &hold{
		child: child, appends: appends, moment: m, skip: skip,
		reached: make(chan struct{}), released: make(chan struct{}), passed: make(chan struct{}),
	}
	s.change(func() { s.holds = append(s.holds, h) })
	return h
}

// pass holds a call where it is to be, and gives what holds it.
func (s *server) pass(child string, appends bool, m moment) *hold {
	var held *hold
	s.change(func() {
		for i, h := range s.holds {
			if h.child != child || h.appends != appends || h.moment != m {
				continue
			}
			if h.skip > 0 {
				h.skip--
				continue
			}
			s.holds = append(s.holds[:i:i], s.holds[i+1:]...)
			held = h
			close(h.reached)
			if c := s.of(child); appends && c.first.IsZero() {
				c.first = time.Now()
			}
			break
		}
	})
	if held != nil {
		select {
		case <-held.released:
		case <-s.closing:
		}
	}
	return held
}

// change changes what is seen and tells whoever waits.
func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// of is what a child has done. The mutex is held.
func (s *server) of(child string) *seen {
	if s.seen[child] == nil {
		s.seen[child] = &seen{}
	}
	return s.seen[child]
}

// look gives what a child has done so far.
func (s *server) look(child string) seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.of(child)
}

// mark begins to look for the child's first append anew.
func (s *server) mark(child string) { s.change(func() { s.of(child).first = time.Time{} }) }

// recorded is how many records there are that are no identity events.
func (s *server) recorded() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// watch is closed with the next change. Take it before looking.
func (s *server) watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Wire is what recorders call.
type Wire struct{ s *server }

// Hello tells what does not change.
func (w *Wire) Hello(_ *Ask, reply *Reply) error {
	reply.LogID, reply.Capabilities = w.s.store.LogID(), w.s.store.Capabilities()
	return nil
}

// Append appends in one commit; the repetition of a single append is
// recognised as Append's is.
func (w *Wire) Append(ask *Ask, reply *Reply) error {
	before := w.s.pass(ask.Child, true, asked)
	// The child may be gone: what it asked for is on its way nevertheless.
	ctx, cancel := withDeadline()
	defer cancel()
	var err error
	if len(ask.Appends) == 1 {
		a := &ask.Appends[0]
		var one eventstore.Appended
		one, err = w.s.store.Append(ctx, a.Stream, a.Expected, a.Records...)
		reply.Appended = []eventstore.Appended{one}
	} else {
		reply.Appended, err = w.s.store.AppendBatch(ctx, ask.Appends)
	}
	reply.Fault = faultOf(err)
	w.s.change(func() { w.s.note(ask, reply) })
	after := w.s.pass(ask.Child, true, done)
	finish(before, after)
	return nil
}

// note counts an append that was answered. The mutex is held.
func (s *server) note(ask *Ask, reply *Reply) {
	c := s.of(ask.Child)
	c.answered++
	switch {
	case reply.Fault != nil && reply.Fault.Conflict != nil:
		c.conflicts++
	case reply.Fault != nil:
	case reply.Appended[0].Repeated:
		c.repeated++
	default:
		c.accepted++
		if c.first.IsZero() {
			c.first = time.Now()
		}
		for i := range ask.Appends {
			for j := range ask.Appends[i].Records {
				if !identity.IsIdentityType(ask.Appends[i].Records[j].Type) {
					s.taken++
				}
			}
		}
	}
}

func finish(holds ...*hold) {
	for _, h := range holds {
		if h != nil {
			close(h.passed)
		}
	}
}

// Head looks at the head.
func (w *Wire) Head(ask *Ask, reply *Reply) error {
	before := w.s.pass(ask.Child, false, asked)
	ctx, cancel := withDeadline()
	defer cancel()
	head, err := w.s.store.Head(ctx)
	reply.Head, reply.Fault = head, faultOf(err)
	after := w.s.pass(ask.Child, false, done)
	finish(before, after)
	return nil
}

// StreamHead looks at the end of a stream.
func (w *Wire) StreamHead(ask *Ask, reply *Reply) error {
	ctx, cancel := withDeadline()
	defer cancel()
	revision, err := w.s.store.StreamHead(ctx, ask.Stream)
	reply.Revision, reply.Fault = revision, faultOf(err)
	return nil
}

// ReadAll gives a page.
func (w *Wire) ReadAll(ask *Ask, reply *Reply) error {
	ctx, cancel := withDeadline()
	defer cancel()
	head, err := w.s.store.Head(ctx)
	reply.Head, reply.Fault = head, faultOf(err)
	if err != nil {
		return nil
	}
	for rec, err := range w.s.store.ReadAll(ctx, ask.ReadAll) {
		if err != nil {
			reply.Fault = faultOf(err)
			return nil
		}
		reply.Records = append(reply.Records, *rec)
	}
	return nil
}

// ReadStream gives a page of one stream.
func (w *Wire) ReadStream(ask *Ask, reply *Reply) error {
	ctx, cancel := withDeadline()
	defer cancel()
	for rec, err := range w.s.store.ReadStream(ctx, ask.Stream, ask.ReadStream) {
		if err != nil {
			reply.Fault = faultOf(err)
			return nil
		}
		reply.Records = append(reply.Records, *rec)
	}
	return nil
}

// Report takes what a recorder says of itself.
func (w *Wire) Report(ask *Ask, _ *Reply) error {
	w.s.change(func() {
		c := w.s.of(ask.Child)
		c.status = ask.Status
		c.reports++
	})
	return nil
}

func TestErrorsKeepTheirTypeOverTheWire(t *testing.T) {
	t.Parallel()
	server := serve(t, openStore(t))
	for _, batches := range []bool{true, false} {
		s, err := dial(server.address, "child", batches)
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		require.Equal(t, server.store.LogID(), s.LogID())

		one := newRecord(t)
		stream := fmt.Sprintf("acme.web-%v", batches)
		first, err := s.Append(t.Context(), stream, eventstore.NoStream, one)
		require.NoError(t, err)
		again, err := s.Append(t.Context(), stream, eventstore.NoStream, one)
		require.NoError(t, err)
		require.True(t, again.Repeated)
		require.Equal(t, first.Position, again.Position)

		_, err = s.Append(t.Context(), stream, eventstore.NoStream, newRecord(t))
		conflict, ok := errors.AsType[*eventstore.RevisionConflictError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, &eventstore.RevisionConflictError{Stream: stream, Expected: eventstore.NoStream, Actual: 0}, conflict)
		_, err = s.Append(t.Context(), stream, 0)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		_, err = s.AppendBatch(t.Context(), []eventstore.StreamAppend{
			{Stream: stream, Expected: 0, Records: []eventstore.NewRecord{newRecord(t)}},
			{Stream: stream + "2", Expected: eventstore.NoStream, Records: []eventstore.NewRecord{newRecord(t)}},
		})
		if batches {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, eventstore.ErrUnsupported)
		}
	}
	s, err := dial(server.address, "child", true)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = s.Head(t.Context())
	require.ErrorIs(t, err, eventstore.ErrUnavailable)
}

// A read over the wire is that of the store, whatever the pages.
func TestReadsOverTheWire(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	server := serve(t, store)
	s, err := dial(server.address, "child", true)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	const records = 2*pageRecords + 7
	for i := range records {
		_, err := s.Append(t.Context(), fmt.Sprintf("acme.web-%d", i%3), eventstore.Revision(i/3-1), newRecord(t))
		require.NoError(t, err)
	}
	for _, opts := range []eventstore.ReadAllOptions{
		{}, {From: 5}, {Limit: pageRecords}, {Limit: pageRecords + 1, From: 3}, {From: records}, {From: records + 9},
		{Direction: eventstore.Backwards}, {Direction: eventstore.Backwards, From: 9, Limit: 3},
	} {
		want, got := collect(t, store, opts), collect(t, s, opts)
		require.Len(t, got, len(want), "%+v", opts)
		for i := range want {
			require.Equal(t, *want[i], *got[i], "%+v", opts)
		}
	}
}

func TestStreamReadsOverTheWire(t *testing.T) {
	t.Parallel()
	server := serve(t, openStore(t))
	s, err := dial(server.address, "child", false)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	const stream = "acme.web-1"
	one, two := newRecord(t), newRecord(t)
	_, err = s.Append(t.Context(), stream, eventstore.NoStream, one, two)
	require.NoError(t, err)
	read := func(stream string, opts eventstore.ReadStreamOptions) (ids []uuid.UUID, failed error) {
		for rec, err := range s.ReadStream(t.Context(), stream, opts) {
			if err != nil {
				return ids, err
			}
			ids = append(ids, rec.ID)
		}
		return ids, nil
	}
	ids, err := read(stream, eventstore.ReadStreamOptions{From: 1, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{two.ID}, ids)
	ids, err = read(stream, eventstore.ReadStreamOptions{Limit: pageRecords})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{one.ID, two.ID}, ids)
	_, err = read("acme.web-2", eventstore.ReadStreamOptions{Limit: 1})
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	_, err = read(stream, eventstore.ReadStreamOptions{})
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
}

func collect(t *testing.T, s eventstore.Store, opts eventstore.ReadAllOptions) (all []*eventstore.Record) {
	t.Helper()
	for rec, err := range s.ReadAll(t.Context(), opts) {
		require.NoError(t, err)
		all = append(all, rec)
	}
	return all
}
