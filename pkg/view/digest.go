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
		d.Collections[i].Name = c.Name
		hasher := documentHasher{hash: sha256.New()}
		for entry, err := range r.Scan(ctx, c.Name, "") {
			if err != nil {
				return Digest{}, fmt.Errorf("digest of %s: %w", c.Name, err)
			}
			if err := hasher.add(&d.Collections[i], c, entry); err != nil {
				return Digest{}, fmt.Errorf("digest of %s: document %s of tenant %s: %w", c.Name, entry.Key.ID, entry.Key.Tenant, err)
			}
		}
	}
	return d, nil
}

type documentHasher struct {
	hash hash.Hash
	buf  []byte
	doc  proto.Message
}

func (h *documentHasher) add(d *CollectionDigest, c *Collection, entry Entry) error {
	data := entry.Data
	if c.New != nil {
		if h.doc == nil {
			h.doc = c.New()
		}
		if err := proto.Unmarshal(entry.Data, h.doc); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		var err error
		if h.buf, err = AppendDocument(h.buf[:0], h.doc); err != nil {
			return err
		}
		data = h.buf
	}
	h.hash.Reset()
	for _, part := range [][]byte{[]byte(entry.Key.Tenant), []byte(entry.Key.ID), entry.Meta, data} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		// Writes to a hash never fail.
		_, _ = h.hash.Write(size[:])
		_, _ = h.hash.Write(part)
	}
	var sum [sha256.Size]byte
	addModulo(&d.Sum, h.hash.Sum(sum[:0]))
	d.Documents++
	return nil
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
