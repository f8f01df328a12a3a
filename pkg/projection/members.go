package projection

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

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
// documents lie here, the length of its excerpt, uvarint, and the excerpt
// (excerpter) of its document from the customer's. If they do, the place is
// followed by the CRC-32C of the customer's document, 4 bytes, little endian, and
// the profiles' documents' size in all, uvarint.
//
// Version 1 had the documents themselves, and nothing behind the place.
const (
	membersVersion      = 2
	membersWholeVersion = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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

// appendMembers writes the meta that lies beside the customer's document.
func (e *excerpter) appendMembers(dst []byte, place byte, members []*member, customer string, document []byte) []byte {
	dst = append(dst, membersVersion, place)
	if place == placeMeta {
		size := 0
		for _, m := range members {
			if m.has {
				size += len(m.data)
			}
		}
		dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(document, castagnoli))
		dst = binary.AppendUvarint(dst, uint64(size))
		e.begin(document)
	}
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
			e.scratch = e.append(e.scratch[:0], m.data)
			dst = binary.AppendUvarint(dst, uint64(len(e.scratch)))
			dst = append(dst, e.scratch...)
		}
	}
	return dst
}

// canonicalMembers is a meta as it is compared: what it says of profiles, and
// nothing of how it was written.
func canonicalMembers(b []byte, customer string, document []byte) ([]byte, error) {
	members, place, err := parseMembers(b, customer, document)
	if err != nil {
		return nil, err
	}
	out := []byte{place}
	for i := range members {
		m := &members[i]
		out = binary.AppendUvarint(out, uint64(len(m.profile)))
		out = append(out, m.profile...)
		out = binary.AppendUvarint(out, m.first)
		if m.has {
			out = append(out, 1)
		}
		out = binary.AppendUvarint(out, uint64(len(m.data)))
		out = append(out, m.data...)
	}
	return out, nil
}

// parseMembers reads the meta that lies beside a customer's document.
func parseMembers(b []byte, customer string, document []byte) (members []storedMember, place byte, err error) {
	if len(b) > 0 && b[0] > membersVersion {
		return nil, 0, fmt.Errorf("profiles of customer %s: version %d: %w", customer, b[0], view.ErrNewerFormat)
	}
	p := membersParser{b: b, document: document}
	if members, place = p.parse(customer); members == nil {
		return nil, 0, fmt.Errorf("profiles of customer %s: %w", customer, view.ErrCorrupt)
	}
	return members, place, nil
}

type membersParser struct {
	b, document []byte
	whole       bool
	// documents are those of the profiles, one behind the other.
	documents []byte
}

// parse answers no members where there must be some.
func (p *membersParser) parse(customer string) (members []storedMember, place byte) {
	if len(p.b) < 2 || p.b[1] > placeProfiles {
		return nil, 0
	}
	version, place := p.b[0], p.b[1]
	p.b = p.b[2:]
	switch {
	case version == membersWholeVersion:
		p.whole = true
	case version != membersVersion || place == placeMeta && !p.begin():
		return nil, 0
	}
	for len(p.b) > 0 {
		id, ok := p.cut()
		if !ok {
			return nil, 0
		}
		m := storedMember{profile: customer}
		if len(id) > 0 {
			m.profile = string(id)
		}
		bits, ok := p.uvarint()
		if !ok {
			return nil, 0
		}
		m.first, m.has = bits>>1, bits&1 == 1
		if m.has && place == placeMeta {
			if m.data, ok = p.cutDocument(); !ok {
				return nil, 0
			}
		}
		members = append(members, m)
	}
	return members, place
}

// begin reads what is there for the documents as a whole.
func (p *membersParser) begin() bool {
	if len(p.b) < crc32.Size || binary.LittleEndian.Uint32(p.b) != crc32.Checksum(p.document, castagnoli) {
		return false
	}
	p.b = p.b[crc32.Size:]
	size, ok := p.uvarint()
	if !ok || size > maxMetaDocuments {
		return false
	}
	p.documents = make([]byte, 0, size)
	return true
}

func (p *membersParser) cutDocument() ([]byte, bool) {
	part, ok := p.cut()
	if !ok || p.whole {
		return part, ok
	}
	from := len(p.documents)
	if p.documents, ok = appendWhole(p.documents, part, p.document); !ok {
		return nil, false
	}
	return p.documents[from:len(p.documents):len(p.documents)], true
}

func (p *membersParser) uvarint() (uint64, bool) {
	n, w := binary.Uvarint(p.b)
	if w <= 0 {
		return 0, false
	}
	p.b = p.b[w:]
	return n, true
}

func (p *membersParser) cut() ([]byte, bool) {
	n, ok := p.uvarint()
	if !ok || n > uint64(len(p.b)) {
		return nil, false
	}
	part := p.b[:n:n]
	p.b = p.b[n:]
	return part, true
}
