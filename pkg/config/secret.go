package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a setting that must never be shown. However it is printed, logged
// or marshalled it is `***`, or nothing where it is empty; only Reveal gives it.
type Secret string

const hidden = "***"

// Reveal is the secret itself, for whoever uses it.
func (s Secret) Reveal() string { return string(s) }

// String is `***`.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString is `***`.
func (s Secret) GoString() string { return s.String() }

// Format writes `***` whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) {
	// A formatter cannot fail; fmt looks after its buffer.
	_, _ = io.WriteString(f, s.String())
}

// LogValue is `***`.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is `***`: JSON and YAML show that too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
