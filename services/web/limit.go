package web

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiters hold a token bucket for each source that has a rate. A token is an event.
type limiters struct {
	mu sync.Mutex
	// bySource has as many entries as there are sources.
	bySource map[limitKey]*rate.Limiter
}

type limitKey struct{ tenant, source string }

func newLimiters() *limiters { return &limiters{bySource: map[limitKey]*rate.Limiter{}} }

// take takes n tokens, or says how long to wait for them.
func (l *limiters) take(key limitKey, perSecond float64, n int, now time.Time) time.Duration {
	l.mu.Lock()
	limiter, ok := l.bySource[key]
	if !ok {
		// The largest batch must fit at once, or it would never.
		limiter = rate.NewLimiter(rate.Limit(perSecond), max(MaxBatchEvents, int(perSecond)))
		l.bySource[key] = limiter
	}
	l.mu.Unlock()
	if limiter.Limit() != rate.Limit(perSecond) {
		limiter.SetLimitAt(now, rate.Limit(perSecond))
		limiter.SetBurstAt(now, max(MaxBatchEvents, int(perSecond)))
	}
	reservation := limiter.ReserveN(now, n)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

// limit takes n events from a key's rate; the wait is 0 where they are allowed.
func (g *Gateway) limit(key *Key, n int, now time.Time) time.Duration {
	perSecond := key.RatePerSecond
	if perSecond == 0 {
		perSecond = g.cfg.EventsPerSecond
	}
	if perSecond <= 0 {
		return 0
	}
	return g.limits.take(limitKey{key.Tenant, key.Source}, perSecond, n, now)
}

// fromBrowser says that a request comes from the person's own browser, so that
// its address and user agent are the person's. A server's library and an app do
// not send these headers.
func fromBrowser(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
}

// clientIP is the address that a request comes from: the last one in
// X-Forwarded-For that is not a trusted proxy's, and the connection's where
// that is not a trusted proxy.
func (g *Gateway) clientIP(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	addr := peer.Addr().Unmap().WithZone("")
	if !g.trusted(addr) {
		return addr.String()
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
		if !g.trusted(addr) {
			break
		}
	}
	return addr.String()
}

func (g *Gateway) trusted(addr netip.Addr) bool {
	for _, prefix := range g.cfg.TrustedProxies {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
