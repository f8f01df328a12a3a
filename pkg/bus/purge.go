package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// purger keeps the stream short: it purges up to the floor purgeInterval after
// something was handled, or as soon as much was. While nothing happens it
// sleeps.
type purger struct {
	bus   *Bus
	limit int // bytes

	mu      sync.Mutex
	floor   uint64
	created time.Time // the stream that floor is of
	purged  uint64
	bytes   int // handled and not yet purged

	some chan struct{} // cap 1: there is something to purge
	much chan struct{} // cap 1: and a lot of it
}

const (
	purgeInterval = time.Second
	// A purge writes the stream's index anew and sets free whole blocks of
	// 8 MiB, so it is cheap for what it covers at some blocks at a time.
	purgeBytes = 64 << 20
	// A failed purge is tried again after this.
	purgeRetry = 5 * time.Second
)

func newPurger(b *Bus) *purger {
	return &purger{
		bus: b, limit: int(min(purgeBytes, b.cfg.MaxIngressBytes/8)),
		some: make(chan struct{}, 1), much: make(chan struct{}, 1),
	}
}

// handled tells that everything up to floor was, in the stream made at created.
func (p *purger) handled(floor uint64, created time.Time, bytes int) {
	p.mu.Lock()
	p.floor, p.created = floor, created
	p.bytes += bytes
	much := p.bytes >= p.limit
	p.mu.Unlock()
	wake(p.some)
	if much {
		wake(p.much)
	}
}

func (p *purger) run(ctx context.Context) {
	wait := purgeInterval
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.some:
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-p.much:
		case <-timer.C:
		}
		timer.Stop()
		wait = purgeInterval
		if err := p.purge(ctx); err != nil && ctx.Err() == nil {
			p.bus.logger.Warn("ingress stream could not be purged and grows", "error", err)
			wait = purgeRetry
			wake(p.some)
		}
	}
}

// finish purges once more at the end; what is left then is purged by whoever
// consumes next.
func (p *purger) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := p.purge(ctx); err != nil {
		p.bus.logger.Debug("ingress stream was not purged at the end", "error", err)
	}
}

func (p *purger) purge(ctx context.Context) error {
	p.mu.Lock()
	floor, created, bytes := p.floor, p.created, p.bytes
	idle := floor == p.purged
	p.mu.Unlock()
	if idle || p.bus.nc.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := p.bus.js.Stream(ctx, StreamName)
	if err != nil {
		return err
	}
	// A floor beyond the stream's end would purge all of it, unhandled messages
	// too, so a stream that was made anew is left alone.
	if info := stream.CachedInfo(); info.Created.Equal(created) && info.State.LastSeq >= floor {
		if err := stream.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
			return err
		}
	}
	p.bus.metrics.purges.Inc()
	p.mu.Lock()
	p.purged = floor
	p.bytes -= bytes
	p.mu.Unlock()
	return nil
}
