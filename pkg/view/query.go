package view

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"unicode/utf8"
)

// Validate checks a query against the index that it names, for drivers. The
// error wraps ErrInvalid.
func (q *Query) Validate(index *Index) error {
	switch {
	case q.Limit < 1 || q.Limit > MaxLimit:
		return fmt.Errorf("limit %d, want 1 to %d: %w", q.Limit, MaxLimit, ErrInvalid)
	case len(q.Prefixes) > MaxPrefixes:
		return fmt.Errorf("%d prefixes, at most %d: %w", len(q.Prefixes), MaxPrefixes, ErrInvalid)
	}
	columns := 0
	for i, prefix := range q.Prefixes {
		if i > 0 && len(prefix) != columns {
			return fmt.Errorf("prefixes of %d and %d columns: %w", columns, len(prefix), ErrInvalid)
		}
		columns = len(prefix)
		if !prefix.matches(index.Columns) {
			return fmt.Errorf("prefix %d is not of the index's columns: %w", i, ErrInvalid)
		}
	}
	for _, bound := range []Value{q.From, q.To} {
		if !bound.IsZero() && (columns >= len(index.Columns) || bound.kind != index.Columns[columns]) {
			return fmt.Errorf("bound is not of the type of the column behind the prefix: %w", ErrInvalid)
		}
	}
	return nil
}

// Fingerprint tells queries apart in all that a cursor must not change: everything
// but the limit and the cursor itself.
func (q *Query) Fingerprint() uint64 {
	h := fnv.New64a()
	b := AppendString(nil, q.Tenant)
	b = AppendString(b, q.Index)
	if q.Reverse {
		b = append(b, 1)
	}
	for _, bound := range []Value{q.From, q.To} {
		b = append(b, byte(bound.kind))
		if !bound.IsZero() {
			b = AppendValue(b, bound)
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(q.Prefixes)))
	for _, prefix := range q.Prefixes {
		b = AppendTuple(append(b, byte(len(prefix))), prefix)
	}
	_, _ = h.Write(b) // never fails
	return h.Sum64()
}

// Validate checks a search, for drivers. The error wraps ErrInvalid.
func (s *Search) Validate() error {
	switch {
	case s.Limit < 1 || s.Limit > MaxLimit:
		return fmt.Errorf("limit %d, want 1 to %d: %w", s.Limit, MaxLimit, ErrInvalid)
	case len(s.Text) > MaxSearchBytes:
		return fmt.Errorf("text of %d bytes, at most %d: %w", len(s.Text), MaxSearchBytes, ErrInvalid)
	case !utf8.ValidString(s.Text):
		return fmt.Errorf("text is not UTF-8: %w", ErrInvalid)
	}
	return nil
}
