package match

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// found is a pair above the threshold, as it was compared.
type found struct {
	a, b        string
	probability float64
	weight      float64
	adjust      float64
	levels      vector
	weights     [numFields]float64
}

func (p *found) pair() Pair {
	// Cloned, since the ids share memory with all that is known of a record.
	return Pair{A: strings.Clone(p.a), B: strings.Clone(p.b), Score: Score{
		Probability: p.probability, Weight: p.weight, Reasons: reasons(&p.levels, &p.weights, p.adjust),
	}}
}

// before orders pairs, best first.
func (p *found) before(q *found) int {
	if c := cmp.Compare(q.weight, p.weight); c != 0 {
		return c
	}
	if c := cmp.Compare(p.a, q.a); c != 0 {
		return c
	}
	return cmp.Compare(p.b, q.b)
}

// keeper keeps the best pairs of each record, and of these gives those that
// are among the best of both.
type keeper struct {
	most  int
	slots map[string]int32 // places in ids and top
	ids   []string
	top   [][]uint32
	pairs []kept
	free  []uint32
}

type kept struct {
	found
	of int8 // how many of its records still have it among their best
}

func newKeeper(most int) *keeper { return &keeper{most: most, slots: map[string]int32{}} }

// intern gives an id of its own memory: what it is given is a part of the
// whole record.
func (k *keeper) intern(id string) string {
	if n, ok := k.slots[id]; ok {
		return k.ids[n]
	}
	id = strings.Clone(id)
	k.slots[id] = int32(len(k.ids))
	k.ids = append(k.ids, id)
	k.top = append(k.top, nil)
	return id
}

// add keeps a pair if it is one of the best. It gives true: go on.
func (k *keeper) add(p *found) bool {
	var at uint32
	if n := len(k.free); n > 0 {
		at, k.free = k.free[n-1], k.free[:n-1]
	} else {
		at = uint32(len(k.pairs))
		k.pairs = append(k.pairs, kept{})
	}
	k.pairs[at] = kept{found: *p, of: 2}
	k.pairs[at].a, k.pairs[at].b = k.intern(p.a), k.intern(p.b)
	k.offer(k.slots[p.a], at)
	k.offer(k.slots[p.b], at)
	return true
}

// offer puts a pair among the best of a record, in order, if it is one.
func (k *keeper) offer(slot int32, at uint32) {
	best := k.top[slot]
	n, _ := slices.BinarySearchFunc(best, at, func(x, y uint32) int { return k.pairs[x].before(&k.pairs[y].found) })
	if n < k.most {
		best = slices.Insert(best, n, at)
	} else {
		k.drop(at)
	}
	if len(best) > k.most {
		k.drop(best[k.most])
		best = best[:k.most]
	}
	k.top[slot] = best
}

func (k *keeper) drop(at uint32) {
	if k.pairs[at].of--; k.pairs[at].of == 0 {
		k.pairs[at] = kept{}
		k.free = append(k.free, at)
	}
}

// best gives the pairs that both records have kept, best first.
func (k *keeper) best() iter.Seq[*found] {
	return func(yield func(*found) bool) {
		order := make([]uint32, 0, len(k.pairs))
		for i := range k.pairs {
			if k.pairs[i].of == 2 {
				order = append(order, uint32(i))
			}
		}
		slices.SortFunc(order, func(x, y uint32) int { return k.pairs[x].before(&k.pairs[y].found) })
		for _, i := range order {
			if !yield(&k.pairs[i].found) {
				return
			}
		}
	}
}
