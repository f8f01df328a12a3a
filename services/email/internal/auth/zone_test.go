package auth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/stretchr/testify/require"
)

// zone is a DNS in memory. A name asked for a type that it has not is not found.
type zone struct {
	txt map[string][]string
	mx  map[string][]string
	a   map[string][]string
	ptr map[string][]string
	// fails are names that the server cannot answer for.
	fails map[string]bool
	// hangs are names that never get an answer, as long as the context lives.
	hangs map[string]bool

	mu    sync.Mutex
	asked []string
}

var errServer = &net.DNSError{Err: "server misbehaving", IsTemporary: true}

func ask[T any](ctx context.Context, z *zone, name string, records map[string][]string, read func(string) T) ([]T, error) {
	z.mu.Lock()
	z.asked = append(z.asked, name)
	z.mu.Unlock()
	if z.hangs[name] {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if z.fails[name] {
		return nil, errServer
	}
	found, ok := records[name]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	var answer []T
	for _, r := range found {
		answer = append(answer, read(r))
	}
	return answer, nil
}

func same(s string) string { return s }

func (z *zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return ask(ctx, z, name, z.txt, same)
}

func (z *zone) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return ask(ctx, z, name, z.mx, func(s string) *net.MX { return &net.MX{Host: s} })
}

func (z *zone) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	return ask(ctx, z, name, z.a, func(s string) net.IPAddr { return net.IPAddr{IP: net.ParseIP(s)} })
}

func (z *zone) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return ask(ctx, z, addr, z.ptr, same)
}

func (z *zone) count() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.asked)
}

// with is a copy of the zone with more TXT records, `name=text` each.
func (z *zone) with(records ...string) *zone {
	c := &zone{txt: maps.Clone(z.txt), mx: z.mx, a: z.a, ptr: z.ptr, fails: z.fails, hangs: z.hangs}
	for _, r := range records {
		name, text, _ := strings.Cut(r, "=")
		c.txt[name] = append([]string(nil), append(c.txt[name], text)...)
	}
	return c
}

func (z *zone) failing(names ...string) *zone {
	c := z.with()
	c.fails = map[string]bool{}
	for _, n := range names {
		c.fails[n] = true
	}
	return c
}

func (z *zone) hanging(names ...string) *zone {
	c := z.with()
	c.hangs = map[string]bool{}
	for _, n := range names {
		c.hangs[n] = true
	}
	return c
}

// stuck is a DNS that answers nothing at all.
type stuck struct{}

func (stuck) LookupTXT(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (stuck) LookupMX(ctx context.Context, _ string) ([]*net.MX, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (stuck) LookupIPAddr(ctx context.Context, _ string) ([]net.IPAddr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (stuck) LookupAddr(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The keys are fixed so that a failure can be run again; they sign nothing else.
var (
	edKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	edKey2 = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
)

func keyRecord(t testing.TB, key crypto.Signer) string {
	t.Helper()
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(public)
		require.NoError(t, err)
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	default:
		require.Failf(t, "unknown key", "%T", public)
		return ""
	}
}

// sign puts a signature on top of a mail.
func sign(t testing.TB, mail, domain string, key crypto.Signer, change ...func(*dkim.SignOptions)) string {
	t.Helper()
	options := &dkim.SignOptions{
		Domain: domain, Selector: "s1", Signer: key, Hash: crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	}
	for _, c := range change {
		c(options)
	}
	var signed bytes.Buffer
	require.NoError(t, dkim.Sign(&signed, strings.NewReader(mail), options))
	return signed.String()
}

func expiring(at time.Time) func(*dkim.SignOptions) {
	return func(o *dkim.SignOptions) { o.Expiration = at }
}

func letter(from string) string {
	return "From: " + from + "\r\nTo: help@shop.example\r\nSubject: My order\r\n" +
		"Message-ID: <1@mail.example>\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\n\r\nWhere is it?\r\n"
}
