package token

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

var (
	// ErrInvalid is for what is not a token of this kind, or not as it was given out.
	ErrInvalid = errors.New("invalid token")
	// ErrMismatch is for a page token of a request that asked for something else.
	ErrMismatch = errors.New("page token belongs to another request")
)

// Kind says what a token is for. One kind is never taken for another.
type Kind uint8

const (
	// Consistency tokens are given out by writes and waited for by reads.
	Consistency Kind = 1
	// Resume tokens continue a stream behind an item.
	Resume Kind = 2

	page Kind = 3
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Consistency:
		return "consistency"
	case Resume:
		return "resume"
	case page:
		return "page"
	default:
		return "unknown"
	}
}

// Token is a place in a log.
type Token struct {
	Kind Kind
	// LogID names the log that Position belongs to. A token of another log is
	// well formed; whoever reads it compares.
	LogID    uuid.UUID
	Position eventstore.Position
}

const (
	// version is the layout of the content, in the upper half of the first byte.
	version = 1
	// checksumSize in bytes: a slip passes one time in 2^48.
	checksumSize = 6
	// MaxLength bounds every token that is given out, and what is looked at:
	// the bound of page_token in the contracts.
	MaxLength = 1024

	placeSize = 1 + len(uuid.UUID{}) + 8 + checksumSize
)

// NewConsistency is what a write answers with.
func NewConsistency(logID uuid.UUID, position eventstore.Position) Token {
	return Token{Kind: Consistency, LogID: logID, Position: position}
}

// NewResume is what a streamed item carries.
func NewResume(logID uuid.UUID, position eventstore.Position) Token {
	return Token{Kind: Resume, LogID: logID, Position: position}
}

// String is the token as clients get it: 42 characters.
func (t Token) String() string {
	buf := make([]byte, 0, placeSize)
	buf = append(buf, head(t.Kind))
	buf = append(buf, t.LogID[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(t.Position))
	return seal(buf)
}

// Parse reads a token of a kind. Every error is ErrInvalid.
func Parse(kind Kind, s string) (Token, error) {
	content, err := open(kind, s)
	if err != nil {
		return Token{}, err
	}
	if len(content) != len(uuid.UUID{})+8 {
		return Token{}, fmt.Errorf("%s token: %d bytes: %w", kind, len(content), ErrInvalid)
	}
	t := Token{Kind: kind}
	n := copy(t.LogID[:], content)
	t.Position = eventstore.Position(binary.BigEndian.Uint64(content[n:]))
	return t, nil
}

func head(kind Kind) byte { return version<<4 | byte(kind) }

// seal appends the checksum and encodes.
func seal(content []byte) string {
	sum := checksum(content)
	return base64.RawURLEncoding.EncodeToString(append(content, sum[:checksumSize]...))
}

// open checks form, kind and checksum, and gives what is between.
func open(kind Kind, s string) ([]byte, error) {
	if s == "" || len(s) > MaxLength {
		return nil, fmt.Errorf("%s token of %d characters: %w", kind, len(s), ErrInvalid)
	}
	// Strict refuses trailing bits, but nothing makes the decoder refuse line
	// ends: a token has one spelling.
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%s token is not base64url: %w", kind, ErrInvalid)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%s token is not base64url: %w", kind, ErrInvalid)
	}
	if len(raw) < 1+checksumSize {
		return nil, fmt.Errorf("%s token: %d bytes: %w", kind, len(raw), ErrInvalid)
	}
	body, given := raw[:len(raw)-checksumSize], raw[len(raw)-checksumSize:]
	if body[0] != head(kind) {
		return nil, fmt.Errorf("%s token of another kind or version: %w", kind, ErrInvalid)
	}
	sum := checksum(body)
	if string(given) != string(sum[:checksumSize]) {
		return nil, fmt.Errorf("%s token: checksum: %w", kind, ErrInvalid)
	}
	return body[1:], nil
}

func checksum(content []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("parley token\x00"))
	h.Write(content)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}
