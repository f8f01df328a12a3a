package view

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"

	"google.golang.org/protobuf/proto"
)

// Digest is a canonical hash over the documents of a generation.
type Digest struct {
	// Collections in the order of their declaration.
	Collections []CollectionDigest
}

// CollectionDigest is that of one collection.
type CollectionDigest struct {
	Name string
	// Documents counts them.
	Documents int64
	// Sum is the sum, modulo 2^256, of the SHA-256 of each document with its
	// key, so that it does not depend on order.
	Sum [sha256.Size]byte
}

// String is the digest of everything in hexadecimal.
func (d Digest) String() string {
	h := sha256.New()
	for i := range d.Collections {
		c := &d.Collections[i]
		// Writes to a hash never fail.
		_, _ = fmt.Fprintf(h, "%s %d %x\n", c.Name, c.Documents, c.Sum)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ComputeDigest computes the digest of what a reader sees, for drivers. The
// documents are parsed and marshalled again, so a driver may store them in
// another form.
func ComputeDigest(ctx context.Context, r Reader, collections []Collection) (Digest, error) {
	d := Digest{Collections: make([]CollectionDigest, len(collections))}
	for i := range collections {
		c := &collections[i]
		sum := NewDigester(c)
		for entry, err := range r.Scan(ctx, c.Name, "") {
			if err != nil {
				return Digest{}, fmt.Errorf("digest of %s: %w", c.Name, err)
			}
			if _, err := sum.Add(entry); err != nil {
				return Digest{}, fmt.Errorf("digest of %s: %w", c.Name, err)
			}
		}
		d.Collections[i] = sum.Sum()
	}
	return d, nil
}

// Digester sums up the documents of a collection. It is not for concurrent use.
type Digester struct {
	collection *Collection
	sum        CollectionDigest
	hash       hash.Hash
	buf        []byte
	doc        proto.Message
}

// NewDigester begins a digest.
func NewDigester(c *Collection) *Digester {
	return &Digester{collection: c, sum: CollectionDigest{Name: c.Name}, hash: sha256.New()}
}

// Sum is the digest of what was added so far.
func (d *Digester) Sum() CollectionDigest { return d.sum }

// Add adds a document, and returns its bytes in canonical form, valid until the
// next call.
func (d *Digester) Add(entry Entry) ([]byte, error) {
	data := entry.Data
	if d.collection.New != nil {
		if d.doc == nil {
			d.doc = d.collection.New()
		}
		if err := proto.Unmarshal(entry.Data, d.doc); err != nil {
			return nil, fmt.Errorf("document %s of tenant %s: %w: %w", entry.Key.ID, entry.Key.Tenant, ErrCorrupt, err)
		}
		var err error
		if d.buf, err = AppendDocument(d.buf[:0], d.doc); err != nil {
			return nil, fmt.Errorf("document %s of tenant %s: %w", entry.Key.ID, entry.Key.Tenant, err)
		}
		data = d.buf
	}
	d.hash.Reset()
	for _, part := range [][]byte{[]byte(entry.Key.Tenant), []byte(entry.Key.ID), entry.Meta, data} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		// Writes to a hash never fail.
		_, _ = d.hash.Write(size[:])
		_, _ = d.hash.Write(part)
	}
	var sum [sha256.Size]byte
	addModulo(&d.sum.Sum, d.hash.Sum(sum[:0]))
	d.sum.Documents++
	return data, nil
}

// addModulo adds a big-endian number of 256 bits to another.
func addModulo(sum *[sha256.Size]byte, n []byte) {
	carry := 0
	for i := len(sum) - 1; i >= 0; i-- {
		carry += int(sum[i]) + int(n[i])
		sum[i] = byte(carry)
		carry >>= 8
	}
}
