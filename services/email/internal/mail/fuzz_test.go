package mail_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

// check parses raw twice and checks what holds for every mail.
func check(t *testing.T, raw []byte, limits mail.Limits) *mail.Mail {
	m := mail.Parse(raw, limits)
	requireInvariants(t, raw, m, limits)
	require.Equal(t, m, mail.Parse(raw, limits))
	return m
}

func FuzzParse(f *testing.F) {
	for _, c := range hostile {
		f.Add([]byte(c.make(600)))
	}
	files, err := filepath.Glob("testdata/*.eml")
	require.NoError(f, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		check(t, raw, mail.Limits{})
		m := check(t, raw, mail.Limits{MaxBytes: 200, MaxHeaderBytes: 60, MaxDepth: 2, MaxParts: 3})
		require.LessOrEqual(t, len(m.Attachments), 6)
	})
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{
		`"Doe, Ann" <a@x.com>, Bob (b) <@r:b@x.com>; g: c@x.com, =?utf-8?q?d?= <d@x.com>;`,
		`<a@[IPv6:2001:db8::1]> "x"@y z @ y <`, `Ann <Annie> <a@x`, "undisclosed-recipients:;", `"a@x>, "b" <b@x>`, "\"\\", "((a)", "=?utf-8?q?Ann_=3Ca=40x=3E?=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := mail.ParseAddressList(s)
		require.LessOrEqual(t, len(list), mail.MaxAddresses)
		if len(s) < 10_000 {
			requireAddresses(t, mail.Parse([]byte("From: x@x\nTo: "+strings.NewReplacer("\r", " ", "\n", " ").Replace(s)+"\n\n"), mail.Limits{}).To)
		}
		require.Equal(t, list, mail.ParseAddressList(s))
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("<a@x> <b@x>", "Mon, 26 Aug 2002 15:54:10 -0700", "=?utf-8?q?a?= b", "text/plain; charset*0*=utf-8''%41; name=\"a")
	f.Add("Message from A <a@x> of today <b@x>", "2002-10-08T03:31:00+01:00", "=?utf-8?b?w7", "multipart/mixed; boundary=\"b;c\"")
	f.Add("a@x, b@x", "26-Aug-02 3:54 PM EST", "\xff", ";;=")
	f.Fuzz(func(t *testing.T, ids, date, words, contentType string) {
		list := mail.ParseMessageIDs(ids)
		seen := map[string]bool{}
		for _, id := range list {
			require.NotEmpty(t, id)
			require.LessOrEqual(t, len(id), mail.MaxIDBytes)
			require.False(t, seen[id], "twice: %q", id)
			seen[id] = true
		}
		at, ok := mail.ParseDate(date)
		require.Equal(t, ok, !at.IsZero())
		requireYear(t, at)
		require.NotContains(t, mail.DecodeHeader(words), "\n")
		check(t, []byte("From: a@x\nMessage-ID: "+ids+"\nReferences: "+ids+"\nIn-Reply-To: "+ids+"\nDate: "+date+"\nSubject: "+words+"\nContent-Type: "+contentType+"\n\n--b\n\nx\n"), mail.Limits{})
	})
}

func FuzzReport(f *testing.F) {
	f.Add("message/delivery-status", "Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; a@x\nAction: failed\nStatus: 5.1.1\n", "Message-ID: <a@x>\n\n")
	f.Add("message/disposition-notification", "Final-Recipient: rfc822; a@x\nDisposition: a/b; displayed/c\n", "")
	f.Add("message/feedback-report", "Feedback-Type: abuse\nOriginal-Rcpt-To: <a@x>\n", "Subject: x")
	f.Add("text/plain", "Hi. This is the qmail-send program\n\n<a@x>:\nno (#5.1.1)\n\n--- Below this line is a copy of the message.\n\nMessage-ID: <b@x>\n", "")
	f.Add("text/plain", "<a@x>: host mx.x.com[1] said: 550 no\n\nReceived: x\n", "")
	f.Fuzz(func(t *testing.T, mediaType, fields, returned string) {
		check(t, []byte("From: MAILER-DAEMON@x\nReturn-Path: <>\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: "+mediaType+"\n\n"+fields+
			"\n--b\nContent-Type: message/rfc822\n\n"+returned+"\n--b--\n"), mail.Limits{})
	})
}
