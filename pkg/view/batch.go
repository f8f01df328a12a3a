package view

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/wire"
)

// Batch gathers what one commit writes. It is not for concurrent use. A
// document of a collection by key is taken once: what is put or deleted last
// counts.
type Batch struct {
	// Checkpoint is committed with the rows. Its Namespace and Token must be
	// those of the generation and of its newest writer.
	Checkpoint Checkpoint

	ops   []Op
	byKey map[opKey]int
	bytes int
}

// Op is one document put or deleted.
type Op struct {
	Collection string
	Key        Key
	// Delete says that the document goes; Row then is what it was, for clustered collections.
	Delete bool
	Row    Row
	// Prior is what the writer knows of the stored document.
	Prior Prior
}

type opKey struct {
	collection string
	key        Key
}

// Prior is what a writer knows of the document that is stored under a key. The
// zero Prior is nothing: the driver then looks. A writer that says something
// false breaks the indexes.
type Prior struct {
	known, exists bool
	terms         Terms
}

// Absent says that nothing is stored under the key.
func Absent() Prior { return Prior{known: true} }

// Was says that a document with these terms is stored.
func Was(terms Terms) Prior { return Prior{known: true, exists: true, terms: terms} }

// Known says whether anything is known.
func (p *Prior) Known() bool { return p.known }

// Exists says whether a document is known to be stored.
func (p *Prior) Exists() bool { return p.exists }

// Terms of the stored document.
func (p *Prior) Terms() *Terms { return &p.terms }

// Put writes a document: marshalled deterministically, with its index entries.
func (b *Batch) Put(c *Collection, key Key, doc proto.Message) error {
	data, err := MarshalDocument(doc)
	if err != nil {
		return fmt.Errorf("put %s of %s: %w", key.ID, c.Name, err)
	}
	terms, err := c.Terms(doc)
	if err != nil {
		return fmt.Errorf("put %s of %s: %w", key.ID, c.Name, err)
	}
	b.add(Op{Collection: c.Name, Key: key, Row: Row{Data: data, Terms: terms}}, !c.Clustered)
	return nil
}

// PutBytes writes an opaque document.
func (b *Batch) PutBytes(collection string, key Key, data []byte) {
	b.add(Op{Collection: collection, Key: key, Row: Row{Data: data}}, true)
}

// PutRow writes a document as it is, with what the writer knows of the one
// stored. The row is not copied.
func (b *Batch) PutRow(collection string, key Key, row Row, prior Prior) {
	b.add(Op{Collection: collection, Key: key, Row: row, Prior: prior}, true)
}

// AppendRow writes a document of a clustered collection. The row is not copied.
func (b *Batch) AppendRow(collection string, key Key, row Row) {
	b.add(Op{Collection: collection, Key: key, Row: row}, false)
}

// Delete removes a document where there is one.
func (b *Batch) Delete(collection string, key Key, prior Prior) {
	b.add(Op{Collection: collection, Key: key, Delete: true, Prior: prior}, true)
}

// DeleteRow removes a document of a clustered collection.
func (b *Batch) DeleteRow(c *Collection, key Key, doc proto.Message) error {
	terms, err := c.Terms(doc)
	if err != nil {
		return fmt.Errorf("delete %s of %s: %w", key.ID, c.Name, err)
	}
	b.add(Op{Collection: c.Name, Key: key, Delete: true, Row: Row{Terms: terms}}, false)
	return nil
}

func (b *Batch) add(op Op, keyed bool) {
	if keyed {
		k := opKey{op.Collection, op.Key}
		if i, again := b.byKey[k]; again {
			op.Prior = b.ops[i].Prior
			b.bytes += op.size() - b.ops[i].size()
			b.ops[i] = op
			return
		}
		if b.byKey == nil {
			b.byKey = map[opKey]int{}
		}
		b.byKey[k] = len(b.ops)
	}
	b.bytes += op.size()
	b.ops = append(b.ops, op)
}

func (op *Op) size() int {
	return len(op.Key.Tenant) + len(op.Key.ID) + len(op.Row.Data) + len(op.Row.Meta) + len(op.Row.Terms.ordered) + 32
}

// Ops are what was put and deleted, for drivers.
func (b *Batch) Ops() []Op { return b.ops }

// Len is the number of documents.
func (b *Batch) Len() int { return len(b.ops) }

// Bytes is about how much there is to write.
func (b *Batch) Bytes() int { return b.bytes }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.ops)
	clear(b.byKey)
	*b = Batch{ops: b.ops[:0], byKey: b.byKey}
}

// MarshalDocument is how documents are stored and hashed: fields in order, map
// keys sorted.
func MarshalDocument(doc proto.Message) ([]byte, error) {
	return AppendDocument(nil, doc)
}

// AppendDocument is MarshalDocument into memory that there is.
func AppendDocument(dst []byte, doc proto.Message) ([]byte, error) {
	out, err := wire.Append(dst, doc)
	if err != nil {
		return dst, fmt.Errorf("marshal document: %w", err)
	}
	return out, nil
}
