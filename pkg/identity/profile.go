package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash"
)

// MinSecretBytes is how long a secret must be at least.
const MinSecretBytes = 16

// ProfileIDLen is the length of a profile id.
const ProfileIDLen = 26

// ProfileID names the profile that a normalised identifier is: 128 bits of
// HMAC-SHA256 over tenant, kind and value, in lower case base32. Without the
// secret nobody can tell whether an id belongs to a given address.
func ProfileID(secret []byte, tenant, kind, normalized string) string {
	return newHasher(secret).profileID(tenant, kind, normalized)
}

var profileEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// hasher keeps what the secret alone decides. Not for concurrent use.
type hasher struct {
	mac hash.Hash
	in  []byte
	sum [sha256.Size]byte
}

func newHasher(secret []byte) *hasher { return &hasher{mac: hmac.New(sha256.New, secret)} }

func (h *hasher) profileID(tenant, kind, normalized string) string {
	// Lengths go first, so that no two triples read the same.
	h.in = h.in[:0]
	for _, part := range [...]string{tenant, kind, normalized} {
		h.in = binary.AppendUvarint(h.in, uint64(len(part)))
		h.in = append(h.in, part...)
	}
	h.mac.Reset()
	_, _ = h.mac.Write(h.in) // a hash never fails
	const idBytes = 16
	var id [ProfileIDLen]byte
	profileEncoding.Encode(id[:], h.mac.Sum(h.sum[:0])[:idBytes])
	return string(id[:])
}
