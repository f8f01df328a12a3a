package pebbleview

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/view"
)

// Control is view.Store's.
func (s *Store) Control(ctx context.Context, projection string) (view.Control, error) {
	if err := s.enterControl(ctx, projection); err != nil {
		return view.Control{}, fmt.Errorf("control record of %s: %w", projection, err)
	}
	defer s.guard.Leave()
	c, err := s.control(projection)
	if err != nil {
		return view.Control{}, fmt.Errorf("control record of %s: %w", projection, err)
	}
	return c, nil
}

// SaveControl is view.Store's.
func (s *Store) SaveControl(ctx context.Context, projection string, c view.Control) (uint64, error) {
	if err := c.Validate(); err != nil {
		return 0, fmt.Errorf("save control record of %s: %w", projection, err)
	}
	if err := s.enterControl(ctx, projection); err != nil {
		return 0, fmt.Errorf("save control record of %s: %w", projection, err)
	}
	defer s.guard.Leave()
	err := s.replaceControl(ctx, projection, c)
	if err == nil {
		s.wake.Alarm(projection)
		err = s.flush(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("save control record of %s: %w", projection, err)
	}
	return c.Revision + 1, nil
}

// Wake is view.Store's.
func (s *Store) Wake(projection string) (<-chan struct{}, func()) { return s.wake.Follow(projection) }

// Shared is view.Store's: one process has a folder open at a time.
func (s *Store) Shared() bool { return false }

// enterControl begins a call; guard.Leave ends it.
func (s *Store) enterControl(ctx context.Context, projection string) error {
	if err := (view.Namespace{Projection: projection}).Validate(); err != nil {
		return err
	}
	return s.guard.Enter(ctx)
}

func controlKey(projection string) []byte { return append([]byte{kindControl}, projection...) }

func (s *Store) control(projection string) (view.Control, error) {
	value, closer, err := s.db.Get(controlKey(projection))
	if errors.Is(err, pebble.ErrNotFound) {
		return view.Control{}, nil
	}
	if err != nil {
		return view.Control{}, fmt.Errorf("read: %w", err)
	}
	c, err := parseControl(value)
	c.Data = slices.Clone(c.Data)
	return c, errors.Join(err, closer.Close())
}

// replaceControl is the compare and swap. What it writes survives a crash once
// it is flushed.
func (s *Store) replaceControl(ctx context.Context, projection string, c view.Control) error {
	s.controlMu.Lock()
	defer s.controlMu.Unlock()
	stored, err := s.control(projection)
	if err != nil {
		return err
	}
	if stored.Revision != c.Revision {
		return fmt.Errorf("revision %d, stored is %d: %w", c.Revision, stored.Revision, view.ErrConflict)
	}
	c.Revision++
	batch := s.db.NewBatch()
	err = batch.Set(controlKey(projection), appendControl(nil, c), nil)
	return errors.Join(err, s.apply(ctx, batch), batch.Close())
}

// A control record is its revision and its data.
func appendControl(dst []byte, c view.Control) []byte {
	return append(binary.BigEndian.AppendUint64(dst, c.Revision), c.Data...)
}

// parseControl shares b's memory.
func parseControl(b []byte) (view.Control, error) {
	if len(b) < 8 {
		return view.Control{}, fmt.Errorf("control record of %d bytes: %w", len(b), view.ErrCorrupt)
	}
	return view.Control{Revision: binary.BigEndian.Uint64(b), Data: b[8:]}, nil
}
