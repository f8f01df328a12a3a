package pgview

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// listener hears of commits and control changes of other processes, by one
// connection of its own, once somebody follows a projection.
type listener struct {
	store  *Store
	config *pgx.ConnConfig

	mu     sync.Mutex
	cancel context.CancelFunc
	closed bool
	done   sync.WaitGroup
}

func newListener(s *Store, config *pgx.ConnConfig) *listener {
	return &listener{store: s, config: config.Copy()}
}

// Wake is view.Store's. Where the server cannot be listened to, as through
// PgBouncer in transaction mode, only this process's own changes wake.
func (s *Store) Wake(projection string) (<-chan struct{}, func()) {
	s.listener.start()
	return s.wake.Follow(projection)
}

func (l *listener) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.done.Go(func() { l.run(ctx) })
}

func (l *listener) close() {
	l.mu.Lock()
	l.closed = true
	if l.cancel != nil {
		l.cancel()
	}
	l.mu.Unlock()
	l.done.Wait()
}

// How long to wait before connecting again.
const (
	minRedial = 50 * time.Millisecond
	maxRedial = 5 * time.Second
)

// run listens until ctx ends.
func (l *listener) run(ctx context.Context) {
	delay := minRedial
	for ctx.Err() == nil {
		begin := time.Now()
		err := l.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > maxRedial {
			delay = minRedial
		}
		l.store.log.Warn("cannot hear of other processes' commits, trying again", "error", classify(ctx, err), "delay", delay)
		timer := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, maxRedial)
	}
}

// keepalive is after how long without news the connection is tried out.
const keepalive = time.Minute

func (l *listener) listen(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, l.config)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // it is given up
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+quote(l.store.channel()), pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	// Whatever was said before is missed.
	l.store.wake.AlarmAll()
	for {
		waiting, cancel := context.WithTimeout(ctx, keepalive)
		n, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil:
			l.store.wake.Alarm(n.Payload)
		case ctx.Err() != nil || conn.IsClosed():
			return err
		default: // nothing for a while
			if err := conn.Ping(ctx); err != nil {
				return err
			}
		}
	}
}
