package pebbleview

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/view"
)

// blockBits is how many bits of a document's number count within a block.
const (
	blockBits = 12
	blockSize = 1 << blockBits
	blockMask = blockSize - 1
)

// numberSet is a set of numbers below blockSize.
type numberSet [blockSize / 64]uint64

func (s *numberSet) add(n uint16)      { s[n>>6] |= 1 << (n & 63) }
func (s *numberSet) remove(n uint16)   { s[n>>6] &^= 1 << (n & 63) }
func (s *numberSet) has(n uint16) bool { return s[n>>6]&(1<<(n&63)) != 0 }

func (s *numberSet) len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// intersect keeps what o has as well, and says whether anything is left.
func (s *numberSet) intersect(o *numberSet) bool {
	var left uint64
	for i := range s {
		s[i] &= o[i]
		left |= s[i]
	}
	return left != 0
}

// posting is a set of numbers being put together: what is known to be in it,
// and what is known to be not.
type posting struct {
	in, out numberSet
}

// The forms in which a posting is stored. Numbers are 2 bytes, little endian.
const (
	formList   = 1 // numbers that are in
	formBitmap = 2 // a bit for each number that is in
	formChange = 3 // how many are in, 2 bytes, numbers that are in, numbers that are not
)

func (p *posting) append(dst []byte) []byte {
	in, out := p.in.len(), p.out.len()
	switch {
	case out > 0:
		dst = append(dst, formChange)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(in))
		return appendNumbers(appendNumbers(dst, &p.in), &p.out)
	case in*2 < blockSize/8:
		return appendNumbers(append(dst, formList), &p.in)
	default:
		dst = append(dst, formBitmap)
		for _, w := range p.in {
			dst = binary.LittleEndian.AppendUint64(dst, w)
		}
		return dst
	}
}

func appendNumbers(dst []byte, s *numberSet) []byte {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(i<<6|bits.TrailingZeros64(w)))
		}
	}
	return dst
}

// parse sets p to what is stored.
func (p *posting) parse(b []byte) error {
	*p = posting{}
	if len(b) == 0 {
		return fmt.Errorf("posting: empty: %w", view.ErrCorrupt)
	}
	form, b := b[0], b[1:]
	switch form {
	case formList:
		return parseNumbers(&p.in, b)
	case formBitmap:
		if len(b) != blockSize/8 {
			return fmt.Errorf("posting: bitmap of %d bytes: %w", len(b), view.ErrCorrupt)
		}
		for i := range p.in {
			p.in[i] = binary.LittleEndian.Uint64(b[8*i:])
		}
		return nil
	case formChange:
		if len(b) < 2 || len(b)-2 < 2*int(binary.LittleEndian.Uint16(b)) {
			return fmt.Errorf("posting: change of %d bytes: %w", len(b), view.ErrCorrupt)
		}
		in := 2 + 2*int(binary.LittleEndian.Uint16(b))
		if err := parseNumbers(&p.in, b[2:in]); err != nil {
			return err
		}
		return parseNumbers(&p.out, b[in:])
	default:
		return fmt.Errorf("posting: form %d: %w", form, view.ErrCorrupt)
	}
}

func parseNumbers(s *numberSet, b []byte) error {
	if len(b)%2 != 0 {
		return fmt.Errorf("posting: %d bytes of numbers: %w", len(b), view.ErrCorrupt)
	}
	for ; len(b) > 0; b = b[2:] {
		n := binary.LittleEndian.Uint16(b)
		if n >= blockSize {
			return fmt.Errorf("posting: number %d: %w", n, view.ErrCorrupt)
		}
		s.add(n)
	}
	return nil
}

// newer takes over what a later change says.
func (p *posting) newer(o *posting) {
	for i := range p.in {
		p.in[i] = p.in[i]&^o.out[i] | o.in[i]
		p.out[i] = p.out[i]&^o.in[i] | o.out[i]
	}
}

// older adds what an earlier state says where nothing is known.
func (p *posting) older(o *posting) {
	for i := range p.in {
		unknown := ^(p.in[i] | p.out[i])
		p.in[i] |= o.in[i] & unknown
		p.out[i] |= o.out[i] & unknown
	}
}

// postingMerger tells Pebble how postings become one.
var postingMerger = &pebble.Merger{
	Name: "parley.postings.1",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		m := &valueMerger{}
		if err := m.sum.parse(value); err != nil {
			return nil, err
		}
		return m, nil
	},
}

type valueMerger struct{ sum, operand posting }

// A posting that became empty stays, as an empty list: Pebble 2.1 panics in
// compactions where a merger of the kind that may delete does so.
var _ pebble.ValueMerger = (*valueMerger)(nil)

// MergeNewer is pebble.ValueMerger's.
func (m *valueMerger) MergeNewer(value []byte) error {
	if err := m.operand.parse(value); err != nil {
		return err
	}
	m.sum.newer(&m.operand)
	return nil
}

// MergeOlder is pebble.ValueMerger's.
func (m *valueMerger) MergeOlder(value []byte) error {
	if err := m.operand.parse(value); err != nil {
		return err
	}
	m.sum.older(&m.operand)
	return nil
}

// Finish is pebble.ValueMerger's.
func (m *valueMerger) Finish(includesBase bool) ([]byte, io.Closer, error) {
	if includesBase {
		m.sum.out = numberSet{}
	}
	return m.sum.append(nil), nil, nil
}
