package embedded

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// committer turns waiting appends into commits. gather, one goroutine, alone
// decides and writes: every group is applied to Pebble before the next is
// decided, so that what it reads there is all there is. finish, another one,
// waits for the syncs in order and answers.
type committer struct {
	s        *Store
	heads    *heads
	inflight chan *group
	// batches that are durable, to be used again.
	batches chan *pebble.Batch

	// Of the group that is being built.
	group    *group
	segment  segmentWriter
	first    eventstore.Position // of the segment
	run      runWriter
	touched  map[string]touch // streams that it appends to
	lookup   *pebble.Iterator // as of before the group; made when needed
	request  int
	journal  []undo
	position eventstore.Position // the last one given out
	recorded time.Time
	bytes    int
	key      []byte
	value    []byte

	mu   sync.Mutex
	open []*group // applied, or being so, and not answered
}

// group is what one Pebble batch commits.
type group struct {
	batch    *pebble.Batch
	requests []*request
	errs     []error // by request
	last     eventstore.Position
	// abandoned: its requests were answered while it waited for space.
	abandoned bool
}

// touch is where a group has brought a stream, and by which request last.
type touch struct {
	request int
	head    eventstore.Revision
}

// undo is how one stream was before a request.
type undo struct {
	stream string
	touch  touch
	was    bool
}

const (
	// inflightGroups wait for their sync while the next is built. More make
	// groups smaller and syncs more frequent.
	inflightGroups = 1
	// groupBytes is where a group ends; one append may be larger.
	groupBytes = 4 << 20
)

// everything is a bound for reads that also see what is not durable yet.
const everything = eventstore.Position(math.MaxUint64)

func newCommitter(s *Store) *committer {
	return &committer{
		s:        s,
		heads:    newHeads(headsLimit),
		inflight: make(chan *group, inflightGroups),
		// One is being built, one being synced, and one answered.
		batches:  make(chan *pebble.Batch, inflightGroups+2),
		touched:  map[string]touch{},
		position: s.durable(),
		recorded: s.lastRecorded,
	}
}

func (c *committer) gather() {
	defer close(c.inflight)
	var pending []*request
	for {
		var closed bool
		pending, closed = c.s.queue.take(pending)
		if len(pending) == 0 {
			if closed {
				return
			}
			<-c.s.queue.wake
			continue
		}
		pending = c.build(pending)
		c.commit()
	}
}

// build decides as many of the requests as a group takes and returns those
// that are left for the next.
func (c *committer) build(pending []*request) (left []*request) {
	c.group = &group{}
	c.bytes = 0
	clear(c.touched)
	if now := c.s.opts.Now().UTC().Truncate(time.Microsecond); now.After(c.recorded) {
		c.recorded = now
	}
	left = pending[:0]
	for i, r := range pending {
		if c.bytes >= groupBytes {
			left = append(left, pending[i:]...)
			break
		}
		if !c.take(r) {
			left = append(left, r)
		}
	}
	clear(pending[len(left):])
	c.endLookups()
	for stream, t := range c.touched {
		c.heads.set(stream, t.head)
	}
	if c.group.batch != nil {
		// Whatever was written left a record in it.
		c.endSegment()
		c.group.last = c.position
	}
	return left
}

// take decides one request. It answers false where that has to wait for the
// next group.
func (c *committer) take(r *request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.withdrawn {
		return true
	}
	c.request++
	c.journal = c.journal[:0]
	err := c.decide(r)
	if err != nil {
		for i := len(c.journal) - 1; i >= 0; i-- {
			c.undo(&c.journal[i])
		}
		if errors.Is(err, errUndecided) {
			return false
		}
	}
	c.group.requests = append(c.group.requests, r)
	c.group.errs = append(c.group.errs, err)
	return true
}

func (c *committer) undo(u *undo) {
	if u.was {
		c.touched[u.stream] = u.touch
	} else {
		delete(c.touched, u.stream)
	}
}

// errUndecided: whether a request repeats another depends on one in the same
// group, which can be read only once that is applied.
var errUndecided = errors.New("undecided")

func (c *committer) decide(r *request) error {
	if cause := c.s.failureCause(); cause != nil {
		return c.s.Failure()
	}
	r.results = r.results[:0]
	position, fresh, size := c.position, 0, 0
	var repeated *eventstore.RevisionConflictError
	for i := range r.appends {
		a := &r.appends[i]
		result, conflict, err := c.place(a, position)
		if err != nil {
			return err
		}
		if result.Repeated {
			if repeated == nil {
				repeated = conflict
			}
		} else {
			fresh++
			position = result.Position
			size += appendBytes(a)
		}
		r.results = append(r.results, result)
	}
	if fresh == 0 {
		return nil
	}
	if repeated != nil {
		return repeated
	}
	if err := c.s.space.admit(int64(size)); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrFull, err)
	}
	for i := range r.appends {
		c.write(&r.appends[i], r.results[i])
	}
	c.bytes += size
	r.taken = true
	return nil
}

// place finds where an append belongs: behind the stream's head, or where the
// same records stand already; then conflict says how it would be refused.
func (c *committer) place(
	a *eventstore.StreamAppend, behind eventstore.Position,
) (result eventstore.Appended, conflict *eventstore.RevisionConflictError, err error) {
	head, err := c.head(a.Stream, a.Expected)
	if err != nil {
		return result, nil, fmt.Errorf("look up stream %s: %w", a.Stream, err)
	}
	n := len(a.Records)
	before, touched := c.touched[a.Stream]
	if a.Expected == eventstore.Any || a.Expected == head {
		result.Revision = head + eventstore.Revision(n)
		result.Position = behind + eventstore.Position(n)
		c.journal = append(c.journal, undo{stream: a.Stream, touch: before, was: touched})
		c.touched[a.Stream] = touch{request: c.request, head: result.Revision}
		return result, nil, nil
	}
	conflict = &eventstore.RevisionConflictError{Stream: a.Stream, Expected: a.Expected, Actual: head}
	switch {
	case touched && before.request != c.request:
		return result, nil, errUndecided
	case touched, head < a.Expected+eventstore.Revision(n):
		return result, nil, conflict
	}
	position, same, err := c.s.holds(a)
	if err != nil {
		return result, nil, fmt.Errorf("compare with stream %s: %w", a.Stream, err)
	}
	if !same {
		return result, nil, conflict
	}
	result.Revision = a.Expected + eventstore.Revision(n)
	result.Position = position
	result.Repeated = true
	return result, conflict, nil
}

func (c *committer) head(stream string, expected eventstore.Revision) (eventstore.Revision, error) {
	if t, ok := c.touched[stream]; ok {
		return t.head, nil
	}
	if head, ok := c.heads.get(stream); ok {
		return head, nil
	}
	head, err := eventstore.NoStream, error(nil)
	known := false
	if expected == eventstore.NoStream {
		known, err = c.isNew(stream)
	}
	if err == nil && !known {
		head, err = c.s.streamHead(stream, everything)
	}
	if err != nil {
		return 0, err
	}
	c.heads.set(stream, head)
	return head, nil
}

// isNew says that a stream has no records. Mostly it has none where that is
// expected, and the tables' filters say so without a read.
func (c *committer) isNew(stream string) (bool, error) {
	if c.lookup == nil {
		it, err := c.s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
		if err != nil {
			return false, classifyRead(err)
		}
		c.lookup = it
	}
	c.key = runKey(c.key[:0], stream, 0)
	if c.lookup.SeekPrefixGE(c.key) {
		return false, nil
	}
	if err := c.lookup.Error(); err != nil {
		return false, classifyRead(err)
	}
	return true, nil
}

func (c *committer) endLookups() {
	if c.lookup == nil {
		return
	}
	if err := c.lookup.Close(); err != nil {
		// What was wrong with a read was told to who asked for it.
		c.s.log.Debug("close iterator", "error", err)
	}
	c.lookup = nil
}

func appendBytes(a *eventstore.StreamAppend) int {
	// What a record and a run take beside what varies.
	const recordBytes, runBytes = 24, 20
	size := len(a.Stream) + runBytes
	for i := range a.Records {
		r := &a.Records[i]
		size += recordBytes + len(r.Type) + len(r.Metadata) + len(r.Data)
	}
	return size
}

// write encodes an append that was placed. It cannot fail any more.
func (c *committer) write(a *eventstore.StreamAppend, result eventstore.Appended) {
	if c.group.batch == nil {
		c.group.batch = c.newBatch()
		c.segment.reset()
	}
	n := len(a.Records)
	first := result.Revision - eventstore.Revision(n) + 1
	begin, segment := c.position+1, c.first
	c.run.begin(begin)
	for i := range a.Records {
		if c.segment.isFull() {
			c.endSegment()
		}
		c.position++
		if c.segment.count == 0 {
			c.first = c.position
			if i == 0 {
				segment = c.position
			} else {
				c.run.cut(c.position)
			}
		}
		c.segment.add(a.Stream, first+eventstore.Revision(i), &a.Records[i])
	}
	c.key = runKey(c.key[:0], a.Stream, first)
	c.value = c.run.appendTo(c.value[:0], begin, segment, uint64(n))
	c.set()
}

func (c *committer) endSegment() {
	c.key = segmentKey(c.key[:0], c.first)
	c.value = c.segment.appendTo(c.value[:0], c.recorded)
	c.set()
	c.segment.reset()
}

func (c *committer) set() {
	if err := c.group.batch.Set(c.key, c.value, nil); err != nil {
		// Only an indexed batch or one that was committed refuses.
		c.s.fail(fmt.Errorf("write to batch: %w", err))
	}
}

// commit writes the group and starts its sync.
func (c *committer) commit() {
	g := c.group
	c.group = nil
	if len(g.requests) == 0 {
		return
	}
	c.mu.Lock()
	c.open = append(c.open, g)
	if c.s.space.stalled.Load() > 0 {
		// stalled may have been before it could see this group.
		g.abandon(errDiskFull)
	}
	c.mu.Unlock()
	if g.batch != nil {
		c.apply(g.batch)
	}
	c.inflight <- g
}

// keptBatch is up to which size the memory of a batch is used again.
const keptBatch = 4 << 20

func (c *committer) newBatch() *pebble.Batch {
	select {
	case batch := <-c.batches:
		return batch
	default:
		return c.s.db.NewBatch(pebble.WithMaxRetainedSizeBytes(keptBatch))
	}
}

// keepBatch takes back a batch that is durable, for newBatch.
func (c *committer) keepBatch(batch *pebble.Batch) {
	batch.Reset()
	select {
	case c.batches <- batch:
	default:
	}
}

// apply puts a batch into Pebble's log and tables. Behind a log that failed
// Pebble panics; then the store fails.
func (c *committer) apply(batch *pebble.Batch) {
	defer func() {
		if r := recover(); r != nil {
			c.s.fail(fmt.Errorf("pebble: %v", r))
		}
	}()
	if c.s.failureCause() != nil {
		return
	}
	if err := c.s.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		c.s.fail(fmt.Errorf("apply batch: %w", err))
	}
}

func (c *committer) finish() {
	for g := range c.inflight {
		c.sync(g)
		c.mu.Lock()
		c.open[0] = nil
		c.open = c.open[1:]
		abandoned := g.abandoned
		c.mu.Unlock()
		if abandoned {
			continue
		}
		failure := error(nil)
		if g.batch != nil {
			failure = c.s.Failure()
		}
		for i, r := range g.requests {
			err := g.errs[i]
			if err == nil {
				err = failure
			}
			r.answer(err)
		}
	}
}

// sync waits until the group is durable and shows it to readers.
func (c *committer) sync(g *group) {
	if g.batch == nil || c.s.failureCause() != nil {
		return
	}
	if err := g.batch.SyncWait(); err != nil {
		c.s.fail(fmt.Errorf("sync log: %w", err))
		return
	}
	c.keepBatch(g.batch)
	c.s.head.Store(uint64(g.last))
	c.s.news.Send()
}

// stalled answers whoever waits while a write waits for space: those whose
// records are in it may or may not see them kept.
func (c *committer) stalled(cause error) {
	c.s.log.Error("the disk is full, writes wait for space", "error", cause)
	c.mu.Lock()
	for _, g := range c.open {
		g.abandon(cause)
	}
	c.mu.Unlock()
	waiting, _ := c.s.queue.take(nil)
	for _, r := range waiting {
		r.answer(fmt.Errorf("%w: %w", eventstore.ErrFull, cause))
	}
}

// abandon answers the requests before the group's outcome is known.
func (g *group) abandon(cause error) {
	if g.abandoned {
		return
	}
	g.abandoned = true
	unknown := fmt.Errorf("%w: %w", eventstore.ErrUnavailable, cause)
	for i, r := range g.requests {
		err := g.errs[i]
		if err == nil {
			err = unknown
		}
		r.answer(err)
	}
}
