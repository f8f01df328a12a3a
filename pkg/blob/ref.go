package blob

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unique"
)

// Ref says which blob, and holds its key. Two are == where they are the same.
// However a Ref is printed, logged or marshalled it shows no key; Text alone
// has it, and belongs into an encrypted payload and nowhere else.
type Ref struct {
	id  string
	key hiddenKey
}

// key is one of AES-256.
type key [32]byte

// hiddenKey keeps a key out of reach of fmt, which asks no method of an
// unexported field but prints what is in it: of a handle, a pointer inside, the
// address. Where the verb is a wrong one it follows one pointer, not two.
type hiddenKey struct {
	handle unique.Handle[unique.Handle[key]]
}

func hideKey(k key) hiddenKey { return hiddenKey{unique.Make(unique.Make(k))} }

func (h hiddenKey) reveal() key { return h.handle.Value().Value() }

const (
	refVersion = "blob1"
	// MaxRefText is the length of every Ref's text, in characters.
	MaxRefText = len(refVersion) + 1 + idDigits + 1 + 43
)

// ParseRef reads what Text gave. A reference has one spelling; anything else is
// ErrInvalid, with an error that does not repeat it.
func ParseRef(text string) (Ref, error) {
	if len(text) != MaxRefText {
		return Ref{}, fmt.Errorf("blob reference of %d characters: %w", len(text), ErrInvalid)
	}
	version, rest, _ := strings.Cut(text, ".")
	id, keyText, _ := strings.Cut(rest, ".")
	if version != refVersion || len(id) != idDigits || !isHex(id) {
		return Ref{}, fmt.Errorf("blob reference of another form: %w", ErrInvalid)
	}
	raw, err := base64.RawURLEncoding.DecodeString(keyText)
	if err != nil || len(raw) != len(key{}) {
		return Ref{}, fmt.Errorf("blob reference %s: its key is not one: %w", id, ErrInvalid)
	}
	r := Ref{id: id, key: hideKey(key(raw))}
	// The decoder passes over line breaks and spare bits.
	if r.Text() != text {
		return Ref{}, fmt.Errorf("blob reference %s: its key is misspelt: %w", id, ErrInvalid)
	}
	return r, nil
}

func newRef(id [idDigits / 2]byte, k key) Ref {
	return Ref{id: hex.EncodeToString(id[:]), key: hideKey(k)}
}

// Text is the reference with its key, 90 characters: `blob1.<id>.<key>`, the id
// in hexadecimal, the key in base64url without padding. Empty for the zero Ref.
func (r Ref) Text() string {
	if r.IsZero() {
		return ""
	}
	k := r.key.reveal()
	return refVersion + "." + r.id + "." + base64.RawURLEncoding.EncodeToString(k[:])
}

// ID names the blob within its tenant, 40 hexadecimal digits. It is no secret.
func (r Ref) ID() string { return r.id }

// IsZero says whether this refers to nothing.
func (r Ref) IsZero() bool { return r.id == "" }

// String is the id, without the key.
func (r Ref) String() string {
	if r.IsZero() {
		return "no blob"
	}
	return "blob " + r.id
}

// Format writes String whatever the verb.
func (r Ref) Format(f fmt.State, _ rune) {
	// A formatter cannot fail; fmt looks after its buffer.
	_, _ = io.WriteString(f, r.String())
}

// LogValue is String.
func (r Ref) LogValue() slog.Value { return slog.StringValue(r.String()) }
