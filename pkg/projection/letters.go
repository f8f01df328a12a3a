package projection

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// generation opens the generation that an operator means to look into.
func (h *host) generation(ctx context.Context, ns view.Namespace) (*runner, *control, error) {
	c, err := h.loadControl(ctx)
	if err != nil {
		return nil, nil, err
	}
	g, err := h.find(c, ns, c.serving())
	if err != nil {
		return nil, nil, err
	}
	ns = namespaceOf(g.GetName())
	if h.definitions[ns.Version] == nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrFrozen, ns)
	}
	r, err := h.open(ctx, ns)
	return r, c, err
}

// DeadLetters is Operations's.
func (h *host) DeadLetters(ctx context.Context, ns view.Namespace, q DeadLetterQuery) (DeadLetterPage, error) {
	page, err := h.deadLetters(ctx, ns, q)
	if err != nil {
		return DeadLetterPage{}, fmt.Errorf("list dead letters of %s: %w", h.name, err)
	}
	return page, nil
}

func (h *host) deadLetters(ctx context.Context, ns view.Namespace, q DeadLetterQuery) (DeadLetterPage, error) {
	r, _, err := h.generation(ctx, ns)
	if err != nil {
		return DeadLetterPage{}, err
	}
	query := view.Query{Limit: q.Limit, Cursor: q.Cursor}
	states := q.States
	if len(states) == 0 {
		states = []opsv1.DeadLetterState{opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED}
	}
	if q.CustomerID != "" {
		profiles, err := h.definitions[r.ns.Version].profilesOf(ctx, r.gen, view.Key{Tenant: q.Tenant, ID: q.CustomerID})
		if err != nil {
			return DeadLetterPage{}, err
		}
		query.Index = letterByProfile
		for _, profile := range profiles {
			query.Prefixes = append(query.Prefixes, view.Tuple{view.String(q.Tenant), view.String(profile)})
		}
	} else {
		query.Index = letterByState
		for _, state := range states {
			query.Prefixes = append(query.Prefixes, view.Tuple{view.Int64(int64(state))})
		}
	}
	found, err := r.gen.Query(ctx, deadLettersCollection, query)
	if err != nil {
		return DeadLetterPage{}, err
	}
	page := DeadLetterPage{Next: found.Next}
	for _, e := range found.Entries {
		letter, err := parseLetter(e.Data)
		if err != nil {
			return DeadLetterPage{}, err
		}
		known := slices.ContainsFunc(page.DeadLetters, func(o *opsv1.DeadLetter) bool { return o.GetPosition() == letter.GetPosition() })
		if !known && slices.Contains(states, letter.GetState()) && (q.Tenant == "" || letter.GetTenant() == q.Tenant) {
			page.DeadLetters = append(page.DeadLetters, letter)
		}
	}
	return page, nil
}

// DeadLetter is Operations's.
func (h *host) DeadLetter(ctx context.Context, ns view.Namespace, position eventstore.Position) (DeadLetterDetail, error) {
	d, err := h.deadLetter(ctx, ns, position)
	if err != nil {
		return DeadLetterDetail{}, fmt.Errorf("dead letter %d of %s: %w", position, h.name, err)
	}
	return d, nil
}

func (h *host) deadLetter(ctx context.Context, ns view.Namespace, position eventstore.Position) (d DeadLetterDetail, err error) {
	r, _, err := h.generation(ctx, ns)
	if err != nil {
		return d, err
	}
	if d.DeadLetter, err = knownLetter(ctx, r, position); err != nil {
		return d, err
	}
	if d.Record, err = recordAt(ctx, h.deps.Log, position); err != nil {
		return d, err
	}
	ev := &eventv1.RecordedEvent{}
	if err := decodeSafely(h.deps.Codec, d.Record, ev); err == nil {
		d.Event = ev
	}
	d.Documents, err = h.definitions[r.ns.Version].documentsOf(ctx, r.gen, d.DeadLetter.GetTenant(), d.DeadLetter.GetProfileIds())
	return d, err
}

func knownLetter(ctx context.Context, r *runner, position eventstore.Position) (*opsv1.DeadLetter, error) {
	if position > math.MaxInt64 {
		return nil, ErrUnknownDeadLetter
	}
	letter, err := getLetter(ctx, r.gen, uint64(position))
	if err == nil && letter == nil {
		return nil, fmt.Errorf("%w at position %d of %s", ErrUnknownDeadLetter, position, r.ns)
	}
	return letter, err
}

// Retry is Operations's.
func (h *host) Retry(ctx context.Context, by By, ns view.Namespace, positions ...eventstore.Position) (RetryResult, error) {
	result, err := h.retry(ctx, by, ns, positions)
	if err != nil {
		return RetryResult{}, fmt.Errorf("retry dead letters of %s: %w", h.name, err)
	}
	return result, nil
}

func (h *host) retry(ctx context.Context, by By, ns view.Namespace, positions []eventstore.Position) (result RetryResult, err error) {
	r, c, err := h.generation(ctx, ns)
	if err != nil {
		return result, err
	}
	wanted := make([]uint64, len(positions))
	for i, p := range positions {
		letter, err := knownLetter(ctx, r, p)
		if err != nil {
			return result, err
		}
		if isSettled(letter) {
			return result, fmt.Errorf("%w at position %d: it was skipped", ErrUnknownDeadLetter, p)
		}
		wanted[i] = uint64(p)
	}
	if err := h.requireActive(ctx); err != nil {
		return result, err
	}
	if pause := c.GetPause(); pause != nil {
		return result, fmt.Errorf("%w: resume it first", ErrPaused)
	}
	if err := h.audit(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_RETRY, r.ns, wanted...); err != nil {
		return result, err
	}
	if result.Folded, err = h.drain(ctx, r, wanted); err != nil {
		return result, err
	}
	result.Failed, result.Waiting, err = countLetters(ctx, r)
	return result, err
}

// drain has the active process fold dead letters, and waits for it.
func (h *host) drain(ctx context.Context, r *runner, positions []uint64) (uint64, error) {
	h.mu.RLock()
	here := h.running && h.active
	h.mu.RUnlock()
	if here {
		c, err := h.loadControl(ctx)
		if err != nil {
			return 0, err
		}
		// Right after the start it may still be about to run.
		if r, err = h.folded(ctx, c, r.ns, r.ns); err != nil {
			return 0, err
		}
		d := r.retry(positions)
		select {
		case <-d.done:
			return d.folded, d.err
		case <-ctx.Done():
			return 0, fmt.Errorf("it was asked for and will still be done: %w", ctx.Err())
		}
	}
	var number uint64
	if _, err := h.changeControl(ctx, func(c *control) error {
		c.LastRetry++
		number = c.GetLastRetry()
		c.Retries = append(c.Retries, &opsv1.RetryControl{Number: number, Generation: nameOf(r.ns), Positions: positions})
		return nil
	}); err != nil {
		return 0, err
	}
	var folded uint64
	err := h.await(ctx, func() (bool, error) {
		c, err := h.loadControl(ctx)
		if err != nil {
			return false, err
		}
		for _, done := range c.GetRetryResults() {
			if done.GetNumber() == number {
				if folded = done.GetFolded(); done.GetError() != "" {
					return true, fmt.Errorf("after %d events, in the process that folds: %s", folded, done.GetError())
				}
				return true, nil
			}
		}
		// Long ago, if others were done after it.
		return !slices.ContainsFunc(c.GetRetries(), func(a *opsv1.RetryControl) bool { return a.GetNumber() == number }), nil
	})
	return folded, err
}

// countLetters counts what is left.
func countLetters(ctx context.Context, r *runner) (failed, waiting uint64, err error) {
	r.mu.Lock()
	running, letters := r.running, r.letters
	r.mu.Unlock()
	if running {
		return uint64(letters.failed), uint64(letters.waiting), nil
	}
	p := newParked(r.deps.Now)
	if err := p.load(ctx, r.gen); err != nil {
		return 0, 0, err
	}
	return uint64(len(p.failed)), uint64(p.waiting), nil
}

// Skip is Operations's.
func (h *host) Skip(ctx context.Context, by By, ns view.Namespace, position eventstore.Position) (Skipped, error) {
	skipped, err := h.skip(ctx, by, ns, position)
	if err != nil {
		return Skipped{}, fmt.Errorf("skip dead letter %d of %s: %w", position, h.name, err)
	}
	return skipped, nil
}

func (h *host) skip(ctx context.Context, by By, ns view.Namespace, position eventstore.Position) (skipped Skipped, err error) {
	if by.Reason == "" {
		return skipped, fmt.Errorf("a reason is required: it stands in the log for ever: %w", view.ErrInvalid)
	}
	if h.deps.Audit == nil {
		return skipped, errNoAudit
	}
	r, c, err := h.generation(ctx, ns)
	if err != nil {
		return skipped, err
	}
	letter, err := knownLetter(ctx, r, position)
	if err != nil {
		return skipped, err
	}
	if isSettled(letter) {
		return skipped, fmt.Errorf("%w at position %d: it was skipped already", ErrUnknownDeadLetter, position)
	}
	if err := h.foldedNowhere(ctx, c, position); err != nil {
		return skipped, err
	}
	skipped.Position, skipped.EventID, err = h.deps.Audit.Audit(ctx, by.Actor, &eventv1.Payload{Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{
		Projection: h.name, Position: uint64(position), EventId: letter.GetEventId(), Reason: by.Reason,
	}}})
	if err != nil {
		return skipped, err
	}
	if err := r.waitFor(ctx, skipped.Position); err != nil {
		return skipped, fmt.Errorf("it stands in the log and will be heeded: %w", err)
	}
	skipped.Failed, _, err = countLetters(ctx, r)
	return skipped, err
}

// foldedNowhere fails where a generation that is in use has folded the event.
func (h *host) foldedNowhere(ctx context.Context, c *control, position eventstore.Position) error {
	for _, g := range c.GetGenerations() {
		ns := namespaceOf(g.GetName())
		if g.GetDropped() || g.GetRetired() || g.GetScratch() || h.definitions[ns.Version] == nil {
			continue
		}
		at, err := h.storedPosition(ctx, ns)
		if err != nil {
			return err
		}
		if at < position {
			continue
		}
		r := h.runnerOf(ns)
		if r == nil {
			continue
		}
		letter, err := getLetter(ctx, r.gen, uint64(position))
		if err != nil {
			return err
		}
		if letter == nil {
			return &AlreadyFoldedError{Generation: ns, Position: position}
		}
	}
	return nil
}

// profilesOf are all profiles of the customer that an id leads to; the id alone where there is none.
func (def *Customers[D]) profilesOf(ctx context.Context, r view.Reader, key view.Key) ([]string, error) {
	c, err := customerOf(ctx, r, def.Documents.Name, key)
	if errors.Is(err, view.ErrNotFound) {
		return []string{key.ID}, nil
	}
	return c.Profiles, err
}

// documentsOf are the documents of the customers that ids lead to, each once.
func (def *Customers[D]) documentsOf(ctx context.Context, r view.Reader, tenant string, ids []string) ([]proto.Message, error) {
	var all []proto.Message
	seen := map[string]bool{}
	for _, id := range ids {
		c, err := customerOf(ctx, r, def.Documents.Name, view.Key{Tenant: tenant, ID: id})
		if errors.Is(err, view.ErrNotFound) || err == nil && seen[c.ID] {
			continue
		}
		if err != nil {
			return nil, err
		}
		seen[c.ID] = true
		doc, err := view.GetDocument(ctx, r, def.Documents.Name, view.Key{Tenant: tenant, ID: c.ID}, def.New())
		if err != nil {
			return nil, err
		}
		all = append(all, doc)
	}
	return all, nil
}
