package logcopy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logid"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

// Copy copies one log into another. It fails with *ForeignError where the
// target holds something else, with posmap.ErrTwoWriters where somebody else
// copies into it, with ErrUnfinished where the context ends, and as the stores
// do. Both stores stay the caller's.
func Copy(ctx context.Context, from, to eventstore.Store, opts Options) (Result, error) {
	if from.LogID() == to.LogID() {
		return Result{}, fmt.Errorf("copy log %s: %w", from.LogID(), ErrSameLog)
	}
	c := &copier{from: from, to: to, opts: opts.withDefaults()}
	var err error
	if c.head, err = from.Head(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrUnfinished, err)
		}
		return c.result, c.failed(err)
	}
	work, end := withGrace(ctx, c.opts.Grace)
	defer end()
	var since time.Time // it was unavailable
	var done uint64     // when that began
	wait := firstRetry
	for {
		err := c.run(work, ctx)
		if err == nil || !errors.Is(err, eventstore.ErrUnavailable) || ctx.Err() != nil {
			return c.result, c.failed(err)
		}
		if now := c.result.Copied; since.IsZero() || now > done {
			since, done, wait = time.Now(), now, firstRetry
		}
		if time.Since(since)+wait > c.opts.Patience {
			return c.result, c.failed(err)
		}
		if c.opts.Retrying != nil {
			c.opts.Retrying(err, wait)
		}
		pause(ctx, wait)
		wait = min(2*wait, lastRetry)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// withGrace is a context that ends a while after another one did.
func withGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		pause(work, grace)
		cancel()
	})
	return work, func() {
		stop()
		cancel()
	}
}

// copier is one Copy.
type copier struct {
	from, to eventstore.Store
	opts     Options
	head     eventstore.Position // of the source, to come to
	result   Result
	// recognised says that it is known what the target held at first.
	recognised bool

	// Of one run.
	source, target *reader
	positions      *posmap.Writer
	// unseen was appended and not read back.
	unseen      []*eventstore.Record
	unseenBytes int
	// acknowledged is the position of the last record appended.
	acknowledged eventstore.Position
}

func (c *copier) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("copy log %s into log %s: %w", c.from.LogID(), c.to.LogID(), err)
}

// run continues the copy from whatever the target holds. It works until
// stopping ends, and then leaves the target in order, for which it has work.
func (c *copier) run(work, stopping context.Context) (err error) {
	if err := c.open(work); err != nil {
		return err
	}
	defer func() {
		c.result.Origin = c.positions.Origin()
		if c.recognised {
			c.result.Copied = c.positions.Records() - c.result.Found
		}
		err = errors.Join(err, c.source.close(), c.target.close())
	}()
	if err := c.recognise(work, stopping); err != nil {
		return c.unfinished(work, stopping, err)
	}
	if err := c.copy(work, stopping); err != nil {
		return c.unfinished(work, stopping, err)
	}
	if err := c.see(work); err != nil {
		return err
	}
	return c.positions.Complete(work)
}

func (c *copier) open(ctx context.Context) (err error) {
	if c.positions, err = posmap.OpenWriter(ctx, c.to, c.from.LogID()); err != nil {
		if other, ok := errors.AsType[*posmap.OtherSourceError](err); ok {
			return &ForeignError{Reason: other.Error(), cause: err}
		}
		return err
	}
	c.unseen, c.unseenBytes, c.acknowledged = nil, 0, 0
	origin := c.positions.Origin()
	if c.source, err = newReader(ctx, c.from, origin.Old, c.opts.BatchRecords, logid.Stream); err != nil {
		if errors.Is(err, eventstore.ErrAhead) {
			return &ForeignError{Position: origin.New, Reason: fmt.Sprintf(
				"it has records up to position %d of the source, which ends before: the source was restored from a backup, or is another one", origin.Old), cause: err}
		}
		return err
	}
	if c.target, err = newReader(ctx, c.to, origin.New, c.opts.BatchRecords, logid.Stream, c.positions.Stream()); err != nil {
		return errors.Join(err, c.source.close())
	}
	return nil
}

// recognise compares what the target holds behind its map with the source, and
// maps it.
func (c *copier) recognise(work, stopping context.Context) error {
	head, err := c.to.Head(work)
	if err != nil {
		return err
	}
	for c.target.left() > 0 || c.target.position < head {
		if err := stopping.Err(); err != nil {
			return err
		}
		got, err := c.target.next(work)
		if err != nil {
			return err
		}
		if got == nil {
			continue
		}
		want, err := c.source.nextOrEnd(work)
		if err != nil {
			return err
		}
		if err := c.agree(want, got); err != nil {
			return err
		}
		if err := c.mapped(work, want, got); err != nil {
			return err
		}
		c.progress(want.Position)
	}
	if !c.recognised {
		c.recognised, c.result.Found = true, c.positions.Records()
	}
	return nil
}

// agree fails where a record of the target is not the one of the source.
func (c *copier) agree(want, got *eventstore.Record) error {
	switch field := ""; {
	case !c.positions.Exists():
		return &ForeignError{Position: got.Position, Reason: "it is not empty: there is a record of stream " + short(got.Stream)}
	case want == nil:
		return &ForeignError{Position: got.Position, Reason: fmt.Sprintf("behind everything that the source has there is revision %d of stream %s: it is in use already", got.Revision, short(got.Stream))}
	case !same(want, got, &field):
		return &ForeignError{Position: got.Position, Reason: fmt.Sprintf(
			"revision %d of stream %s is not what the source has at position %d, which is revision %d of stream %s: another %s",
			got.Revision, short(got.Stream), want.Position, want.Revision, short(want.Stream), field)}
	default:
		return nil
	}
}

func (c *copier) mapped(ctx context.Context, want, got *eventstore.Record) error {
	if err := c.positions.Add(want.Position, got.Position); err != nil {
		return err
	}
	if c.positions.Pending() >= c.opts.MapRecords {
		return c.positions.Flush(ctx)
	}
	return nil
}

// copy appends what the source has behind what the target holds.
func (c *copier) copy(work, stopping context.Context) error {
	following := c.opts.Follow
	for {
		if following && stopping.Err() != nil {
			following = false
			// Up to where the source is now, so that nothing is missing.
			head, err := c.from.Head(work)
			if err != nil {
				return err
			}
			c.head = max(c.head, head)
		}
		if !following && c.source.position >= c.head && c.source.left() == 0 {
			return nil
		}
		records, err := c.fetch(work, stopping, following)
		if err != nil {
			return err
		}
		if following {
			c.head = max(c.head, c.source.position)
		}
		if err := c.put(work, stopping, upTo(records, c.head)); err != nil {
			return err
		}
		if c.source.caughtUp || len(c.unseen) >= mostUnseen || c.unseenBytes >= mostUnseenBytes {
			if err := c.see(work); err != nil {
				return err
			}
		}
		c.progress(min(c.source.position, c.head))
	}
}

// fetch reads some records of the source. While it follows, the end of stopping
// ends the waiting, with nothing.
func (c *copier) fetch(work, stopping context.Context, following bool) ([]*eventstore.Record, error) {
	if c.source.left() > 0 {
		return c.source.rest(), nil
	}
	ctx := work
	if following {
		ctx = stopping
	}
	err := c.source.fetch(ctx)
	if following && stopping.Err() != nil && errors.Is(err, stopping.Err()) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.source.rest(), nil
}

func upTo(records []*eventstore.Record, position eventstore.Position) []*eventstore.Record {
	for i, r := range records {
		if r.Position > position {
			return records[:i]
		}
	}
	return records
}

// put appends records to the target.
func (c *copier) put(work, stopping context.Context, records []*eventstore.Record) error {
	if len(records) == 0 {
		return nil
	}
	for _, r := range records {
		if r.Stream == c.positions.Stream() {
			return fmt.Errorf("the source has stream %s, which is where the target's map belongs: %w", r.Stream, eventstore.ErrInvalid)
		}
	}
	if err := c.positions.Open(work); err != nil {
		return err
	}
	for len(records) > 0 {
		// Who follows goes on to the end, for as long as work does.
		if err := stopping.Err(); err != nil && !c.opts.Follow {
			return err
		}
		n, err := c.append(work, records)
		if err != nil {
			return err
		}
		for _, r := range records[:n] {
			c.unseenBytes += len(r.Data) + len(r.Metadata)
		}
		c.unseen = append(c.unseen, records[:n]...)
		c.progress(records[n-1].Position)
		records = records[n:]
	}
	return nil
}

// append appends some of the records, all at once, and says how many.
func (c *copier) append(ctx context.Context, records []*eventstore.Record) (int, error) {
	if c.to.Capabilities().BatchAppend.Supported {
		n := fits(records, c.opts.BatchRecords, c.opts.BatchBytes, false)
		appended, err := c.to.AppendBatch(ctx, parts(records[:n]))
		if err != nil {
			return 0, c.conflict(err)
		}
		c.acknowledged = appended[len(appended)-1].Position
		return n, nil
	}
	n := fits(records, partRecords, partBytes, true)
	p := parts(records[:n])[0]
	appended, err := c.to.Append(ctx, p.Stream, p.Expected, p.Records...)
	if err != nil {
		return 0, c.conflict(err)
	}
	c.acknowledged = appended.Position
	return n, nil
}

// conflict explains a refusal: the target was compared with the source, so that
// somebody must have written to it since.
func (c *copier) conflict(err error) error {
	if _, ok := errors.AsType[*eventstore.RevisionConflictError](err); ok {
		return &ForeignError{Reason: "somebody else appends to it: " + err.Error(), cause: err}
	}
	return err
}

// see reads back what was appended, compares it and maps it.
func (c *copier) see(ctx context.Context) error {
	for len(c.unseen) > 0 {
		got, err := c.target.next(ctx)
		if err != nil {
			return err
		}
		if got == nil {
			if c.target.position >= c.acknowledged {
				return fmt.Errorf("read back what was appended up to position %d: revision %d of stream %s is missing: %w",
					c.acknowledged, c.unseen[0].Revision, short(c.unseen[0].Stream), eventstore.ErrCorrupt)
			}
			continue
		}
		want := c.unseen[0]
		if err := c.agree(want, got); err != nil {
			return err
		}
		if err := c.mapped(ctx, want, got); err != nil {
			return err
		}
		c.unseenBytes -= len(want.Data) + len(want.Metadata)
		c.unseen[0] = nil
		c.unseen = c.unseen[1:]
	}
	c.unseen = nil
	return nil
}

// unfinished maps what is there, so that the next run need not, where the copy
// was told to end.
func (c *copier) unfinished(work, stopping context.Context, err error) error {
	if stopping.Err() == nil {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", ErrUnfinished, err)
	}
	if seeErr := c.see(work); seeErr != nil {
		return err // the next run maps it
	}
	return errors.Join(err, c.positions.Flush(work))
}

func (c *copier) progress(position eventstore.Position) {
	if c.opts.Progress == nil {
		return
	}
	c.opts.Progress(Progress{
		Position: position, Head: max(c.head, position), Records: c.positions.Records() + uint64(len(c.unseen)),
		CaughtUp: c.opts.Follow && c.source.caughtUp,
	})
}
