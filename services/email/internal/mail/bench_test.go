package mail_test

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

// typical is a reply of about 20 kB as mail programs send it: text and HTML of a
// page, a small picture.
func typical() []byte {
	var b strings.Builder
	b.WriteString("Return-Path: <ann@example.com>\r\nDelivered-To: help@example.net\r\n")
	for range 5 {
		b.WriteString("Received: from mx.example.com (mx.example.com [192.0.2.7])\r\n\tby mx.example.net with ESMTPS id 12345\r\n\tfor <help@example.net>; Mon, 26 Aug 2002 15:54:12 -0700\r\n")
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; d=example.com; b=" + strings.Repeat("YWJjZGVm", 40) + "\r\nFrom: =?utf-8?q?J=C3=B6rg?= <ann@example.com>\r\nTo: Help <help@example.net>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n" +
		"Message-ID: <m@example.com>\r\nIn-Reply-To: <q@example.net>\r\nReferences: <p@example.net> <q@example.net>\r\nDate: Mon, 26 Aug 2002 15:54:10 -0700\r\n" +
		"Content-Type: multipart/mixed; boundary=\"outer\"\r\n\r\n--outer\r\nContent-Type: multipart/alternative; boundary=\"inner\"\r\n\r\n" +
		"--inner\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	b.WriteString(strings.Repeat("A line of text with an umlaut, =C3=BC, as mails have th=\r\nem.\r\n", 50))
	b.WriteString("\r\n--inner\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>" + strings.Repeat("<div>A line of text with an umlaut, ü, as mails have them.</div>\r\n", 100) + "</body></html>\r\n--inner--\r\n" +
		"--outer\r\nContent-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	b.WriteString(lines64(4500))
	b.WriteString("--outer--\r\n")
	return []byte(b.String())
}

// large is a mail with an attachment that makes it about 20 MB.
func large(contentType string) []byte {
	return []byte("From: ann@example.com\r\nMessage-ID: <m@example.com>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nSee below.\r\n" +
		"--b\r\nContent-Type: " + contentType + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines64(14_600_000) + "--b--\r\n")
}

// lines64 encodes n random bytes in lines of 76 characters.
func lines64(n int) string {
	random := rand.NewChaCha8([32]byte{})
	raw := make([]byte, n)
	_, _ = random.Read(raw)
	encoded := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	b.Grow(len(encoded) + len(encoded)/38 + 4)
	for len(encoded) > 0 {
		line := encoded[:min(76, len(encoded))]
		encoded = encoded[len(line):]
		b.WriteString(line)
		b.WriteString("\r\n")
	}
	return b.String()
}

func bench(b *testing.B, raw []byte) {
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		mail.Parse(raw, mail.Limits{})
	}
}

func BenchmarkTypical(b *testing.B)         { bench(b, typical()) }
func BenchmarkLargeAttachment(b *testing.B) { bench(b, large("application/pdf; name=a.pdf")) }
func BenchmarkLargeText(b *testing.B) {
	bench(b, []byte("From: a@x\n\n"+strings.Repeat("A line of plain text, as mails have them.\n", 20_000_000/42)))
}
func BenchmarkLargeHTML(b *testing.B) {
	bench(b, []byte(html(strings.Repeat("<div>A line of <b>text</b>, as mails have them.</div>\n", 20_000_000/53))))
}

// Twice the bytes should take twice the time, in each of them.
func BenchmarkHostile(b *testing.B) {
	for _, c := range hostile {
		for _, n := range []int{1 << 20, 4 << 20} {
			raw := []byte(c.make(n))
			name := strings.ReplaceAll(c.name, ",", "")
			b.Run(name+"/"+map[bool]string{true: "1MiB", false: "4MiB"}[n == 1<<20], func(b *testing.B) { bench(b, raw) })
		}
	}
}

// A mail of 20 MB takes at most four times its size of memory besides itself, counting also what is freed on the way.
func TestMemoryOfLargeMails(t *testing.T) {
	// Not parallel: it counts what is allocated.
	for name, raw := range map[string][]byte{
		"attachment": large("application/pdf; name=a.pdf"),
		"text":       []byte("From: a@x\n\n" + strings.Repeat("A line of plain text, as mails have them.\r\n", 20_000_000/43)),
		"latin text": append([]byte("From: a@x\nContent-Type: text/plain; charset=iso-8859-1\n\n"), bytes.Repeat([]byte("Gr\xfc\xdfe aus K\xf6ln, wie sie kommen.\n"), 20_000_000/32)...),
		"html":       []byte(html(strings.Repeat("<div>A line of <b>text</b>, as mails have them.</div>\n", 20_000_000/53))),
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := mail.Parse(raw, mail.Limits{})
		runtime.ReadMemStats(&after)
		allocated := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(raw))
		runtime.GC()
		runtime.ReadMemStats(&after)
		kept := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / float64(len(raw))
		t.Logf("%-10s of %d bytes: allocated %.2f times, kept %.2f times", name, len(raw), allocated, kept)
		require.LessOrEqual(t, allocated, 4.0, "%s", name)
		runtime.KeepAlive(m)
		runtime.KeepAlive(raw)
	}
}
