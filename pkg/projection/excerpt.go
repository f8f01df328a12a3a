package projection

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	"google.golang.org/protobuf/encoding/protowire"
)

// excerpter writes documents as what they have in common with another one: a
// profile's document lies beside its customer's, which says most of it in the
// same bytes. Fields of the outermost message that are the same in both are
// written as a reference; all else as it is.
//
// A document is a list of parts: uvarint(length<<1) and the bytes, or
// uvarint(length<<1|1) and uvarint(offset in the other document).
type excerpter struct {
	seed   maphash.Seed
	base   []byte
	fields []baseField
	// table has the fields' numbers, from 1, by their hash; its length is a power of two.
	table []int32
	// scratch is of whoever appends.
	scratch []byte
}

type baseField struct {
	hash     uint64
	from, to int
}

// leastShared is the size from which on a field is worth a reference.
const leastShared = 16

// begin sets the document to which those that follow refer.
func (e *excerpter) begin(base []byte) {
	if e.seed == (maphash.Seed{}) {
		e.seed = maphash.MakeSeed()
	}
	e.base, e.fields = base, e.fields[:0]
	for from := 0; from < len(base); {
		n := fieldSize(base[from:])
		if n >= leastShared {
			e.fields = append(e.fields, baseField{hash: maphash.Bytes(e.seed, base[from:from+n]), from: from, to: from + n})
		}
		from += n
	}
	size := 16
	for size < 2*len(e.fields) {
		size *= 2
	}
	if cap(e.table) < size {
		e.table = make([]int32, size)
	}
	e.table = e.table[:size]
	clear(e.table)
	for i := range e.fields {
		at := e.fields[i].hash
		for e.table[at&uint64(size-1)] != 0 {
			at++
		}
		e.table[at&uint64(size-1)] = int32(i + 1)
	}
}

// fieldSize is the size of the field that b begins with, or of all of b where
// that is none.
func fieldSize(b []byte) int {
	if _, _, n := protowire.ConsumeField(b); n > 0 {
		return n
	}
	return len(b)
}

// find says where the base has the same field.
func (e *excerpter) find(field []byte) (offset int, found bool) {
	hash := maphash.Bytes(e.seed, field)
	mask := uint64(len(e.table) - 1)
	for at := hash; e.table[at&mask] != 0; at++ {
		f := &e.fields[e.table[at&mask]-1]
		if f.hash == hash && bytes.Equal(e.base[f.from:f.to], field) {
			return f.from, true
		}
	}
	return 0, false
}

// append writes a document.
func (e *excerpter) append(dst, doc []byte) []byte {
	// The part at hand: of the document from start, at offset in the base if shared.
	start, offset, shared := 0, 0, false
	end := func(at int) {
		if at == start {
			return
		}
		size := uint64(at-start) << 1
		if shared {
			dst = binary.AppendUvarint(dst, size|1)
			dst = binary.AppendUvarint(dst, uint64(offset))
		} else {
			dst = binary.AppendUvarint(dst, size)
			dst = append(dst, doc[start:at]...)
		}
		start = at
	}
	for at := 0; at < len(doc); {
		n := fieldSize(doc[at:])
		found, same := 0, false
		if n >= leastShared {
			found, same = e.find(doc[at : at+n])
		}
		if same != shared || same && found != offset+at-start {
			end(at)
			shared, offset = same, found
		}
		at += n
	}
	end(len(doc))
	return dst
}

// appendWhole appends the document that was written as b beside base; false
// where it cannot have been.
func appendWhole(dst, b, base []byte) ([]byte, bool) {
	for len(b) > 0 {
		bits, w := binary.Uvarint(b)
		if w <= 0 {
			return dst, false
		}
		b = b[w:]
		size := bits >> 1
		if bits&1 == 0 {
			if size > uint64(len(b)) {
				return dst, false
			}
			dst, b = append(dst, b[:size]...), b[size:]
			continue
		}
		offset, w := binary.Uvarint(b)
		if w <= 0 || offset > uint64(len(base)) || size > uint64(len(base))-offset {
			return dst, false
		}
		dst, b = append(dst, base[offset:offset+size]...), b[w:]
	}
	return dst, true
}
