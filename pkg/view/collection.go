package view

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// Collection declares documents of one kind.
type Collection struct {
	// Name is 1 to 64 characters: lower case letters, digits, underscores; unique within the projection.
	Name string
	// New makes an empty document. A collection without it holds opaque bytes
	// and has no indexes.
	New func() proto.Message
	// Indexes by which documents are found.
	Indexes []Index
	// Clustered keeps the documents in the order of the first index instead of
	// by key: for rows that are written once, one for each event, and only
	// ever listed. That index is Ordered, gives exactly one tuple for a
	// document, and a document put again must give the same tuples as before.
	// There is no Get and no Delete by key alone.
	Clustered bool
}

// Index declares how documents of a collection are found.
type Index struct {
	// Name as Collection.Name; unique within the collection.
	Name string
	Kind IndexKind
	// Columns of an Ordered index, 1 to 8, of which at most 3 are strings or
	// bytes: what all drivers can hold. A Text index has none.
	Columns []ColumnType
	// Extract gives the document's entries: for an Ordered index any number of
	// tuples of the declared columns, for a Text index tuples of strings, which
	// are searched as one text each. It is a pure function of the document,
	// does not keep or change it, and may be called from several goroutines.
	Extract func(doc proto.Message) []Tuple
}

// IndexKind says what an index can do.
type IndexKind uint8

// The kinds of indexes.
const (
	// Ordered finds by equality and range, in order.
	Ordered IndexKind = iota
	// Text finds by parts of words.
	Text
)

// ColumnType is the type of an index column.
type ColumnType uint8

// The types of columns.
const (
	// ColumnString orders by bytes.
	ColumnString ColumnType = iota + 1
	// ColumnInt64 orders by value.
	ColumnInt64
	// ColumnTime orders by instant, in microseconds.
	ColumnTime
	// ColumnBytes orders by bytes.
	ColumnBytes
)

// String names the type.
func (t ColumnType) String() string {
	switch t {
	case ColumnString:
		return "string"
	case ColumnInt64:
		return "int64"
	case ColumnTime:
		return "time"
	case ColumnBytes:
		return "bytes"
	default:
		return fmt.Sprintf("ColumnType(%d)", uint8(t))
	}
}

var validName = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// Validate checks a control record before it is saved. The error wraps ErrInvalid.
func (c *Control) Validate() error {
	if len(c.Data) > MaxControlBytes {
		return fmt.Errorf("control record of %d bytes, at most %d: %w", len(c.Data), MaxControlBytes, ErrInvalid)
	}
	return nil
}

const (
	maxColumns     = 8
	maxLongColumns = 3
	maxIndexes     = 32
	maxCollections = 64
)

// Validate checks a namespace. The error wraps ErrInvalid.
func (n Namespace) Validate() error {
	if !validName.MatchString(n.Projection) {
		return fmt.Errorf("projection name %q: %w", n.Projection, ErrInvalid)
	}
	return nil
}

// ValidateCollections checks what every driver requires of the declarations.
// The error wraps ErrInvalid.
func ValidateCollections(collections []Collection) error {
	if len(collections) == 0 || len(collections) > maxCollections {
		return fmt.Errorf("%d collections, want 1 to %d: %w", len(collections), maxCollections, ErrInvalid)
	}
	seen := map[string]bool{}
	for i := range collections {
		c := &collections[i]
		if seen[c.Name] {
			return fmt.Errorf("collection %q twice: %w", c.Name, ErrInvalid)
		}
		seen[c.Name] = true
		if err := c.validate(); err != nil {
			return fmt.Errorf("collection %q: %w: %w", c.Name, ErrInvalid, err)
		}
	}
	return nil
}

func (c *Collection) validate() error {
	if !validName.MatchString(c.Name) {
		return errors.New("malformed name")
	}
	if c.New == nil && len(c.Indexes) > 0 {
		return errors.New("opaque documents cannot have indexes")
	}
	if len(c.Indexes) > maxIndexes {
		return fmt.Errorf("%d indexes, at most %d", len(c.Indexes), maxIndexes)
	}
	if c.Clustered && (len(c.Indexes) == 0 || c.Indexes[0].Kind != Ordered) {
		return errors.New("clustered without an ordered first index")
	}
	seen := map[string]bool{}
	for i := range c.Indexes {
		index := &c.Indexes[i]
		if seen[index.Name] {
			return fmt.Errorf("index %q twice", index.Name)
		}
		seen[index.Name] = true
		if err := index.validate(); err != nil {
			return fmt.Errorf("index %q: %w", index.Name, err)
		}
		if c.Clustered && index.Kind == Text {
			return fmt.Errorf("index %q: clustered collections have no text indexes", index.Name)
		}
	}
	return nil
}

func (x *Index) validate() error {
	switch {
	case !validName.MatchString(x.Name):
		return errors.New("malformed name")
	case x.Extract == nil:
		return errors.New("no Extract")
	case x.Kind > Text:
		return fmt.Errorf("unknown kind %d", x.Kind)
	case x.Kind == Text && len(x.Columns) > 0:
		return errors.New("a text index has no columns")
	case x.Kind == Ordered && (len(x.Columns) == 0 || len(x.Columns) > maxColumns):
		return fmt.Errorf("%d columns, want 1 to %d", len(x.Columns), maxColumns)
	}
	long := 0
	for _, t := range x.Columns {
		switch t {
		case ColumnInt64, ColumnTime:
		case ColumnString, ColumnBytes:
			long++
		default:
			return fmt.Errorf("unknown column type %d", t)
		}
	}
	if long > maxLongColumns {
		return fmt.Errorf("%d columns of strings or bytes, at most %d", long, maxLongColumns)
	}
	return nil
}

// Schema describes the collections' shape in one line each, for drivers to
// remember and compare: what differs in it makes stored rows unreadable.
func Schema(collections []Collection) string {
	var b strings.Builder
	for i := range collections {
		c := &collections[i]
		b.WriteString(c.Name)
		if c.New == nil {
			b.WriteString(" opaque")
		} else {
			b.WriteString(" " + string(c.New().ProtoReflect().Descriptor().FullName()))
		}
		if c.Clustered {
			b.WriteString(" clustered")
		}
		for j := range c.Indexes {
			index := &c.Indexes[j]
			b.WriteString(" " + index.Name + "(")
			if index.Kind == Text {
				b.WriteString("text")
			}
			for k, t := range index.Columns {
				if k > 0 {
					b.WriteString(",")
				}
				b.WriteString(t.String())
			}
			b.WriteString(")")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Validate checks a key. The error wraps ErrInvalid.
func (k Key) Validate() error {
	if k.ID == "" || len(k.ID) > MaxKeyBytes || len(k.Tenant) > MaxKeyBytes {
		return fmt.Errorf("key of %d and %d bytes, want an id of 1 to %d and a tenant of at most as many: %w", len(k.Tenant), len(k.ID), MaxKeyBytes, ErrInvalid)
	}
	if strings.IndexByte(k.ID, 0) >= 0 || strings.IndexByte(k.Tenant, 0) >= 0 {
		return fmt.Errorf("key with U+0000: %w", ErrInvalid)
	}
	if !utf8.ValidString(k.ID) || !utf8.ValidString(k.Tenant) {
		return fmt.Errorf("key is not UTF-8: %w", ErrInvalid)
	}
	return nil
}
