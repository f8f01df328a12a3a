// Package recent remembers what was used last.
//
// A Map keeps between n and 2n entries in two generations: what is found in the
// older one moves on, the rest goes when the younger one is full. It costs two
// map look-ups and no list. It keeps nothing over a restart.
package recent

// Map is a bounded map. Not for concurrent use.
type Map[K comparable, V any] struct {
	n          int
	young, old map[K]V
}

// New makes a map that remembers at least the last n entries.
func New[K comparable, V any](n int) *Map[K, V] {
	return &Map[K, V]{n: max(n, 1), young: make(map[K]V)}
}

// Get gives an entry, which is thereby used.
func (m *Map[K, V]) Get(k K) (V, bool) {
	if v, ok := m.young[k]; ok {
		return v, true
	}
	v, ok := m.old[k]
	if ok {
		m.Put(k, v)
	}
	return v, ok
}

// Put sets an entry.
func (m *Map[K, V]) Put(k K, v V) {
	if len(m.young) >= m.n {
		if _, there := m.young[k]; !there {
			m.old, m.young = m.young, make(map[K]V, m.n)
		}
	}
	m.young[k] = v
}

// Delete forgets an entry.
func (m *Map[K, V]) Delete(k K) {
	delete(m.young, k)
	delete(m.old, k)
}

// Len is how many entries there are, at most twice n; one that moved on counts
// twice.
func (m *Map[K, V]) Len() int { return len(m.young) + len(m.old) }
