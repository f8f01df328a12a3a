package pgview

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/parleyhq/parley/pkg/view"
)

// copyRows makes rows in the binary format of COPY, some at a time, while the
// server works on those before.
type copyRows struct {
	n int
	// row appends the i-th row.
	row func(b *copyBuffer, i int) error

	b    copyBuffer
	at   int
	next int
	err  error
}

// copyChunk is about how many bytes of rows are made at a time.
const copyChunk = 64 << 10

var _ io.Reader = (*copyRows)(nil)

// Read is io.Reader's.
func (r *copyRows) Read(p []byte) (int, error) {
	if r.at == len(r.b.data) {
		if err := r.fill(); err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			return 0, err
		}
	}
	n := copy(p, r.b.data[r.at:])
	r.at += n
	return n, nil
}

func (r *copyRows) fill() error {
	r.b.data, r.at = r.b.data[:0], 0
	switch {
	case r.next == 0:
		// Signature, flags, length of an extension.
		r.b.data = append(r.b.data, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	case r.next > r.n:
		return io.EOF
	}
	for r.next < r.n && len(r.b.data) < copyChunk {
		if err := r.row(&r.b, r.next); err != nil {
			return err
		}
		r.next++
	}
	if r.next == r.n {
		r.b.data = binary.BigEndian.AppendUint16(r.b.data, 0xffff)
		r.next++
	}
	return nil
}

// copyBuffer takes a row's fields.
type copyBuffer struct {
	data []byte
	// scratch is memory for making fields.
	scratch []byte
	grams   []int32
}

func (b *copyBuffer) fields(n int) { b.data = binary.BigEndian.AppendUint16(b.data, uint16(n)) }

func (b *copyBuffer) null() { b.data = binary.BigEndian.AppendUint32(b.data, 0xffffffff) }

func (b *copyBuffer) bytes(v []byte) {
	b.data = append(binary.BigEndian.AppendUint32(b.data, uint32(len(v))), v...)
}

func (b *copyBuffer) text(v string) {
	b.data = append(binary.BigEndian.AppendUint32(b.data, uint32(len(v))), v...)
}

func (b *copyBuffer) int32(v int32) {
	b.data = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b.data, 4), uint32(v))
}

func (b *copyBuffer) int64(v int64) {
	b.data = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b.data, 8), uint64(v))
}

// epoch is that of Postgres, 2000-01-01, in microseconds of Unix.
const epoch = 946_684_800_000_000

// tuple adds an encoded tuple's fields.
func (b *copyBuffer) tuple(tuple []byte, columns []column) error {
	for _, c := range columns {
		if c.typ == view.ColumnString || c.typ == view.ColumnBytes {
			// Most have no escapes: what is before the end is the value.
			if i := bytes.IndexByte(tuple, 0); i >= 0 && i+1 < len(tuple) && tuple[i+1] == 1 {
				b.bytes(tuple[:i])
				tuple = tuple[i+2:]
				continue
			}
		}
		v, rest, err := view.CutValue(tuple, c.typ)
		if err != nil {
			return err
		}
		switch c.typ {
		case view.ColumnInt64:
			b.int64(v.AsInt64())
		case view.ColumnTime:
			b.int64(v.AsTime().UnixMicro() - epoch)
		default:
			b.text(v.AsString())
		}
		tuple = rest
	}
	return nil
}

// json adds a jsonb field of what encode appends.
func (b *copyBuffer) json(encode func(dst []byte) ([]byte, error)) error {
	from := len(b.data)
	// Its length, its version, and its text.
	out, err := encode(append(b.data, 0, 0, 0, 0, 1))
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(out[from:], uint32(len(out)-from-4))
	b.data = out
	return nil
}

// int4 is the type of an array's elements.
const int4 = 23

// ints adds an array of numbers.
func (b *copyBuffer) ints(v []int32) {
	header := 12
	if len(v) > 0 {
		header += 8
	}
	b.data = binary.BigEndian.AppendUint32(b.data, uint32(header+8*len(v)))
	dimensions := uint32(min(len(v), 1))
	for _, n := range []uint32{dimensions, 0, int4} {
		b.data = binary.BigEndian.AppendUint32(b.data, n)
	}
	if len(v) > 0 {
		b.data = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b.data, uint32(len(v))), 1)
	}
	for _, n := range v {
		b.int32(n)
	}
}
