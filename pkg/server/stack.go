package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Stack closes what a start opened, the newest first. A start pushes each part
// as soon as it stands; where a later part fails, Close unwinds those before
// it. The zero value is ready. Safe for concurrent use.
type Stack struct {
	// Logger gets one line for each part that closes, at debug. Defaults to none.
	Logger *slog.Logger

	mu      sync.Mutex
	closers []closer
	closed  bool
}

type closer struct {
	name  string
	close func(context.Context) error
}

// Push adds a part. Close calls its function once, with the context that Close
// was given: a bound on how long to wait, not a reason to leave things open.
func (s *Stack) Push(name string, stop func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, closer{name: name, close: stop})
}

// Close closes every part, the newest first, also when some fail; the error
// names those. A second call does nothing.
func (s *Stack) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	closers := s.closers
	s.closers = nil
	s.mu.Unlock()

	var errs []error
	for i := len(closers) - 1; i >= 0; i-- {
		began := time.Now()
		err := closers[i].close(ctx)
		if s.Logger != nil {
			s.Logger.Debug("closed", "part", closers[i].name, "took", time.Since(began), "error", err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", closers[i].name, err))
		}
	}
	return errors.Join(errs...)
}
