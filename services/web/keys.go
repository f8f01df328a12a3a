package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/parleyhq/parley/pkg/credential"
)

// Keys know the write keys. Lookup takes the same time for any key of a
// length; called concurrently.
type Keys interface {
	Lookup(writeKey string) (Key, bool)
}

// Key is what a write key stands for.
type Key struct {
	// Tenant that the events belong to.
	Tenant string
	// Source within the tenant, for example `shop`. Events have it as `web/shop`.
	Source string
	// DefaultRegion of phone numbers without a country code, ISO 3166, for
	// example `AT`. Defaults to none: the recorder's rules decide.
	DefaultRegion string
	// DefaultCurrency of amounts without one, ISO 4217. Defaults to none: such
	// amounts stay in the properties only.
	DefaultCurrency string
	// RatePerSecond is how many events a second it may send on average.
	// Defaults to Config.EventsPerSecond.
	RatePerSecond float64

	// webSource is Source as events have it, made once.
	webSource string
}

// MaxWriteKeyBytes is the longest write key that is looked at.
const MaxWriteKeyBytes = 256

// source is the event's source.
func (k *Key) source() string {
	if k.webSource == "" {
		k.webSource = sourcePrefix + k.Source
	}
	return k.webSource
}

const (
	sourcePrefix = "web/"
	// maxSource leaves room for the prefix under the envelope's 256 characters.
	maxSource = 200
)

// KeyTable is a fixed set of write keys.
type KeyTable struct {
	// Looked up by digest: nobody can choose a key by its digest, so that the
	// time that a lookup takes says nothing about the keys.
	byDigest map[[sha256.Size]byte]tableEntry
}

type tableEntry struct {
	writeKey string
	key      Key
}

// NewKeyTable checks the keys. All that is wrong with them is in the error,
// which names the sources and not the keys.
func NewKeyTable(keys map[string]Key) (*KeyTable, error) {
	t := &KeyTable{byDigest: make(map[[sha256.Size]byte]tableEntry, len(keys))}
	var errs []error
	for writeKey, key := range keys {
		switch {
		case writeKey == "" || len(writeKey) > MaxWriteKeyBytes:
			errs = append(errs, fmt.Errorf("write key of source %q: want 1 to %d bytes, has %d", key.Source, MaxWriteKeyBytes, len(writeKey)))
		case credential.CheckTenant(key.Tenant) != nil:
			errs = append(errs, fmt.Errorf("write key of source %q: %w", key.Source, credential.CheckTenant(key.Tenant)))
		case key.Source == "" || len(key.Source) > maxSource:
			errs = append(errs, fmt.Errorf("write key of tenant %q: the source needs 1 to %d bytes", key.Tenant, maxSource))
		case key.RatePerSecond < 0:
			errs = append(errs, fmt.Errorf("write key of source %q: a rate cannot be negative", key.Source))
		default:
			t.byDigest[sha256.Sum256([]byte(writeKey))] = tableEntry{writeKey: writeKey, key: key}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("write keys: %w", err)
	}
	return t, nil
}

// Lookup finds a key.
func (t *KeyTable) Lookup(writeKey string) (Key, bool) {
	if len(writeKey) > MaxWriteKeyBytes {
		return Key{}, false
	}
	entry, ok := t.byDigest[sha256.Sum256([]byte(writeKey))]
	if !ok || subtle.ConstantTimeCompare([]byte(entry.writeKey), []byte(writeKey)) != 1 {
		return Key{}, false
	}
	return entry.key, true
}
