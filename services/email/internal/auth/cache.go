package auth

import (
	"container/list"
	"context"
	"net"
	"sync"
	"time"
)

// Cache is a Resolver that remembers another one's answers, and that names do
// not exist, for fixed times, since net.Resolver does not tell the records' own.
// Temporary errors are not remembered. It may be used concurrently.
type Cache struct {
	inner Resolver
	now   func() time.Time

	mu      sync.Mutex
	entries map[cacheKey]*list.Element
	// oldest entries are at the front.
	order list.List
}

const (
	// maxCached bounds the entries, maxCachedBytes the size of one in bytes: the
	// cache stays under 32 MiB and is a few hundred KiB with real records.
	maxCached      = 4096
	maxCachedBytes = 8 << 10
	// cachedFor is how long an answer is kept, absentFor how long its absence:
	// a domain that has just got its records should not wait for long.
	cachedFor = 5 * time.Minute
	absentFor = time.Minute
)

// NewCache makes a Cache over a resolver, with a clock.
func NewCache(inner Resolver, now func() time.Time) *Cache {
	return &Cache{inner: inner, now: now, entries: map[cacheKey]*list.Element{}}
}

type cacheKey struct {
	kind string
	name string
}

type cacheEntry struct {
	key    cacheKey
	until  time.Time
	answer any
	err    error
}

// LookupTXT implements Resolver.
func (c *Cache) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return cached(ctx, c, "TXT", name, c.inner.LookupTXT, func(s string) int { return len(s) })
}

// LookupMX implements Resolver.
func (c *Cache) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return cached(ctx, c, "MX", name, c.inner.LookupMX, func(mx *net.MX) int { return len(mx.Host) })
}

// LookupIPAddr implements Resolver.
func (c *Cache) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return cached(ctx, c, "A", host, c.inner.LookupIPAddr, func(net.IPAddr) int { return net.IPv6len })
}

// LookupAddr implements Resolver.
func (c *Cache) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return cached(ctx, c, "PTR", addr, c.inner.LookupAddr, func(s string) int { return len(s) })
}

func cached[T any](
	ctx context.Context, c *Cache, kind, name string,
	ask func(context.Context, string) ([]T, error), size func(T) int,
) ([]T, error) {
	key := cacheKey{kind: kind, name: lowerASCII(name)}
	if e, ok := c.get(key); ok {
		if answer, is := e.answer.([]T); is || e.err != nil {
			return answer, e.err
		}
	}
	answer, err := ask(ctx, name)
	switch {
	case err == nil:
		total := 0
		for _, a := range answer {
			total += size(a)
		}
		if total <= maxCachedBytes {
			c.put(cacheEntry{key: key, until: c.now().Add(cachedFor), answer: answer})
		}
	case isNotFound(err):
		c.put(cacheEntry{key: key, until: c.now().Add(absentFor), err: err})
	}
	return answer, err
}

func (c *Cache) get(key cacheKey) (cacheEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.entries[key]
	if !ok {
		return cacheEntry{}, false
	}
	e, ok := at.Value.(cacheEntry)
	if !ok || !c.now().Before(e.until) {
		c.order.Remove(at)
		delete(c.entries, key)
		return cacheEntry{}, false
	}
	return e, true
}

func (c *Cache) put(e cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.entries[e.key]; ok {
		c.order.Remove(at)
	}
	c.entries[e.key] = c.order.PushBack(e)
	for len(c.entries) > maxCached {
		first := c.order.Front()
		if old, ok := c.order.Remove(first).(cacheEntry); ok {
			delete(c.entries, old.key)
		}
	}
}
