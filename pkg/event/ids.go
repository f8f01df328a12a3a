package event

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/google/uuid"
)

// DeterministicID is the id of an event from outside: the same tenant, source
// and id of the source's own give the same event id, everywhere and for ever.
// It is a UUID of version 8 (RFC 9562) over SHA-256.
func DeterministicID(tenant, source, sourceID string) uuid.UUID {
	h := sha256.New()
	writePart(h, "parley event id")
	writePart(h, tenant)
	writePart(h, source)
	writePart(h, sourceID)
	return uuid8(h)
}

// DerivedID is the id of an event that another one causes. The purpose tells
// apart what one event causes; where it causes several of a kind, the purpose
// has what tells these apart. A redelivered cause derives the same id.
func DerivedID(cause uuid.UUID, purpose string) uuid.UUID {
	h := sha256.New()
	writePart(h, "parley derived id")
	writePart(h, string(cause[:]))
	writePart(h, purpose)
	return uuid8(h)
}

// ContentDigest is SHA-256 over parts, each with its length before it, so that
// what moves from one part to its neighbour changes the digest.
func ContentDigest(parts ...[]byte) []byte {
	h := sha256.New()
	var size [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	return h.Sum(make([]byte, 0, sha256.Size))
}

func writePart(h hash.Hash, part string) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(part)))
	h.Write(size[:])
	h.Write([]byte(part))
}

func uuid8(h hash.Hash) uuid.UUID {
	var sum [sha256.Size]byte
	id := uuid.UUID(h.Sum(sum[:0])[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // RFC 9562 variant
	return id
}
