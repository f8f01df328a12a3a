package bus

import (
	"fmt"
	"strings"
)

// The names on NATS that other producers and operators meet.
const (
	// StreamName is the ingress stream.
	StreamName = "PARLEY_INGRESS"
	// ConsumerName is the recorder's consumer on it.
	ConsumerName = "PARLEY_RECORDER"

	subjectRoot     = "ingress"
	subjectWildcard = subjectRoot + ".>"
)

// Subject is where a tenant's interactions of a channel are published. It
// fails with ErrInvalid.
func Subject(tenant, channel string) (string, error) {
	if !ValidTenant(tenant) {
		return "", fmt.Errorf("%w tenant %q", ErrInvalid, tenant)
	}
	if !ValidChannel(channel) {
		return "", fmt.Errorf("%w channel %q", ErrInvalid, channel)
	}
	return subjectRoot + "." + tenant + "." + channel, nil
}

// ParseSubject is the reverse of Subject. ok is false for subjects that Subject
// does not make.
func ParseSubject(subject string) (tenant, channel string, ok bool) {
	rest, found := strings.CutPrefix(subject, subjectRoot+".")
	if !found {
		return "", "", false
	}
	tenant, channel, found = strings.Cut(rest, ".")
	if !found || !ValidTenant(tenant) || !ValidChannel(channel) {
		return "", "", false
	}
	return tenant, channel, true
}

// ValidTenant reports whether s is a tenant as the event envelope bounds it: 1
// to 40 lower-case letters, digits and underscores, not beginning with one.
func ValidTenant(s string) bool {
	return len(s) <= 40 && validName(s) && s[0] != '_'
}

// ValidChannel reports whether s is a channel: 1 to 32 lower-case letters,
// digits and underscores, beginning with a letter.
func ValidChannel(s string) bool {
	return len(s) <= 32 && validName(s) && s[0] >= 'a'
}

func validName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}
