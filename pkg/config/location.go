package config

import (
	"log/slog"
	"net/url"
)

// Location is a setting that may be a URL with a password, such as
// `postgres://user:password@host/database`. However it is printed, logged or
// marshalled, the password is `***`; only Reveal gives it.
type Location string

// Reveal is the location as it was said.
func (l Location) Reveal() string { return string(l) }

// String is the location without its password.
func (l Location) String() string {
	u, err := url.Parse(string(l))
	if err != nil {
		// Where the password stands in it cannot be told.
		return hidden
	}
	if _, has := u.User.Password(); !has {
		return string(l)
	}
	// As it was written, without what escaping a `*` would make of it.
	user := u.User.Username()
	u.User = nil
	rest := u.String()[len(u.Scheme)+len("://"):]
	return u.Scheme + "://" + url.User(user).String() + ":" + hidden + "@" + rest
}

// GoString is the location without its password.
func (l Location) GoString() string { return l.String() }

// LogValue is the location without its password.
func (l Location) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalText is the location without its password.
func (l Location) MarshalText() ([]byte, error) { return []byte(l.String()), nil }
