package email

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Resolver asks the DNS; *net.Resolver is one. Every method returns soon after
// its context has ended. What does not exist is a *net.DNSError with IsNotFound;
// every other error counts as temporary. It is called concurrently.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// patientResolver is a Resolver that remembers when the DNS is away, so that
// mails on a machine without one do not wait for it each: after a few failures
// with no answer between it fails at once, but for one look-up now and then
// that tries again.
type patientResolver struct {
	inner Resolver
	now   func() time.Time

	mu       sync.Mutex
	failures int       // since the last answer
	retry    time.Time // when the next look-up may try, while it is away
}

const (
	// lookupTimeout bounds one look-up; a resolver that has to ask around takes
	// up to a second, rarely more.
	lookupTimeout = 2 * time.Second
	// awayAfter failures in a row the DNS counts as away. One domain's servers
	// may fail by themselves; a mail asks for up to three domains.
	awayAfter = 4
	// awayFor is how long nobody asks then.
	awayFor = 30 * time.Second
	// probeTimeout bounds the look-up that tries again: a mail waits for it.
	probeTimeout = 500 * time.Millisecond
)

func newPatientResolver(inner Resolver, now func() time.Time) *patientResolver {
	return &patientResolver{inner: inner, now: now}
}

// LookupTXT implements Resolver.
func (r *patientResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return patiently(ctx, r, name, r.inner.LookupTXT)
}

// LookupMX implements Resolver.
func (r *patientResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return patiently(ctx, r, name, r.inner.LookupMX)
}

// LookupIPAddr implements Resolver.
func (r *patientResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return patiently(ctx, r, host, r.inner.LookupIPAddr)
}

// LookupAddr implements Resolver.
func (r *patientResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return patiently(ctx, r, addr, r.inner.LookupAddr)
}

func patiently[T any](ctx context.Context, r *patientResolver, name string, ask func(context.Context, string) ([]T, error)) ([]T, error) {
	timeout, ok := r.begin()
	if !ok {
		return nil, &net.DNSError{Err: "the DNS is away", Name: name, IsTemporary: true}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := ask(ctx, name)
	r.end(err, errors.Is(ctx.Err(), context.Canceled))
	return answer, err
}

// begin says whether to ask, and how long to wait for the answer.
func (r *patientResolver) begin() (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures < awayAfter {
		return lookupTimeout, true
	}
	now := r.now()
	if now.Before(r.retry) {
		return 0, false
	}
	r.retry = now.Add(awayFor)
	return probeTimeout, true
}

// end notes how a look-up went. That a name does not exist is an answer; that
// nobody waits any longer says nothing.
func (r *patientResolver) end(err error, gone bool) {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil, isDNS && dns.IsNotFound:
		r.failures = 0
	case gone:
	default:
		r.failures++
		if r.failures >= awayAfter {
			r.retry = r.now().Add(awayFor)
		}
	}
}
