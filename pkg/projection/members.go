package projection

import (
	"encoding/binary"
	"fmt"

	"github.com/parleyhq/parley/pkg/view"
)

// storedMember is a profile of a customer as it is kept beside his document.
type storedMember struct {
	profile string
	// first is the position at which the profile was first seen.
	first uint64
	// has says that the profile has a document: an event was folded into it.
	has bool
	// data is the profile's document, where it lies here.
	data []byte
}

// The meta of a customer's document is its version, the place of the profiles'
// documents, and, for each profile, the oldest first: the length of its id,
// uvarint, 0 for the customer's own; the id; the position at which it was
// first seen, doubled, plus 1 if it has a document, uvarint; and, if the
// documents lie here, the length of its document, uvarint, and the document.
const membersVersion = 1

// The places of the profiles' documents.
const (
	// placeCustomer: only one profile has a document, which is the customer's.
	placeCustomer = 0
	// placeMeta: they lie here, so that all is read and written at once.
	placeMeta = 1
	// placeProfiles: they lie in a collection of their own, being large.
	placeProfiles = 2
)

// maxMetaDocuments is how many bytes of documents may lie beside the customer's.
const maxMetaDocuments = 8 << 10

func appendMembers(dst []byte, place byte, members []*member, customer string) []byte {
	dst = append(dst, membersVersion, place)
	for _, m := range members {
		if m.key.ID == customer {
			dst = append(dst, 0)
		} else {
			dst = binary.AppendUvarint(dst, uint64(len(m.key.ID)))
			dst = append(dst, m.key.ID...)
		}
		bits := m.first << 1
		if m.has {
			bits |= 1
		}
		dst = binary.AppendUvarint(dst, bits)
		if m.has && place == placeMeta {
			dst = binary.AppendUvarint(dst, uint64(len(m.data)))
			dst = append(dst, m.data...)
		}
	}
	return dst
}

// parseMembers shares b's memory for documents.
func parseMembers(b []byte, customer string) (members []storedMember, place byte, err error) {
	corrupt := func() ([]storedMember, byte, error) {
		return nil, 0, fmt.Errorf("profiles of customer %s: %w", customer, view.ErrCorrupt)
	}
	if len(b) < 2 || b[0] != membersVersion || b[1] > placeProfiles {
		return corrupt()
	}
	place = b[1]
	cut := func() ([]byte, bool) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, false
		}
		part := b[w : uint64(w)+n : uint64(w)+n]
		b = b[uint64(w)+n:]
		return part, true
	}
	for b = b[2:]; len(b) > 0; {
		id, ok := cut()
		if !ok {
			return corrupt()
		}
		m := storedMember{profile: customer}
		if len(id) > 0 {
			m.profile = string(id)
		}
		bits, w := binary.Uvarint(b)
		if w <= 0 {
			return corrupt()
		}
		m.first, m.has = bits>>1, bits&1 == 1
		b = b[w:]
		if m.has && place == placeMeta {
			if m.data, ok = cut(); !ok {
				return corrupt()
			}
		}
		members = append(members, m)
	}
	if len(members) == 0 {
		return corrupt()
	}
	return members, place, nil
}
