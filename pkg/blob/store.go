package blob

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Store keeps objects under names. All methods may be called concurrently.
// Names are those of Name; what is none is ErrInvalid before anything happens.
type Store interface {
	// Put keeps exactly size bytes of content under the name, durably and whole
	// or not at all, in place of what was there. The same content again is
	// harmless and renews Info.Modified. Content that has fewer or more bytes is
	// ErrInvalid, more than the store takes ErrTooLarge. Content is read once,
	// in pieces, and not after Put returned.
	Put(ctx context.Context, name string, content io.Reader, size int64) error
	// Open gives the object and its size in bytes; ErrNotFound where there is
	// none. The caller closes it. The context covers the reading too. Reads fail
	// with the errors of this package. One object may be read by one goroutine.
	Open(ctx context.Context, name string) (io.ReadCloser, int64, error)
	// Delete removes the object durably. One that is not there is no error.
	Delete(ctx context.Context, name string) error
	// List gives the objects whose names begin with the prefix and come after
	// `after`, in the order of the names' bytes. The prefix is empty, `<tenant>/`
	// or `<tenant>/<2 hex>/`; after is empty or a name, so that a long listing
	// can go on where it failed. What is put or deleted meanwhile may or may not
	// be there. An error is the last thing that is given.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]
	// Close frees what the store holds. Calls afterwards are ErrClosed; objects
	// that are open may still be read.
	Close() error
}

// Info is what a listing says about an object.
type Info struct {
	Name string
	// Size in bytes as kept: with the overhead of the encryption.
	Size int64
	// Modified is when the object was put the last time, by the store's clock.
	Modified time.Time
}

const (
	// idDigits is the length of an id: 20 bytes in hexadecimal.
	idDigits = 40
	// maxTenant is the bound of the tenant in the contracts, in characters.
	maxTenant = 40
	// MaxName is the longest name in bytes.
	MaxName = maxTenant + 1 + 2 + 1 + idDigits
)

// Name is the name of an object: `<tenant>/<first 2 of id>/<id>`. The middle
// part spreads the objects of a tenant over 256 folders. Tenant is as in the
// envelope, id 40 lower case hexadecimal digits; else the name will be refused.
func Name(tenant, id string) string { return tenant + "/" + id[:min(2, len(id))] + "/" + id }

// CheckName says whether a name is one that Name makes of valid parts: ErrInvalid
// otherwise. Nothing that passes leaves the folder or bucket it is used in.
func CheckName(name string) error {
	tenant, rest, _ := strings.Cut(name, "/")
	shard, id, _ := strings.Cut(rest, "/")
	if !validTenant(tenant) || len(id) != idDigits || !isHex(id) || shard != id[:2] {
		return fmt.Errorf("name %.100q: %w", name, ErrInvalid)
	}
	return nil
}

// CheckListing says whether List takes prefix and after: ErrInvalid otherwise.
func CheckListing(prefix, after string) error {
	if after != "" {
		if err := CheckName(after); err != nil {
			return fmt.Errorf("list after: %w", err)
		}
	}
	if prefix == "" {
		return nil
	}
	rest, whole := strings.CutSuffix(prefix, "/")
	tenant, shard, deep := strings.Cut(rest, "/")
	if !whole || !validTenant(tenant) || deep && (len(shard) != 2 || !isHex(shard)) {
		return fmt.Errorf("prefix %.100q: %w", prefix, ErrInvalid)
	}
	return nil
}

// validTenant is the pattern of the envelope: ^[a-z0-9][a-z0-9_]{0,39}$.
func validTenant(s string) bool {
	if s == "" || len(s) > maxTenant || s[0] == '_' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
