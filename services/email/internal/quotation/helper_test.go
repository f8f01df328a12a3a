package quotation_test

import (
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/quotation"
)

// dataDir gives the folder of the shared test data, or skips the test.
func dataDir(t *testing.T, elem ...string) string {
	t.Helper()
	root := os.Getenv("PARLEY_SHARED_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "..", "shared", "data")
	}
	dir := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no test data at %s; set PARLEY_SHARED_DATA", dir)
	}

	return dir
}

// bodies are the first plain text and HTML parts of a mail.
type bodies struct{ text, html string }

func readMail(t *testing.T, path string) bodies {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	// Mailbox files begin with a line "From …".
	if strings.HasPrefix(string(raw), "From ") {
		_, after, _ := strings.Cut(string(raw), "\n")
		raw = []byte(after)
	}
	m, err := mail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		t.Logf("%s: %v", filepath.Base(path), err)

		return bodies{}
	}
	var b bodies
	readPart(&b, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body, 0)

	return b
}

func readPart(b *bodies, contentType, encoding string, body io.Reader, depth int) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = "text/plain"
	}
	if strings.HasPrefix(kind, "multipart/") && depth < 8 {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			part, err := parts.NextRawPart()
			if err != nil {
				return
			}
			readPart(b, part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part, depth+1)
		}
	}
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	// A truncated part is as good as a whole one here.
	data, _ := io.ReadAll(body)
	s := string(data)
	if !utf8.ValidString(s) {
		runes := make([]rune, len(data))
		for i, c := range data {
			runes[i] = rune(c)
		}
		s = string(runes)
	}
	switch {
	case kind == "text/html" && b.html == "":
		b.html = s
	case kind == "text/plain" && b.text == "":
		b.text = s
	}
}

// requireCovered asserts that each non-blank line of text is in exactly one part,
// in order.
func requireCovered(t testing.TB, text string, p quotation.Parts) {
	t.Helper()
	rest := map[string]int{}
	all := nonBlank(text)
	for _, l := range all {
		rest[l]++
	}
	for _, part := range []string{p.Reply, p.Quoted, p.Signature} {
		at := 0
		for _, l := range nonBlank(part) {
			require.Positive(t, rest[l], "a line of a part is not in the text, or in two parts: %q", l)
			rest[l]--
			for at < len(all) && all[at] != l {
				at++
			}
			require.Less(t, at, len(all), "a line is out of order: %q", l)
			at++
		}
	}
	for l, n := range rest {
		require.Zero(t, n, "a line is in no part: %q", l)
	}
}

func nonBlank(text string) []string {
	var lines []string
	for _, l := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if visible(l) != "" {
			lines = append(lines, l)
		}
	}

	return lines
}
