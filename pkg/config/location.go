package config

import (
	"log/slog"
	"net/url"
	"strings"
)

// Location is a setting that may be a URL with a password, such as
// `postgres://user:password@host/database` or
// `esdb://user:password@one:2113,two:2113`. However it is printed, logged or
// marshalled, the password is `***`; only Reveal gives it.
type Location string

// Reveal is the location as it was said.
func (l Location) Reveal() string { return string(l) }

// String is the location without its password. It goes by the text, since
// several hosts are no URL to everybody.
func (l Location) String() string {
	scheme, rest, found := strings.Cut(string(l), "://")
	if !found {
		if strings.Contains(string(l), "@") {
			return hidden
		}
		return string(l)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if strings.Contains(rest, "@") {
		// The password may have a slash that should have been escaped: where
		// it ends cannot be told.
		return hidden
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if user, _, has := strings.Cut(authority[:at], ":"); has {
			authority = user + ":" + hidden + authority[at:]
		}
	}
	return scheme + "://" + authority + hideParameters(rest)
}

// hideParameters hides passwords among the parameters of what follows the host.
func hideParameters(rest string) string {
	path, query, has := strings.Cut(rest, "?")
	if !has {
		return rest
	}
	parameters := strings.Split(query, "&")
	for i, p := range parameters {
		name, _, has := strings.Cut(p, "=")
		plain, err := url.QueryUnescape(name)
		if has && (err != nil || strings.Contains(strings.ToLower(plain), "password")) {
			parameters[i] = name + "=" + hidden
		}
	}
	return path + "?" + strings.Join(parameters, "&")
}

// GoString is the location without its password.
func (l Location) GoString() string { return l.String() }

// LogValue is the location without its password.
func (l Location) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalText is the location without its password.
func (l Location) MarshalText() ([]byte, error) { return []byte(l.String()), nil }
