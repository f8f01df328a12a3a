package email

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/event"
)

// Address is an address of the company's that takes mail.
type Address struct {
	// Address is `support@example.com`, or `@example.com` for all of a domain.
	// The single address wins over the domain. What stands behind a + in the
	// local part of a mail's recipient does not count.
	Address string
	// Tenant whose mail it is. Required.
	Tenant string
	// Queue that its mail is for, at most MaxQueue bytes; may be empty.
	Queue string
}

const (
	// MaxQueue is the longest name of a queue in bytes.
	MaxQueue = 128
	// maxAddress is the longest address in bytes, as events have it.
	maxAddress = 320
	// maxConversation is the longest conversation key, as events have it.
	maxConversation = 256
	// conversationTag begins the conversation in a plus-address.
	conversationTag = "+c-"
)

// Book knows the company's addresses. It never changes.
type Book struct {
	entries map[string]Address // by normalised address or @domain
}

// NewBook makes a book. There must be one address at least.
func NewBook(addresses []Address) (*Book, error) {
	if len(addresses) == 0 {
		return nil, errors.New("mail addresses: there are none")
	}
	b := &Book{entries: make(map[string]Address, len(addresses))}
	for _, a := range addresses {
		local, domain, ok := cutAddress(a.Address)
		switch {
		case !ok && !strings.HasPrefix(a.Address, "@"), !ok && len(a.Address) < 2, strings.ContainsAny(a.Address, " <>,;\"\r\n\t"), len(a.Address) > maxAddress:
			return nil, fmt.Errorf("mail address %.100q: want an address, or @ and a domain", a.Address)
		case !event.ValidTenant(a.Tenant):
			return nil, fmt.Errorf("mail address %s: the tenant %.100q is none: want 1 to 40 lower case letters, digits and underscores", a.Address, a.Tenant)
		case credential.CheckTenant(a.Tenant) != nil:
			return nil, fmt.Errorf("mail address %s: %w", a.Address, credential.CheckTenant(a.Tenant))
		case len(a.Queue) > MaxQueue || !utf8.ValidString(a.Queue):
			return nil, fmt.Errorf("mail address %s: want a queue of at most %d bytes", a.Address, MaxQueue)
		case strings.Contains(local, "+"):
			return nil, fmt.Errorf("mail address %s: what stands behind a + does not count; leave it out", a.Address)
		}
		if !ok {
			domain = normalDomain(a.Address[1:])
		}
		key := local + "@" + domain
		if _, twice := b.entries[key]; twice {
			return nil, fmt.Errorf("mail address %s is there twice", a.Address)
		}
		b.entries[key] = a
	}
	return b, nil
}

// Tenants are those that have an address, in alphabetical order.
func (b *Book) Tenants() []string {
	var all []string
	for _, a := range b.entries {
		all = append(all, a.Tenant)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// lookup finds the entry for a mail's recipient.
func (b *Book) lookup(address string) (Address, bool) {
	local, domain, ok := cutAddress(address)
	if !ok {
		return Address{}, false
	}
	base, _, _ := strings.Cut(local, "+")
	for _, key := range [...]string{local + "@" + domain, base + "@" + domain, "@" + domain} {
		if a, ok := b.entries[key]; ok {
			return a, true
		}
	}
	return Address{}, false
}

// ours says whether an address is one of a tenant's.
func (b *Book) ours(tenant, address string) bool {
	a, ok := b.lookup(address)
	return ok && a.Tenant == tenant
}

// cutAddress gives the parts of an address, normalised for comparing. The
// local part is taken as the large providers take it: case does not matter.
func cutAddress(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 || len(address) > maxAddress {
		return "", "", false
	}
	return strings.ToLower(address[:at]), normalDomain(address[at+1:]), true
}

// normalDomain is a domain in lower case with A-labels, or as it is in lower
// case where it cannot be that.
func normalDomain(domain string) string {
	domain = strings.TrimSuffix(strings.ToLower(domain), ".")
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		return ascii
	}
	return domain
}

// conversationOf gives the conversation that a plus-address names:
// `inbox+c-<conversation>@…`.
func conversationOf(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return ""
	}
	i := strings.Index(strings.ToLower(address[:at]), conversationTag)
	if i <= 0 {
		return ""
	}
	key := address[i+len(conversationTag) : at]
	if len(key) > maxConversation || !utf8.ValidString(key) {
		return ""
	}
	return key
}

// mailboxOf is an address without what stands behind a +.
func mailboxOf(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	base, _, _ := strings.Cut(address[:at], "+")
	if base == "" {
		return address
	}
	return base + address[at:]
}
