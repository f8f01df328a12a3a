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
}

// The meta of a customer's document is its version and, for each profile, the
// oldest first: the length of its id, uvarint, 0 for the customer's own; the
// id; the position at which it was first seen, doubled, plus 1 if it has a
// document, uvarint.
const membersVersion = 1

func appendMembers(dst []byte, members []*member, customer string) []byte {
	dst = append(dst, membersVersion)
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
	}
	return dst
}

func parseMembers(b []byte, customer string) ([]storedMember, error) {
	if len(b) == 0 || b[0] != membersVersion {
		return nil, fmt.Errorf("profiles of customer %s: %w", customer, view.ErrCorrupt)
	}
	var members []storedMember
	for b = b[1:]; len(b) > 0; {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, fmt.Errorf("profiles of customer %s: %w", customer, view.ErrCorrupt)
		}
		m := storedMember{profile: customer}
		if n > 0 {
			m.profile = string(b[w : w+int(n)])
		}
		b = b[w+int(n):]
		bits, w := binary.Uvarint(b)
		if w <= 0 {
			return nil, fmt.Errorf("profiles of customer %s: %w", customer, view.ErrCorrupt)
		}
		m.first, m.has = bits>>1, bits&1 == 1
		members = append(members, m)
		b = b[w:]
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("profiles of customer %s: none: %w", customer, view.ErrCorrupt)
	}
	return members, nil
}
