package pebbleview

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/view"
)

// The first byte of every key.
const (
	kindNext       = 0x01
	kindGeneration = 0x02
	kindCheckpoint = 0x03
	kindRows       = 0x04
	kindControl    = 0x05
)

// areaDocuments holds a collection's documents; 1+i is that of its i-th index.
const areaDocuments = 0

// What a text index keeps.
const (
	textNumbers  = 'd' // tenant, id → number
	textTexts    = 't' // tenant, number → id and text
	textNext     = 'n' // tenant → next number
	textPostings = 'p' // tenant, gram, block → set of numbers
)

func namespaceKey(ns view.Namespace) []byte {
	k := view.AppendString([]byte{kindGeneration}, ns.Projection)
	k = binary.BigEndian.AppendUint32(k, ns.Version)
	return binary.BigEndian.AppendUint32(k, ns.Generation)
}

func parseNamespaceKey(k []byte) (view.Namespace, error) {
	if len(k) == 0 {
		return view.Namespace{}, fmt.Errorf("generation key: %w", view.ErrCorrupt)
	}
	name, rest, err := view.CutString(k[1:])
	if err != nil || len(rest) != 8 {
		return view.Namespace{}, fmt.Errorf("generation key: %w", errors.Join(view.ErrCorrupt, err))
	}
	return view.Namespace{Projection: name, Version: binary.BigEndian.Uint32(rest), Generation: binary.BigEndian.Uint32(rest[4:])}, nil
}

func formatGeneration(sh *shared) []byte {
	b := binary.BigEndian.AppendUint32(nil, sh.number)
	b = binary.BigEndian.AppendUint64(b, sh.token)
	return append(b, sh.schema...)
}

func parseGeneration(b []byte) (number uint32, token uint64, schema string, err error) {
	if len(b) < 12 {
		return 0, 0, "", fmt.Errorf("generation record of %d bytes: %w", len(b), view.ErrCorrupt)
	}
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:]), string(b[12:]), nil
}

func appendCheckpoint(dst []byte, c *view.Checkpoint) []byte {
	dst = binary.BigEndian.AppendUint64(dst, c.Token)
	dst = append(dst, c.LogID[:]...)
	return binary.BigEndian.AppendUint64(dst, c.Position)
}

func parseCheckpoint(b []byte, ns view.Namespace) (view.Checkpoint, error) {
	if len(b) != 32 {
		return view.Checkpoint{}, fmt.Errorf("checkpoint of %d bytes: %w", len(b), view.ErrCorrupt)
	}
	return view.Checkpoint{
		Namespace: ns,
		Token:     binary.BigEndian.Uint64(b),
		LogID:     uuid.UUID(b[8:24]),
		Position:  binary.BigEndian.Uint64(b[24:]),
	}, nil
}

func checkpointKey(number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kindCheckpoint}, number)
}

// appendArea begins the key of a row.
func appendArea(dst []byte, number uint32, collection, area uint8) []byte {
	return append(binary.BigEndian.AppendUint32(append(dst, kindRows), number), collection, area)
}

func appendDocumentKey(dst []byte, number uint32, collection uint8, key view.Key) []byte {
	dst = view.AppendString(appendArea(dst, number, collection, areaDocuments), key.Tenant)
	return append(dst, key.ID...)
}

func appendTupleKey(dst []byte, number uint32, collection, area uint8, key view.Key, tuple []byte) []byte {
	dst = view.AppendString(appendArea(dst, number, collection, area), key.Tenant)
	return append(append(dst, tuple...), key.ID...)
}

func appendTextArea(dst []byte, number uint32, collection, index, part uint8, tenant string) []byte {
	return view.AppendString(append(appendArea(dst, number, collection, 1+index), part), tenant)
}

func appendPostingKey(dst []byte, number uint32, at numberKey, gram uint16, block uint32) []byte {
	dst = appendTextArea(dst, number, at.collection, at.index, textPostings, at.tenant)
	dst = binary.BigEndian.AppendUint16(dst, gram)
	return binary.BigEndian.AppendUint32(dst, block)
}

// successor is the least key greater than all that begin with prefix; nil
// where there is none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			next := append([]byte(nil), prefix[:i+1]...)
			next[i]++
			return next
		}
	}
	return nil
}

// A document's value is the length of its meta, uvarint, its meta, its terms,
// and its bytes. A clustered one's terms are left out: nothing ever asks for them.
func appendRow(dst []byte, row *view.Row) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(row.Meta)))
	dst = append(dst, row.Meta...)
	dst = row.Terms.AppendBinary(dst)
	return append(dst, row.Data...)
}

// parseRow shares b's memory.
func parseRow(b []byte) (view.Row, error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return view.Row{}, fmt.Errorf("row: %w", view.ErrCorrupt)
	}
	b = b[w:]
	row := view.Row{}
	if n > 0 {
		row.Meta = b[:n:n]
	}
	var err error
	if row.Terms, row.Data, err = view.CutTerms(b[n:]); err != nil {
		return view.Row{}, fmt.Errorf("row: %w", err)
	}
	return row, nil
}

// getRow reads a row; it lives in memory of its own. pebble.ErrNotFound stays recognisable.
func getRow(r pebble.Reader, key []byte) (view.Row, error) {
	value, closer, err := r.Get(key)
	if err != nil {
		return view.Row{}, err
	}
	row, err := parseRow(append(make([]byte, 0, len(value)), value...))
	return row, errors.Join(err, closer.Close())
}

// rowData is the document's part of a row, without allocating.
func rowData(b []byte) ([]byte, error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, fmt.Errorf("row: %w", view.ErrCorrupt)
	}
	return view.SkipTerms(b[w+int(n):])
}
