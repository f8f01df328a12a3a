package auth

import (
	"strings"

	"github.com/emersion/go-msgauth/authres"
)

const (
	// MaxText bounds Result.Text in bytes.
	MaxText = 2048
	// MaxDetail bounds a Method's Detail and a Result's Reason in bytes.
	MaxDetail = 100
)

// Text is the result as the value of an Authentication-Results field
// (RFC 8601, 2.2) under the name of the server that checked. It is one line of
// printable ASCII, at most MaxText bytes, with domains and no addresses; results
// that find no place are left out. Whether a domain is aligned is the local
// property policy.aligned.
func (r Result) Text(authservID string) string {
	id := asciiName(authservID)
	if id == "" {
		id = "localhost"
	}
	text := id
	for _, m := range r.Methods {
		// The library leaves a space behind a result without properties.
		next := strings.TrimRight(authres.Format("", []authres.Result{m.result()}), " ")
		if len(text)+len(next) > MaxText {
			break
		}
		text += next
	}
	if text == id {
		return authres.Format(id, nil)
	}
	return text
}

func (m Method) result() authres.Result {
	params := map[string]string{"reason": plain(m.Detail)}
	switch {
	case m.Name == dmarcName:
		params["header.from"] = m.Domain
		params["policy.dmarc"] = plain(m.Policy)
	case m.Name == spfName && m.HELO:
		params["smtp.helo"] = m.Domain
	case m.Name == spfName:
		params["smtp.mailfrom"] = m.Domain
	default:
		params["header.d"] = m.Domain
	}
	if m.Name != dmarcName && m.Domain != "" {
		params["policy.aligned"] = "no"
		if m.Aligned {
			params["policy.aligned"] = "yes"
		}
	}
	return &authres.GenericResult{Method: m.Name, Value: authres.ResultValue(m.Value), Params: params}
}

// plain makes a text printable ASCII of at most MaxDetail bytes, without what
// would need escapes in a quoted string.
func plain(s string) string {
	clean := make([]byte, 0, min(len(s), MaxDetail))
	for i := 0; i < len(s) && len(clean) < MaxDetail; i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			clean = append(clean, '\'')
		case c < ' ' || c >= 0x7f:
			clean = append(clean, '?')
		default:
			clean = append(clean, c)
		}
	}
	return string(clean)
}
