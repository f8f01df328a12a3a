package credential

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/tenant"
)

// Prefix of every API key; secret scanners look for it.
const Prefix = "parley_"

// hashPrefix names how a key was hashed.
const hashPrefix = "sha256:"

// secretBytes of randomness are in a key.
const secretBytes = 32

// MaxBytes is the longest key that is looked at.
const MaxBytes = 512

// Key is an API key as a configuration holds it.
type Key struct {
	// Name of the key for people and logs, unique, for example `shop-backend`.
	Name string
	// Hash of the key: `sha256:` and 64 hexadecimal digits, as `parley key new` prints it.
	Hash string
	// Tenant that calls with it belong to.
	Tenant string
	// Source that interactions recorded with it come from. Defaults to the name.
	Source string
	// Scopes that it allows: record, read, ops. At least one.
	Scopes []string
}

// Keys are all API keys of a configuration.
type Keys struct {
	// byDigest may be an ordinary map although its lookups are not constant
	// in time: what they compare is the digest of what was presented, and
	// nobody can choose a key by its digest.
	byDigest map[[sha256.Size]byte]tenant.Identity
}

// NewKeys checks the keys. All that is wrong with them is in the error.
func NewKeys(keys []Key) (*Keys, error) {
	k := &Keys{byDigest: make(map[[sha256.Size]byte]tenant.Identity, len(keys))}
	names := map[string]bool{}
	var errs []error
	for i, key := range keys {
		digest, id, err := key.check()
		if err == nil && names[key.Name] {
			err = errors.New("another key has this name")
		}
		if _, twice := k.byDigest[digest]; err == nil && twice {
			err = errors.New("another key has this hash")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("API key %d (%q): %w", i+1, key.Name, err))
			continue
		}
		names[key.Name] = true
		k.byDigest[digest] = id
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return k, nil
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	// tenantPattern is that of the event's envelope.
	tenantPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_]{0,39}$`)
	sourcePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./:-]{0,255}$`)
)

// CheckTenant says what is wrong with a tenant's name. Those that Parley keeps
// for itself are no tenant's (event.ReservedTenant): no credential is for one.
func CheckTenant(name string) error {
	if reason, reserved := event.ReservedTenant(name); reserved {
		return fmt.Errorf("tenant %q: %s", name, reason)
	}
	if !tenantPattern.MatchString(name) {
		return fmt.Errorf("tenant %q: want 1 to 40 lower case letters, digits and underscores", name)
	}
	return nil
}

// CheckSource says what is wrong with a source's name.
func CheckSource(name string) error {
	if !sourcePattern.MatchString(name) {
		return fmt.Errorf("source %q: want 1 to 256 letters, digits and any of _ . / : -", name)
	}
	return nil
}

func (k Key) check() ([sha256.Size]byte, tenant.Identity, error) {
	var digest [sha256.Size]byte
	if !namePattern.MatchString(k.Name) {
		return digest, tenant.Identity{}, errors.New("name: want 1 to 64 letters, digits and any of _ . -")
	}
	text, ok := strings.CutPrefix(k.Hash, hashPrefix)
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size {
		return digest, tenant.Identity{}, errors.New("hash: want sha256: and 64 hexadecimal digits, as `parley key new` prints it")
	}
	copy(digest[:], raw)
	if err := CheckTenant(k.Tenant); err != nil {
		return digest, tenant.Identity{}, err
	}
	source := k.Source
	if source == "" {
		source = k.Name
	}
	if err := CheckSource(source); err != nil {
		return digest, tenant.Identity{}, err
	}
	scopes, err := tenant.ParseScopes(k.Scopes)
	if err != nil {
		return digest, tenant.Identity{}, err
	}
	if scopes == tenant.None {
		return digest, tenant.Identity{}, fmt.Errorf("no scopes; there are %s", strings.Join(tenant.All.Names(), ", "))
	}
	return digest, tenant.Identity{Tenant: k.Tenant, Source: source, Scopes: scopes, Credential: k.Name}, nil
}

// Empty says that there are no keys.
func (k *Keys) Empty() bool { return k == nil || len(k.byDigest) == 0 }

// Identify says for whom a presented key stands; false for an unknown one.
func (k *Keys) Identify(key string) (tenant.Identity, bool) {
	if k == nil || key == "" || len(key) > MaxBytes {
		return tenant.Identity{}, false
	}
	id, ok := k.byDigest[sha256.Sum256([]byte(key))]
	return id, ok
}

// Bearer takes the key out of the value of an Authorization header.
func Bearer(header string) (string, bool) {
	const scheme = "bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	key := strings.TrimSpace(header[len(scheme):])
	return key, key != ""
}

// Generate makes a new key out of random bytes and its hash for the
// configuration.
func Generate(random io.Reader) (key, hash string, err error) {
	var secret [secretBytes]byte
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return "", "", fmt.Errorf("read random bytes for a key: %w", err)
	}
	key = Prefix + base64.RawURLEncoding.EncodeToString(secret[:])
	return key, Hash(key), nil
}

// Hash is what a configuration holds of a key.
func Hash(key string) string {
	digest := sha256.Sum256([]byte(key))
	return hashPrefix + hex.EncodeToString(digest[:])
}
