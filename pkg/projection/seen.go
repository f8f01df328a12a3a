package projection

import (
	"hash/maphash"

	"github.com/parleyhq/parley/pkg/view"
)

// seen remembers, in about 12 bits each, which profiles were ever met. It is
// sometimes wrong about one that was not, never about one that was. With it a
// replay from the start need not look up every new profile in vain; a replay
// from further on has none, since it does not know what was before.
type seen struct {
	seed   maphash.Seed
	layers []seenLayer
}

// seenLayer is a Bloom filter of blocks of a cache line.
type seenLayer struct {
	blocks [][8]uint64
	free   int
}

const (
	seenFirst = 1 << 15 // profiles in the first layer; each later one has twice as many
	seenBits  = 6       // bits set for a profile
)

func newSeen() *seen { return &seen{seed: maphash.MakeSeed()} }

func (s *seen) add(key view.Key) {
	last := len(s.layers) - 1
	if last < 0 || s.layers[last].free == 0 {
		last++
		n := seenFirst << last
		s.layers = append(s.layers, seenLayer{blocks: make([][8]uint64, n*12/512), free: n})
	}
	l := &s.layers[last]
	l.free--
	block, h := l.block(maphash.Comparable(s.seed, key))
	for range seenBits {
		block[h>>6&7] |= 1 << (h & 63)
		h >>= 9
	}
}

// has is for a nil one true: nothing is known.
func (s *seen) has(key view.Key) bool {
	if s == nil {
		return true
	}
	hash := maphash.Comparable(s.seed, key)
	for i := range s.layers {
		if s.layers[i].has(hash) {
			return true
		}
	}
	return false
}

// block chooses by the upper bits; the lower 54 choose within it.
func (l *seenLayer) block(hash uint64) (*[8]uint64, uint64) {
	const lower = 1<<54 - 1
	mixed := (hash ^ hash>>29) * 0x9E3779B97F4A7C15
	return &l.blocks[mixed>>32*uint64(len(l.blocks))>>32], hash & lower
}

func (l *seenLayer) has(hash uint64) bool {
	block, h := l.block(hash)
	for range seenBits {
		if block[h>>6&7]&(1<<(h&63)) == 0 {
			return false
		}
		h >>= 9
	}
	return true
}
