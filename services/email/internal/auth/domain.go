package auth

import (
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// maxName is the longest domain name in bytes (RFC 1035, 2.3.4).
const maxName = 253

// names maps domains as look-ups do (UTS 46); underscores are left in, which
// DKIM and DMARC names have.
var names = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// asciiName brings a name to the form that the DNS is asked with: lower case,
// A-labels, no final dot. It is empty where that cannot be.
func asciiName(name string) string {
	name = strings.TrimSuffix(strings.TrimSpace(name), ".")
	if name == "" || len(name) > 4*maxName {
		return ""
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			mapped, err := names.ToASCII(name)
			if err != nil {
				return ""
			}
			name = strings.TrimSuffix(mapped, ".")
			break
		}
	}
	name = lowerASCII(name)
	if len(name) > maxName {
		return ""
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return ""
		}
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f {
			return ""
		}
	}
	return name
}

// normalDomain is the one spelling under which a mail domain is compared:
// letters, digits, hyphens and underscores in at least two labels. It is empty
// for what is no such domain.
func normalDomain(domain string) string {
	domain = asciiName(domain)
	if !strings.Contains(domain, ".") {
		return ""
	}
	for i := range len(domain) {
		c := domain[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return ""
		}
	}
	return domain
}

// domainOf is the normalised domain of an address.
func domainOf(address string) string {
	local, domain, found := cutLast(address, "@")
	if !found || local == "" {
		return ""
	}
	return normalDomain(domain)
}

// organisation is the organisational domain (RFC 7489, 3.2): one label below
// the public suffix, or the domain itself where it is a public suffix.
func organisation(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return org
}

// alignment says how close a domain is to that of From.
type alignment int

const (
	unaligned alignment = iota
	// relaxed is the same organisation, strict the very domain (RFC 7489, 3.1).
	relaxed
	strict
)

func align(domain, from string) alignment {
	switch {
	case domain == "":
		return unaligned
	case domain == from:
		return strict
	case organisation(domain) == organisation(from):
		return relaxed
	default:
		return unaligned
	}
}
