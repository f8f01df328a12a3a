package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Why a value identifies nobody. Errors wrap one of them with the kind; they
// never repeat the value, which is personal.
var (
	// ErrMalformed: it cannot be a value of its kind.
	ErrMalformed = errors.New("malformed")
	// ErrPlaceholder: it stands for no value, such as `null` or the nil UUID.
	ErrPlaceholder = errors.New("a placeholder")
	// ErrWithheld: a number that the caller does not show.
	ErrWithheld = errors.New("withheld")
)

// MaxValueBytes bounds a value; longer ones are malformed.
const MaxValueBytes = 512

// Normalize gives the one spelling of an identifier under which all its
// spellings meet, or an error that wraps ErrMalformed, ErrPlaceholder or
// ErrWithheld. defaultRegion is for phone numbers without a country code. What
// is normalised stays as it is when it is normalised again.
//
//   - email: the domain in lower case and ASCII (IDNA); the local part in lower
//     case too: RFC 5321 lets a server tell them apart, none that people use
//     does, and people type their own address in either. A plus-address stays:
//     whether it is the same mailbox is known to its provider only.
//   - phone: E.164, with `;ext=` where there is an extension: behind a
//     switchboard it is what tells people apart.
//   - handle:<provider>: as the provider compares them.
//   - user_id, anonymous_id and every other kind: trimmed, nothing else.
func Normalize(kind, value, defaultRegion string) (string, error) {
	if len(value) > MaxValueBytes || !utf8.ValidString(value) {
		return "", fmt.Errorf("%s: %w", kind, ErrMalformed)
	}
	trimmed := strings.TrimSpace(value)
	if isPlaceholder(trimmed) {
		return "", fmt.Errorf("%s: %w", kind, ErrPlaceholder)
	}
	if hasControl(trimmed) {
		return "", fmt.Errorf("%s: %w", kind, ErrMalformed)
	}
	var (
		normal string
		err    error
	)
	switch {
	case kind == KindEmail:
		normal, err = normalizeEmail(trimmed)
	case kind == KindPhone:
		normal, err = normalizePhone(trimmed, defaultRegion)
	case strings.HasPrefix(kind, KindHandlePrefix):
		normal, err = normalizeHandle(kind[len(KindHandlePrefix):], trimmed)
	default:
		normal = trimmed
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", kind, err)
	}
	return normal, nil
}

func hasControl(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c == 0x7f {
			return true
		}
		if c >= utf8.RuneSelf {
			return strings.ContainsFunc(s[i:], func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError })
		}
	}
	return false
}

// normalizeHandle knows how providers compare their handles.
func normalizeHandle(provider, value string) (string, error) {
	switch provider {
	case "twitter", "x", "instagram", "telegram", "tiktok", "github", "threads", "youtube":
		// Shown with an at sign, kept without; case does not matter.
		value = strings.ToLower(strings.TrimLeft(value, "@ "))
	case "facebook", "linkedin", "skype", "mastodon", "bluesky", "matrix":
		value = strings.ToLower(value)
	case "whatsapp", "signal", "viber":
		return normalizeNumberHandle(value)
	}
	value = strings.TrimSpace(value)
	if isPlaceholder(value) {
		return "", ErrPlaceholder
	}
	return value, nil
}

// normalizeNumberHandle: providers that go by phone number give it as digits
// of the whole international number, with or without the plus sign.
func normalizeNumberHandle(value string) (string, error) {
	value = strings.TrimPrefix(value, "whatsapp:")
	const minDigits, maxDigits = 5, 20
	digits := make([]byte, 0, maxDigits)
	for i := range len(value) {
		switch c := value[i]; {
		case c >= '0' && c <= '9':
			if len(digits) == maxDigits {
				return "", ErrMalformed
			}
			digits = append(digits, c)
		case c == '+' && len(digits) == 0, c == ' ', c == '-', c == '(', c == ')', c == '.':
		default:
			// Not a number: the provider's own id, kept as it is.
			return strings.TrimSpace(value), nonEmpty(value)
		}
	}
	switch {
	case len(digits) < minDigits:
		return "", ErrMalformed
	case sameDigits(string(digits)):
		return "", ErrPlaceholder
	}
	return string(digits), nil
}

func nonEmpty(value string) error {
	if isPlaceholder(strings.TrimSpace(value)) {
		return ErrPlaceholder
	}
	return nil
}

// placeholders are what programs and people write where they have no value.
// In lower case.
var placeholders = func() map[string]struct{} {
	set := map[string]struct{}{}
	for _, s := range []string{
		"", "null", "(null)", "<null>", "nil", "<nil>", "undefined", "none", "nan", "n/a", "na", "-", "--", "?", ".", "_",
		"0", "-1", "0.0", "00", "000", "0000", "00000000", "true", "false", "yes", "no",
		"anonymous", "anonym", "anonymous_user", "guest", "guest_user", "gast", "unknown", "unbekannt", "unidentified",
		"not_set", "not set", "(not set)", "notset", "unset", "empty", "missing", "default", "example",
		"test", "testing", "tester", "test_user", "testuser", "test user", "xxx", "asdf", "foo", "bar",
		"user", "userid", "user_id", "user id", "anonymousid", "anonymous_id", "id", "uid", "uuid", "email", "phone", "string",
		"[object object]", "[object undefined]", "object object", "{}", "[]", `""`, "''", "{{user_id}}", "{{userid}}", "%s", "$userid",
		"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000000000000000000000000000",
		"test@test.com", "test@test.de", "test@example.com", "a@a.com", "asdf@asdf.com", "none@none.com", "no@email.com",
		"email@email.com", "na@na.com", "null@null.com", "user@example.com", "noemail@noemail.com", "keine@email.de",
	} {
		set[s] = struct{}{}
	}
	return set
}()

const longestPlaceholder = 40

func isPlaceholder(trimmed string) bool {
	if len(trimmed) > longestPlaceholder {
		return false
	}
	// Without an allocation for the usual case.
	var low [longestPlaceholder]byte
	for i := range len(trimmed) {
		c := trimmed[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	_, yes := placeholders[string(low[:len(trimmed)])]
	return yes
}

// sameDigits says that all digits are the same one, as in 0000000000.
func sameDigits(digits string) bool {
	for i := 1; i < len(digits); i++ {
		if digits[i] != digits[0] {
			return false
		}
	}
	return true
}
