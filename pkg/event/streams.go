package event

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

const (
	// maxTenant is the longest tenant name in bytes.
	maxTenant = 40
	// maxKey is the longest conversation key in bytes that stands in a stream
	// name as it is. With tenant and channel it stays under the store's bound.
	maxKey = 400
	// channelIdentity is the channel of the identity stream's events.
	channelIdentity = "identity"

	suffixIdentity   = ".identity"
	suffixQuarantine = ".quarantine"

	operationsStream = OperationsTenant + ".projections"
)

// Names that no tenant has; see ReservedTenant.
const (
	// QuarantineTenant has the quarantine of what comes in without a tenant.
	QuarantineTenant = "quarantine"
	// OperationsTenant has the events of what operators do. A read model has
	// the documents of all tenants, so what is done with it is none's alone.
	OperationsTenant = "operations"
)

// ReservedTenant says that Parley keeps a tenant's name for itself, and what
// for, as the end of a sentence about the name. Whoever could speak for such a
// tenant could read or write what is none of his: no credential names one, and
// nothing that comes in is of one.
func ReservedTenant(name string) (reason string, reserved bool) {
	switch name {
	case QuarantineTenant:
		return "is kept for what comes in without one", true
	case OperationsTenant:
		return "is kept for what operators do across tenants", true
	default:
		return "", false
	}
}

// InteractionStream is the stream of a conversation: `<tenant>.<channel>-<key>`.
// Control characters, percent signs and what is not UTF-8 in the key are
// percent-encoded, and a key that is very long is replaced by its digest; two
// keys never share a stream.
func InteractionStream(tenant, channel, key string) string {
	return tenant + "." + channel + "-" + streamKey(key)
}

// IdentityStream is the stream of a tenant's decisions about who is who.
func IdentityStream(tenant string) string { return tenant + suffixIdentity }

// QuarantineStream is the stream of a tenant's inbound bodies that failed a
// check. Its records are no Events.
func QuarantineStream(tenant string) string { return tenant + suffixQuarantine }

// OperationsStream is the stream of what operators did with the read models,
// across tenants: ProjectionOperated and DeadLetterSkipped, in the order in
// which they were decided. Only Parley writes it, and no tenant reads it.
func OperationsStream() string { return operationsStream }

// TenantOf is the tenant that a stream belongs to; empty where it is not one of Parley's.
func TenantOf(stream string) string {
	tenant, _, ok := strings.Cut(stream, ".")
	if !ok || !ValidTenant(tenant) {
		return ""
	}
	return tenant
}

// ValidTenant says that a name can be a tenant's: 1 to 40 lower case letters,
// digits and underscores, not beginning with an underscore. Some of them are
// kept by Parley for itself: ReservedTenant.
func ValidTenant(name string) bool {
	if name == "" || len(name) > maxTenant || name[0] == '_' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

func streamKey(key string) string {
	escaped := escapeKey(key)
	if len(escaped) <= maxKey {
		return escaped
	}
	// An escape is a percent sign and two capitals or digits, so that this is
	// no other key's escaped form.
	sum := sha256.Sum256([]byte(key))
	return "%sha256-" + hex.EncodeToString(sum[:])
}

func escapeKey(key string) string {
	clean := true
	for i := range len(key) {
		c := key[i]
		if c < 0x20 || c == 0x7f || c == '%' || c >= utf8.RuneSelf {
			clean = false
			break
		}
	}
	if clean {
		return key
	}
	var b strings.Builder
	b.Grow(len(key) + 16)
	for i := 0; i < len(key); {
		r, size := utf8.DecodeRuneInString(key[i:])
		bad := r < 0x20 || (r >= 0x7f && r <= 0x9f) || r == '%' || (r == utf8.RuneError && size == 1)
		for j := i; j < i+size; j++ {
			if bad {
				const digits = "0123456789ABCDEF"
				b.WriteByte('%')
				b.WriteByte(digits[key[j]>>4])
				b.WriteByte(digits[key[j]&0xf])
			} else {
				b.WriteByte(key[j])
			}
		}
		i += size
	}
	return b.String()
}
