package match

import (
	"context"
	"errors"
	"fmt"
)

// Bytes that a record, a key and an entry take beside the packed values,
// with what slices and the allocator have to spare.
const (
	recordOverhead = 48
	keyBytes       = 10
	entryBytes     = 20
)

// load keeps the records in memory if they fit.
func (s *search) load(ctx context.Context) error {
	var bytes int64
	var buf []byte
	s.memory = []packed{}
	err := s.read(ctx, func(f *features) error {
		s.progress.Records++
		if s.memory == nil {
			return nil
		}
		buf = f.pack(buf[:0])
		if bytes += int64(len(buf)) + recordOverhead; bytes > s.options.MemoryBytes/2 {
			// The other half is for keys.
			s.memory = nil
			return nil
		}
		s.memory = append(s.memory, packed(buf))
		return nil
	})
	s.complete = s.memory != nil
	return err
}

// read reads the source. Between two records it looks at the context.
func (s *search) read(ctx context.Context, visit func(f *features) error) error {
	s.progress.Reads++
	s.report()
	var f features
	for r, err := range s.source(ctx) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		f.read(r)
		if err := visit(&f); err != nil {
			return err
		}
	}
	return nil
}

// each visits all records; p is empty where they are not in memory.
func (s *search) each(ctx context.Context, visit func(f *features, p packed) error) error {
	if !s.complete {
		return s.read(ctx, func(f *features) error { return visit(f, "") })
	}
	var f features
	const checkEvery = 1 << 12
	for i, p := range s.memory {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		f.unpack(p)
		if err := visit(&f, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *search) report() {
	if s.options.Progress != nil {
		s.options.Progress(s.progress)
	}
}

// errShareTooLarge: to be halved.
var errShareTooLarge = errors.New("a share needs too much memory")

// findLarge adds to set the keys of a share that too many records have.
func (s *search) findLarge(ctx context.Context, part share, set map[Key]struct{}, keysOf func(*features, []Key) []Key) error {
	var keys, own []Key
	most := int(s.options.MemoryBytes / 2 / keyBytes)
	err := s.each(ctx, func(f *features, _ packed) error {
		own = keysOf(f, own[:0])
		for _, k := range own {
			if part.has(k) {
				keys = append(keys, k)
			}
		}
		if len(keys) > most {
			return errShareTooLarge
		}
		return nil
	})
	switch {
	case err == nil:
		s.keys = max(s.keys, len(keys))
		addLarge(set, keys, s.options.MaxBlock)
		return nil
	case !errors.Is(err, errShareTooLarge):
		return err
	case part.bits == mostBits:
		return &MemoryError{Bytes: s.options.MemoryBytes}
	}
	keys = nil
	for _, half := range part.divide(1) {
		if err := s.findLarge(ctx, half, set, keysOf); err != nil {
			return err
		}
	}
	return nil
}
