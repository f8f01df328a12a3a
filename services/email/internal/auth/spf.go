package auth

import (
	"context"
	"net"

	"blitiri.com.ar/go/spf"
)

// checkSPF evaluates SPF for the envelope's domain (RFC 7208). A domain that
// cannot be one has no record (section 4.3).
func checkSPF(ctx context.Context, l *lookups, in Input) Method {
	m := Method{Name: spfName}
	m.Domain, m.HELO = identity(in.EnvelopeFrom, in.HELO)
	if m.Domain == "" {
		m.Value, m.Detail = ValueNone, "no valid domain"
		return m
	}
	sender := "postmaster@" + m.Domain
	if !m.HELO {
		local, _, _ := cutLast(in.EnvelopeFrom, "@")
		sender = plainLocal(local) + "@" + m.Domain
	}
	value, err := spf.CheckHostWithSender(net.IP(in.ClientIP.Unmap().AsSlice()), asciiName(in.HELO), sender,
		spf.WithContext(ctx), spf.WithResolver(l))
	m.Value = Value(value)
	if l.overdrawn() {
		m.Value, m.Detail = ValuePermError, "too many look-ups"
		return m
	}
	// Otherwise the error only says which term matched.
	if err != nil && (value == spf.TempError || value == spf.PermError) {
		m.Detail = cause(err)
	}
	return m
}

// plainLocal keeps of a local part what macros may put into names: the library
// cuts a sender at its first @.
func plainLocal(local string) string {
	clean := make([]byte, 0, len(local))
	for i := range len(local) {
		if c := local[i]; c > ' ' && c < 0x7f && c != '@' && c != '<' && c != '>' && c != '"' {
			clean = append(clean, c)
		}
	}
	if len(clean) == 0 {
		return "postmaster"
	}
	return string(clean)
}
