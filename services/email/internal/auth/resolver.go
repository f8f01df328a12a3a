package auth

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Resolver asks the DNS; *net.Resolver is one. Every method returns soon after
// its context has ended. What does not exist is a *net.DNSError with
// IsNotFound; every other error counts as temporary. It may be called
// concurrently.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

const (
	// maxDMARCLookups: the From domain and its organisation's (RFC 7489, 6.6.3).
	maxDMARCLookups = 2
	// maxSPFLookups bounds what ten terms (RFC 7208, 4.6.4) may come to, as each
	// mx and ptr term may lead to ten addresses.
	maxSPFLookups = 50
)

// lookups is a Resolver for one purpose of one mail: it asks a bounded number of times, asks only for names that may exist, and turns
// all errors into the *net.DNSError that the libraries look for.
type lookups struct {
	inner Resolver

	mu       sync.Mutex
	left     int
	exceeded bool
}

func newLookups(inner Resolver, most int) *lookups {
	return &lookups{inner: inner, left: most}
}

// overdrawn says whether more was asked than allowed.
func (l *lookups) overdrawn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exceeded
}

func (l *lookups) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return lookup(ctx, l, name, l.inner.LookupTXT)
}

func (l *lookups) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return lookup(ctx, l, name, l.inner.LookupMX)
}

func (l *lookups) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return lookup(ctx, l, host, l.inner.LookupIPAddr)
}

func (l *lookups) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return lookup(ctx, l, addr, l.inner.LookupAddr)
}

func lookup[T any](ctx context.Context, l *lookups, name string, ask func(context.Context, string) ([]T, error)) ([]T, error) {
	ascii := asciiName(name)
	if ascii == "" {
		return nil, &net.DNSError{Err: "no such name", IsNotFound: true}
	}
	if err := l.take(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, dnsError(ascii, err)
	}
	answer, err := ask(ctx, ascii)
	if err != nil {
		// A resolver may hand on what it could read beside an error; half an
		// answer must not become a verdict.
		return nil, dnsError(ascii, err)
	}
	return answer, nil
}

func (l *lookups) take() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left <= 0 {
		l.exceeded = true
		return &net.DNSError{Err: "too many look-ups", IsTemporary: true}
	}
	l.left--
	return nil
}

func dnsError(name string, err error) error {
	if isNotFound(err) {
		return &net.DNSError{Err: "no such record", Name: name, IsNotFound: true}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &net.DNSError{Err: "the deadline passed", Name: name, IsTimeout: true, IsTemporary: true}
	}
	return &net.DNSError{Err: "the name server failed", Name: name, IsTemporary: true}
}

func isNotFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound && !dns.IsTemporary && !dns.IsTimeout
}

// cause is what went wrong, without the name that was asked for.
func cause(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Err
	}
	return err.Error()
}
