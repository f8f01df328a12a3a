package match

import (
	"cmp"
	"slices"
)

// blocking says which keys are good for a block as they are. A block of more
// than max records is divided by what else is known of them; a part that is
// still too large is sorted, and a record compared with its next neighbours
// only (sorted neighbourhood: Hernández and Stolfo 1995).
type blocking struct {
	max  int
	uses [numRules]bool
	// big are base keys of too many records, wide the keys of parts of such.
	big, wide map[Key]struct{}
}

// window is how many neighbours on either side a record of a wide block is
// compared with.
const window = 10

func newBlocking(maxBlock int, uses [numRules]bool) *blocking {
	return &blocking{max: maxBlock, uses: uses, big: map[Key]struct{}{}, wide: map[Key]struct{}{}}
}

// base appends the keys of f that are in use.
func (b *blocking) base(f *features, buf []Key) []Key {
	start := len(buf)
	buf = f.keys(buf)
	kept := buf[:start]
	for _, k := range buf[start:] {
		if b.uses[k.Rule()] {
			kept = append(kept, k)
		}
	}
	return kept
}

// parts appends the keys of the parts that f is in of blocks too large.
func (b *blocking) parts(f *features, base, buf []Key) []Key {
	if len(b.big) == 0 {
		return buf
	}
	for _, k := range base {
		if _, big := b.big[k]; big {
			buf = f.subKeys(k, buf)
		}
	}
	return buf
}

// effective appends the keys of the blocks that f is in, in ascending order:
// whole blocks first, then parts, then those with a window. scratch is for
// reuse.
func (b *blocking) effective(f *features, scratch *[]Key, buf []Key) []Key {
	base := b.base(f, (*scratch)[:0])
	*scratch = base
	start := len(buf)
	for _, k := range base {
		if _, big := b.big[k]; !big {
			buf = append(buf, k)
		}
	}
	whole := len(buf)
	buf = b.parts(f, base, buf)
	for i := whole; i < len(buf); i++ {
		if _, wide := b.wide[buf[i]]; wide {
			buf[i] |= windowBit
		}
	}
	slices.Sort(buf[start:])
	return buf[:start+len(slices.Compact(buf[start:]))]
}

// addLarge adds to set the keys that there are more than limit of. It sorts
// keys.
func addLarge(set map[Key]struct{}, keys []Key, limit int) {
	slices.Sort(keys)
	for i := 0; i < len(keys); {
		j := i + 1
		for j < len(keys) && keys[j] == keys[i] {
			j++
		}
		if j-i > limit {
			set[keys[i]] = struct{}{}
		}
		i = j
	}
}

// blocks are records in memory with all blocks that they are in.
type blocks struct {
	records []packed
	// keys of record i are keys[ends[i-1]:ends[i]].
	keys []Key
	ends []uint32
	// entries are the blocks of a share of the keys, one behind the other.
	entries []entry
}

type entry struct {
	key Key
	rec uint32
}

func (b *blocks) add(p packed, effective []Key) {
	b.records = append(b.records, p)
	b.keys = append(b.keys, effective...)
	b.ends = append(b.ends, uint32(len(b.keys)))
}

// collect makes the blocks whose keys are in a share.
func (b *blocks) collect(part share) {
	b.entries = b.entries[:0]
	start := uint32(0)
	for rec, end := range b.ends {
		for _, k := range b.keys[start:end] {
			if part.has(k) {
				b.entries = append(b.entries, entry{key: k, rec: uint32(rec)})
			}
		}
		start = end
	}
	slices.SortFunc(b.entries, func(x, y entry) int {
		if c := cmp.Compare(x.key, y.key); c != 0 {
			return c
		}
		return cmp.Compare(x.rec, y.rec)
	})
}

// next gives the end of the block that starts at i.
func (b *blocks) next(i int) int {
	j := i + 1
	for j < len(b.entries) && b.entries[j].key == b.entries[i].key {
		j++
	}
	return j
}

func (b *blocks) keysOf(rec uint32) []Key {
	start := uint32(0)
	if rec > 0 {
		start = b.ends[rec-1]
	}
	return b.keys[start:b.ends[rec]]
}

// owner is the lowest key that both have: a pair belongs to one block only.
// Keys with a window are the highest; what such a block leaves out would be
// lost to another one otherwise.
func (b *blocks) owner(x, y uint32) Key {
	xs, ys := b.keysOf(x), b.keysOf(y)
	for len(xs) > 0 && len(ys) > 0 {
		switch {
		case xs[0] == ys[0]:
			return xs[0]
		case xs[0] < ys[0]:
			xs = xs[1:]
		default:
			ys = ys[1:]
		}
	}
	return ^Key(0)
}

// blockPairs is how many pairs a block of n gives.
func blockPairs(k Key, n int) int {
	if k&windowBit != 0 {
		n, w := n, min(window, n-1)
		return n*w - w*(w+1)/2
	}
	return n * (n - 1) / 2
}

// member is a record of the block at hand.
type member struct {
	rec      uint32
	features features
}

// pairs calls visit for each pair of the block that is entries[i:j]. buf is
// for reuse.
func (b *blocks) pairs(i, j int, buf *[]member, visit func(x, y *member)) {
	key := b.entries[i].key
	members := slices.Grow((*buf)[:0], j-i)[:j-i]
	*buf = members
	reach := j - i
	recs := make([]uint32, 0, j-i)
	for _, e := range b.entries[i:j] {
		recs = append(recs, e.rec)
	}
	if key&windowBit != 0 {
		reach = window
		slices.SortFunc(recs, func(x, y uint32) int {
			if c := cmp.Compare(packedValues(b.records[x]), packedValues(b.records[y])); c != 0 {
				return c
			}
			return cmp.Compare(packedID(b.records[x]), packedID(b.records[y]))
		})
	}
	for n, rec := range recs {
		members[n].rec = rec
		members[n].features.unpack(b.records[rec])
	}
	for x := range members {
		for y := x + 1; y < min(len(members), x+1+reach); y++ {
			visit(&members[x], &members[y])
		}
	}
}

// share is the keys whose lowest bits are value. All keys of a block are in
// one.
type share struct {
	bits  int
	value Key
}

func (s share) has(k Key) bool { return k&(1<<s.bits-1) == s.value }

// divide gives the 2^n parts of a share.
func (s share) divide(n int) []share {
	parts := make([]share, 1<<n)
	for i := range parts {
		parts[i] = share{bits: s.bits + n, value: s.value | Key(i)<<s.bits}
	}
	return parts
}
