package mail_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

// hostile are inputs that grow with n bytes and would take minutes at a few
// megabytes if anything went over them once for each of their pieces.
var hostile = []struct {
	name string
	make func(n int) string
}{
	{"nested multiparts", func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return b.String()
	}},
	{"nested multiparts above a large text", func(n int) string {
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return b.String() + "\n" + strings.Repeat("--b1 text --b2\n", n/15)
	}},
	{"nested multiparts of one boundary", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nContent-Type: multipart/mixed; boundary=b\n\n", n/48)
	}},
	{"multiparts without boundary in each other", func(n int) string {
		return "Content-Type: multipart/mixed\n\n" + strings.Repeat("--guess\nContent-Type: multipart/mixed\n\n", n/40)
	}},
	{"empty parts", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n", n/5)
	}},
	{"near boundaries", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=bbbbbbbb\n\n--bbbbbbbb\n\n" + strings.Repeat("--bbbbbbb\n", n/10)
	}},
	{"boundaries with spaces behind", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + strings.Repeat("--b"+strings.Repeat(" ", 1000)+"x", n/1004)
	}},
	{"closing boundaries in one line", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + strings.Repeat("\n--b--> ", n/8)
	}},
	{"one line", func(n int) string { return strings.Repeat("x", n) }},
	{"one field", func(n int) string { return "Subject: " + strings.Repeat("x", n) }},
	{"fields", func(n int) string { return strings.Repeat("Subject: x\n", n/11) }},
	{"folds", func(n int) string { return "Subject: x" + strings.Repeat("\n x", n/3) }},
	{"lines that are no fields", func(n int) string { return "Subject: x\n" + strings.Repeat("no field\n", n/9) }},
	{"lines that are no fields, and fields", func(n int) string { return strings.Repeat("X-A: b\nno field\n", n/16) }},
	{"indented lines without a field", func(n int) string { return "From: a@x\n" + strings.Repeat(" \n", n/2) }},
	{"encoded words", func(n int) string { return "Subject: " + strings.Repeat("=?utf-8?q?a?= ", n/14) }},
	{"encoded words without end", func(n int) string { return "Subject: " + strings.Repeat("=?utf-8?q?a", n/11) }},
	{"encoded words of other charsets", func(n int) string { return "Subject: " + strings.Repeat("=?big5?b?pKM?==?gbk?b?pKM?=", n/28) }},
	{"beginnings of encoded words", func(n int) string { return "Subject: " + strings.Repeat("=?", n/2) }},
	{"open angles", func(n int) string { return "To: " + strings.Repeat("<", n) }},
	{"open angles with quotes", func(n int) string { return "To: " + strings.Repeat(`<"`, n/2) }},
	{"open quotes", func(n int) string { return "To: " + strings.Repeat(`"a\`, n/3) }},
	{"open comments", func(n int) string { return "To: " + strings.Repeat("(", n) }},
	{"comments in comments", func(n int) string { return "To: " + strings.Repeat("(", n/2) + strings.Repeat(")", n/2) }},
	{"commas", func(n int) string { return "To: " + strings.Repeat("a,", n/2) }},
	{"words", func(n int) string { return "To: " + strings.Repeat("a ", n/2) }},
	{"at signs", func(n int) string { return "To: " + strings.Repeat("@ ", n/2) }},
	{"groups", func(n int) string { return "To: " + strings.Repeat("a:", n/2) }},
	{"quoted addresses", func(n int) string { return "To: " + strings.Repeat(`"a@x>,`, n/6) }},
	{"references", func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, " <%d@x>", i)
		}
		return "References:" + b.String()
	}},
	{"open references", func(n int) string { return "References: " + strings.Repeat("<a ", n/3) }},
	{"references of prose", func(n int) string {
		return "References: " + strings.Repeat("from ", n/5) + strings.Repeat("a@x ", 1000)
	}},
	{"parameters", func(n int) string { return "Content-Type: text/plain" + strings.Repeat("; a=b", n/5) }},
	{"sections of parameters", func(n int) string { return "Content-Type: text/plain" + strings.Repeat("; a*0*=%", n/8) }},
	{"base64 garbage", func(n int) string {
		return "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + strings.Repeat("!", n)
	}},
	{"base64 padding", func(n int) string {
		return "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + strings.Repeat("AA=", n/3)
	}},
	{"quoted-printable garbage", func(n int) string {
		return "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat("=", n)
	}},
	{"uuencode that never begins", func(n int) string { return "From: a@x\n\n" + strings.Repeat("begin 644 a\n", n/12) }},
	{"uuencode that never ends", func(n int) string { return "From: a@x\n\n" + strings.Repeat("begin 644 a\n#86)C\n", n/18) }},
	{"uuencoded files", func(n int) string { return "From: a@x\n\n" + strings.Repeat("begin 644 a\n#86)C\n`\nend\n", n/24) }},
	{"bad utf-8", func(n int) string { return "Content-Type: text/plain; charset=utf-8\n\n" + strings.Repeat("\xff", n) }},
	{"nul", func(n int) string { return "From: a@x\n\n" + strings.Repeat("\x00", n) }},
	{"carriage returns", func(n int) string { return "From: a@x\n\n" + strings.Repeat("\r", n) + "x" }},
	{"carriage returns alone", func(n int) string { return strings.Repeat("\r", n) }},
	{"html, nested", func(n int) string { return html(strings.Repeat("<b>", n/3) + "x") }},
	{"html, nested quotations", func(n int) string { return html(strings.Repeat("<blockquote>a", n/13)) }},
	{"html, quoted lines", func(n int) string {
		return html(strings.Repeat("<blockquote>", 50) + strings.Repeat("a<br>", n/5))
	}},
	{"html, rules", func(n int) string { return html(strings.Repeat("<blockquote>", 50) + strings.Repeat("<hr>", n/4)) }},
	{"html, lists", func(n int) string { return html(strings.Repeat("<blockquote>", 50) + strings.Repeat("<li>", n/4)) }},
	{"html, links", func(n int) string { return html(strings.Repeat("<a href=http://x>y</a>", n/22)) }},
	{"html, ends of links", func(n int) string { return html("<a href=http://x>" + strings.Repeat("y</a>", n/5)) }},
	{"html, attributes", func(n int) string { return html("<a " + strings.Repeat("a=b ", n/4) + ">x") }},
	{"html, angles", func(n int) string { return html(strings.Repeat("<", n)) }},
	{"html, comments", func(n int) string { return html(strings.Repeat("<!--", n/4)) }},
	{"html, entities", func(n int) string { return html(strings.Repeat("&", n)) }},
	{"html, open title", func(n int) string { return html("<title>" + strings.Repeat("</titl", n/6)) }},
	{"html, one tag", func(n int) string { return html("<p " + strings.Repeat("x", n)) }},
	{"enriched", func(n int) string { return "Content-Type: text/enriched\n\n" + strings.Repeat("<", n) }},
	{"report of empty groups", func(n int) string { return report(strings.Repeat("a\n\n", n/3)) }},
	{"report of recipients", func(n int) string { return report(strings.Repeat("Final-Recipient: rfc822;a@x\n\n", n/29)) }},
	{"report of one group", func(n int) string { return report(strings.Repeat("Final-Recipient: rfc822;a@x\n", n/28)) }},
	{"bounce of recipients", func(n int) string {
		return "From: MAILER-DAEMON@x\n\n" + strings.Repeat("<a@x>:\nno\n\n", n/11)
	}},
	{"bounce of one diagnostic", func(n int) string { return "From: MAILER-DAEMON@x\n\n<a@x>: " + strings.Repeat("5.", n/2) }},
}

func html(body string) string { return "Content-Type: text/html\n\n" + body }

func report(fields string) string {
	return "Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n" + fields
}

// Megabytes of each end within the test's deadline, which they would not if the
// work grew with the square; and what comes out is bounded.
func TestHostile(t *testing.T) {
	t.Parallel()
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			raw := []byte(c.make(2 << 20))
			m := mail.Parse(raw, mail.Limits{})
			requireInvariants(t, raw, m, mail.Limits{})
		})
	}
}

// What Parse allocates in all stays within a small multiple of the mail, whatever
// is in it; so does what it holds at any time.
func TestHostileMemory(t *testing.T) {
	// Not parallel: it counts what is allocated.
	const size = 1 << 20
	for _, c := range hostile {
		raw := []byte(c.make(size))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m := mail.Parse(raw, mail.Limits{})
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(m)
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%-45s %5.1f times", c.name, float64(allocated)/size)
		require.LessOrEqual(t, allocated, uint64(24*size), "%s", c.name)
	}
}

// Any piece of any sample is a mail, too.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, folder := range sharedFolders[1:] {
		for _, s := range sharedMails(t, folder) {
			for end := 0; end < min(len(s.raw), 4000); end += 7 {
				requireInvariants(t, s.raw[:end], mail.Parse(s.raw[:end], mail.Limits{}), mail.Limits{})
			}
		}
	}
}

// Parse leaves the bytes alone.
func TestRawIsNotChanged(t *testing.T) {
	t.Parallel()
	for _, c := range hostile {
		raw := []byte(c.make(10_000))
		before := bytes.Clone(raw)
		mail.Parse(raw, mail.Limits{})
		require.Equal(t, before, raw, "%s", c.name)
	}
}
