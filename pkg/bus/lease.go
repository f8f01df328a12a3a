package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Lease is the right to do what only one of many processes may do at a time. It
// is a key of NATS's key-value store that its holder rewrites again and again.
//
// A lease says who should work, not who may write: a holder that was paused
// finds out late that it holds nothing any more. What must not be written twice
// needs a fence of its own, such as the log's expected revisions.
//
// Nobody's clock is compared with another's: a waiter takes the lease once it
// has seen the key unchanged for LeaseTTL of its own time.
type Lease struct {
	bus  *Bus
	name string
	id   string
}

const (
	// LeaseTTL is how long a holder may be silent. It bounds how long nobody
	// works after a holder has died.
	LeaseTTL = 3 * time.Second
	// leaseRenewal leaves room for two renewals that fail.
	leaseRenewal = LeaseTTL / 4
	leasePoll    = LeaseTTL / 12

	leaseBucket = "PARLEY_LEASES"
)

// Lease makes a lease by its name: letters, digits, hyphens.
func (b *Bus) Lease(name string) *Lease { return &Lease{bus: b, name: name, id: nuid.Next()} }

// Held is a lease that is held.
type Held struct {
	lost    chan struct{}
	release func()
}

// Lost is closed once the lease is somebody else's, or may be.
func (h *Held) Lost() <-chan struct{} { return h.lost }

// Release gives the lease back, so that the next one need not wait. A second
// call does nothing.
func (h *Held) Release() { h.release() }

// Acquire waits until the lease is held, or ctx ends: then it returns ctx's
// error. It goes on through every failure of NATS.
func (l *Lease) Acquire(ctx context.Context) (*Held, error) {
	if !l.bus.begin() {
		return nil, errClosed
	}
	defer l.bus.calls.Done()
	w := leaseWait{lease: l}
	for {
		revision, err := w.try(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !w.silent:
			w.silent = true
			l.bus.logger.Warn("a lease cannot be asked for", "lease", l.name, "error", err)
		case err == nil && revision > 0:
			l.bus.logger.Info("lease taken", "lease", l.name)
			return l.hold(context.WithoutCancel(ctx), w.kv, revision), nil
		case err == nil:
			w.silent = false
		}
		timer := time.NewTimer(leasePoll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("wait for the lease %s: %w", l.name, ctx.Err())
		case <-l.bus.closing:
			timer.Stop()
			return nil, errClosed
		case <-timer.C:
		}
	}
}

// leaseWait is what a waiter has seen.
type leaseWait struct {
	lease    *Lease
	kv       jetstream.KeyValue
	revision uint64    // last seen
	since    time.Time // when it was first seen
	silent   bool      // a failure was told already
}

// try takes the lease if it can be taken, and gives its revision; 0 where it is
// somebody's.
func (w *leaseWait) try(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if w.kv == nil {
		kv, err := w.lease.bus.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: leaseBucket, Description: "Which of Parley's processes does what only one may do",
			History: 1, Replicas: w.lease.bus.cfg.Replicas, Storage: jetstream.FileStorage,
		})
		if err != nil {
			return 0, fmt.Errorf("open %s: %w", leaseBucket, classify(ctx, err))
		}
		w.kv = kv
	}
	entry, err := w.kv.Get(ctx, w.lease.name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		revision, err := w.kv.Create(ctx, w.lease.name, []byte(w.lease.id))
		return w.taken(ctx, revision, err)
	case err != nil:
		return 0, fmt.Errorf("read the lease: %w", classify(ctx, err))
	case entry.Revision() != w.revision:
		w.revision, w.since = entry.Revision(), time.Now()
		return 0, nil
	case time.Since(w.since) < LeaseTTL:
		return 0, nil
	}
	revision, err := w.kv.Update(ctx, w.lease.name, []byte(w.lease.id), w.revision)
	return w.taken(ctx, revision, err)
}

// taken is the outcome of an attempt; that another was faster is none.
func (w *leaseWait) taken(ctx context.Context, revision uint64, err error) (uint64, error) {
	if isLeaseConflict(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("take the lease: %w", classify(ctx, err))
	}
	return revision, nil
}

func isLeaseConflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// hold renews until the lease is lost or given back.
func (l *Lease) hold(ctx context.Context, kv jetstream.KeyValue, revision uint64) *Held {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	h := &Held{lost: make(chan struct{})}
	var once sync.Once
	h.release = func() {
		once.Do(func() {
			stop()
			<-done
		})
	}
	// Counted by the one that called Acquire, which begins before Close can end.
	l.bus.calls.Go(func() {
		defer close(done)
		defer close(h.lost)
		l.renew(ctx, kv, revision)
	})
	return h
}

func (l *Lease) renew(ctx context.Context, kv jetstream.KeyValue, revision uint64) {
	renewed := time.Now()
	ticker := time.NewTicker(leaseRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.giveBack(context.WithoutCancel(ctx), kv, revision)
			return
		case <-l.bus.closing:
			l.giveBack(context.WithoutCancel(ctx), kv, revision)
			return
		case <-ticker.C:
		}
		asked := time.Now()
		next, err := l.rewrite(ctx, kv, revision)
		switch {
		case err == nil:
			revision, renewed = next, asked
		case isLeaseConflict(err):
			l.bus.logger.Warn("lease lost: somebody else has taken it", "lease", l.name)
			return
		case time.Since(renewed) >= LeaseTTL:
			l.bus.logger.Warn("lease lost: it could not be renewed in time", "lease", l.name, "error", err)
			return
		}
	}
}

// rewrite renews once.
func (l *Lease) rewrite(ctx context.Context, kv jetstream.KeyValue, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	next, err := kv.Update(ctx, l.name, []byte(l.id), revision)
	if !isLeaseConflict(err) {
		return next, err
	}
	// It may have been ourselves: a renewal is done although its answer came too late.
	entry, lookErr := kv.Get(ctx, l.name)
	switch {
	case errors.Is(lookErr, jetstream.ErrKeyNotFound):
		return 0, err
	case lookErr != nil:
		return 0, lookErr
	case string(entry.Value()) != l.id:
		return 0, err
	}
	return kv.Update(ctx, l.name, []byte(l.id), entry.Revision())
}

// giveBack lets the next one in at once. Should it fail, he waits for a while.
func (l *Lease) giveBack(ctx context.Context, kv jetstream.KeyValue, revision uint64) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	if err := kv.Delete(ctx, l.name, jetstream.LastRevision(revision)); err != nil {
		l.bus.logger.Info("the lease could not be given back; the next one waits for it", "lease", l.name, "error", err)
	}
}
