package auth

import (
	"bytes"
	"context"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

const (
	// MaxSignatures is how many DKIM signatures are looked at, topmost first;
	// mail of the field has one to three.
	MaxSignatures = 8
	// maxSignedFields bounds the colons of a signature, and so the fields that
	// it names: the library looks through the header for each.
	maxSignedFields = 512
	// maxBlank bounds a run of white space in a body in bytes: line breaks have
	// to be kept until it is known whether they are the last ones.
	maxBlank = 64 << 10
)

// checkDKIM verifies the signatures of a mail. The body is hashed once all keys
// were asked for: waiting for them is bounded, so that one that hangs leaves
// time for it.
func checkDKIM(ctx context.Context, l *lookups, wait time.Duration, raw []byte, h head) []Method {
	signatures := h.all("dkim-signature")
	if len(signatures) == 0 {
		return []Method{{Name: dkimName, Value: ValueNone}}
	}
	signatures = signatures[:min(len(signatures), MaxSignatures)]
	if refused := unfit(raw, signatures); refused != "" {
		return []Method{{Name: dkimName, Value: ValuePolicy, Detail: refused}}
	}

	keys, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	lookupTXT := func(name string) ([]string, error) { return l.LookupTXT(keys, name) }
	reader := &untilDone{done: ctx.Done(), inner: bytes.NewReader(raw)}
	var mail io.Reader = reader
	if !h.whole {
		mail = io.MultiReader(reader, strings.NewReader("\r\n\r\n"))
	}
	verified, err := dkim.VerifyWithOptions(mail, &dkim.VerifyOptions{LookupTXT: lookupTXT, MaxVerifications: MaxSignatures})
	methods := make([]Method, 0, len(signatures))
	for i, v := range verified {
		m := Method{Name: dkimName, Domain: normalDomain(v.Domain), Value: ValuePass}
		if v.Err != nil {
			m.Detail = strings.TrimPrefix(v.Err.Error(), "dkim: ")
		}
		switch {
		case reader.cut && v.Err == nil, reader.cut && !dkim.IsPermFail(v.Err):
			m.Value, m.Detail = ValueTempError, "the deadline passed"
		case v.Err == nil && m.Domain == "":
			m.Value, m.Detail = ValuePermError, "no valid domain"
		case v.Err == nil:
		case dkim.IsTempFail(v.Err):
			m.Value = ValueTempError
		case dkim.IsPermFail(v.Err):
			m.Value = ValuePermError
		default:
			m.Value = ValueFail
		}
		if m.Domain == "" && i < len(signatures) {
			m.Domain = signingDomain(signatures[i])
		}
		if m.Domain == "" && m.Value == ValueTempError {
			m.Value = ValuePermError
		}
		methods = append(methods, m)
	}
	if len(methods) > 0 {
		return methods
	}
	// The library reads from memory: it has nothing to say only when it was cut
	// short or could not read the header.
	value, detail := ValuePermError, "the header cannot be read"
	if reader.cut {
		value, detail = ValueTempError, "the deadline passed"
	} else if err != nil {
		detail = strings.TrimPrefix(err.Error(), "dkim: ")
	}
	for _, s := range signatures {
		m := Method{Name: dkimName, Value: value, Domain: signingDomain(s), Detail: detail}
		if m.Domain == "" {
			m.Value = ValuePermError
		}
		methods = append(methods, m)
	}
	return methods
}

// unfit says why signatures over a mail are not verified, empty if they are.
func unfit(raw []byte, signatures []string) string {
	for _, s := range signatures {
		if strings.Count(s, ":") > maxSignedFields {
			return "a signature names too many fields"
		}
	}
	run := 0
	for _, c := range raw {
		switch c {
		case ' ', '\t', '\r', '\n':
			if run++; run > maxBlank {
				return "too much white space in a row"
			}
		default:
			run = 0
		}
	}
	return ""
}

// signingDomain is d= of a signature (RFC 6376, 3.5).
func signingDomain(signature string) string {
	for tag := range strings.SplitSeq(signature, ";") {
		if key, value, ok := strings.Cut(tag, "="); ok && strings.TrimSpace(key) == "d" {
			return normalDomain(strings.Join(strings.Fields(value), ""))
		}
	}
	return ""
}

// untilDone reads until the context ends, and then says that the mail ended:
// an error would leave the library's goroutines waiting for the rest.
type untilDone struct {
	done  <-chan struct{}
	inner io.Reader
	cut   bool
}

func (r *untilDone) Read(p []byte) (int, error) {
	select {
	case <-r.done:
		r.cut = true
		return 0, io.EOF
	default:
		return r.inner.Read(p)
	}
}
