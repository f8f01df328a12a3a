package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/webhook"
)

const (
	typeForm   = "application/x-www-form-urlencoded"
	typeMulti  = "multipart/form-data; boundary=xYzZY"
	typeJSON   = "application/json; charset=utf-8"
	mailgunKey = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0"
	token      = "2b90a03befc0b98ae2b641b0080850cada918a2d2f670e0141"
	// signedAt is when the requests of the tests were signed, in Unix seconds.
	signedAt = 1_780_000_000
)

func at(seconds int64) func() time.Time {
	return func() time.Time { return time.Unix(signedAt+seconds, 0) }
}

// signature is Mailgun's, written from its documentation and not from the code.
func signature(timestamp int64, token string) string {
	h := hmac.New(sha256.New, []byte(mailgunKey))
	h.Write(fmt.Appendf(nil, "%d%s", timestamp, token))
	return fmt.Sprintf("%x", h.Sum(nil))
}

func signed(pairs ...string) []string {
	return append(pairs, "timestamp", fmt.Sprint(signedAt), "token", token, "signature", signature(signedAt, token))
}

// urlencoded writes pairs of name and value.
func urlencoded(pairs ...string) []byte {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		parts = append(parts, url.QueryEscape(pairs[i])+"="+url.QueryEscape(pairs[i+1]))
	}
	return []byte(strings.Join(parts, "&"))
}

// multi writes pairs as the parts of a form. A name may be followed by
// `|filename|content type`.
func multi(pairs ...string) []byte {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		name, rest, isFile := strings.Cut(pairs[i], "|")
		b.WriteString("--xYzZY\r\nContent-Disposition: form-data; name=\"" + name + "\"")
		if isFile {
			fileName, contentType, _ := strings.Cut(rest, "|")
			b.WriteString("; filename=\"" + fileName + "\"\r\nContent-Type: " + contentType)
		}
		b.WriteString("\r\n\r\n" + pairs[i+1] + "\r\n")
	}
	return []byte(b.String() + "--xYzZY--\r\n")
}

// leaf is a part of a mail, read by the standard library.
type leaf struct {
	path, contentType, disposition, name, id, text string
}

// leaves reads a rebuilt mail apart.
func leaves(t testing.TB, raw []byte) (mail.Header, []leaf) {
	t.Helper()
	requireWellFormed(t, raw)
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, "1.0", m.Header.Get("MIME-Version"))
	return m.Header, walk(t, "", m.Header.Get, m.Body)
}

func walk(t testing.TB, path string, get func(string) string, body io.Reader) []leaf {
	t.Helper()
	kind, params, err := mime.ParseMediaType(get("Content-Type"))
	require.NoError(t, err, get("Content-Type"))
	if !strings.HasPrefix(kind, "multipart/") {
		var text []byte
		switch encoding := get("Content-Transfer-Encoding"); encoding {
		case "base64":
			text, err = io.ReadAll(newBase64(body))
		case "quoted-printable":
			text, err = io.ReadAll(newQuoted(body))
		default:
			require.Equal(t, "7bit", encoding)
			text, err = io.ReadAll(body)
		}
		require.NoError(t, err)
		disposition, named, _ := mime.ParseMediaType(get("Content-Disposition"))
		return []leaf{{path, kind, disposition, named["filename"], get("Content-ID"), string(text)}}
	}
	path += strings.TrimPrefix(kind, "multipart/") + "/"
	var all []leaf
	for r := multipart.NewReader(body, params["boundary"]); ; {
		part, err := r.NextRawPart()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, walk(t, path, part.Header.Get, part)...)
	}
}

// requireWellFormed checks what RFC 5322 says of lines.
func requireWellFormed(t testing.TB, raw []byte) {
	t.Helper()
	require.Equal(t, bytes.Count(raw, []byte("\n")), bytes.Count(raw, []byte("\r\n")), "a lone line feed")
	require.Equal(t, bytes.Count(raw, []byte("\r")), bytes.Count(raw, []byte("\r\n")), "a lone carriage return")
	require.NotContains(t, string(raw), "\x00")
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if e, is := errors.AsType[*webhook.CredentialsError](err); is {
		return "credentials " + string(e.Reason)
	}
	if e, is := errors.AsType[*webhook.MalformedError](err); is {
		return "malformed " + e.Reason
	}
	if _, is := errors.AsType[*webhook.ContentTypeError](err); is {
		return "content type"
	}
	if _, is := errors.AsType[*webhook.TooLargeError](err); is {
		return "too large"
	}
	return "other"
}

func newBase64(r io.Reader) io.Reader { return base64.NewDecoder(base64.StdEncoding, r) }

func newQuoted(r io.Reader) io.Reader { return quotedprintable.NewReader(r) }

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
