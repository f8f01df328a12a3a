package webhook_test

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/webhook"
)

// sendGridParsed is in the shape of the documentation's default payload; text
// and from are in ISO-8859-1.
var sendGridParsed = []string{
	"headers", "Received: by mx0047p1mdw1.sendgrid.net\nMIME-Version: 1.0\nReceived: from mail.bank.example\n by mx0047p1mdw1\nFrom: =?iso-8859-1?q?J=F6rg?= <joerg@bank.example>\n" +
		"Date: Mon, 2 Mar 2026 10:00:00 +0000\nSubject: Gr\xfc\xdfe\nMessage-ID: <9@bank.example>\nTo: help@shop.example\nContent-Type: multipart/mixed; boundary=\"x\"\nno field\n",
	"dkim", "{@bank.example : pass}",
	"SPF", "softfail",
	"content-ids", `{"ii_1": "attachment1"}`,
	"to", "help@shop.example",
	"cc", "Caf\xc3\xa9 <cafe@shop.example>",
	"from", "J\xf6rg <joerg@bank.example>",
	"text", "Sch\xf6ne Gr\xfc\xdfe\n",
	"html", "<p>Schöne Grüße</p>",
	"sender_ip", "192.0.2.10",
	"envelope", `{"to":["help+c-42@shop.example"],"from":"bounce@bank.example"}`,
	"attachments", "2",
	"subject", "Gr\xfc\xdfe",
	"spam_score", "0.1",
	"attachment-info", `{"attachment2":{"filename":"Übersicht.csv","name":"x.csv","charset":"US-ASCII","type":"text/csv"},"attachment1":{"filename":"pic.png","name":"pic.png","type":"image/png","content-id":"ii_1"}}`,
	"charsets", `{"to":"UTF-8","cc":"UTF-8","html":"UTF-8","subject":"iso-8859-1","from":"iso-8859-1","text":"iso-8859-1"}`,
}

func sendGridWithFiles() []string {
	return append(append([]string{}, sendGridParsed...),
		"attachment2|Uebersicht.csv|text/csv", "a;b\n1;2\n",
		"attachment1|pic.png|image/png", "\x89PNG")
}

func TestSendGrid(t *testing.T) {
	t.Parallel()
	d := webhook.SendGrid{Basic: &webhook.BasicAuth{User: "u", Password: "p"}}
	in, err := d.Decode(webhook.Request{ContentType: typeMulti, Authorization: basic("u", "p"), Body: multi(sendGridWithFiles()...)})
	require.NoError(t, err)
	require.Equal(t, "9@bank.example", in.VendorMessageID)
	require.Equal(t, "bounce@bank.example", in.EnvelopeFrom)
	require.Equal(t, []string{"help+c-42@shop.example"}, in.Recipients)
	require.Equal(t, webhook.Auth{SPF: "softfail", DKIM: "{@bank.example : pass}", ClientIP: netip.MustParseAddr("192.0.2.10")}, in.Auth)
	require.True(t, in.Rebuilt)

	header, parts := leaves(t, in.Raw)
	require.Equal(t, []string{"by mx0047p1mdw1.sendgrid.net", "from mail.bank.example by mx0047p1mdw1"}, header["Received"])
	require.Equal(t, "=?iso-8859-1?q?J=F6rg?= <joerg@bank.example>", header.Get("From"))
	require.Equal(t, "=?utf-8?b?R3LDvMOfZQ==?=", header.Get("Subject"))
	require.Equal(t, "=?utf-8?q?Caf=C3=A9?= <cafe@shop.example>", header.Get("Cc"))
	require.NotContains(t, string(in.Raw), "no field")
	require.Equal(t, []leaf{
		{"mixed/alternative/", "text/plain", "", "", "", "Schöne Grüße\r\n"},
		{"mixed/alternative/related/", "text/html", "", "", "", "<p>Schöne Grüße</p>"},
		{"mixed/alternative/related/", "image/png", "inline", "pic.png", "<ii_1>", "\x89PNG"},
		{"mixed/", "text/csv", "attachment", "Übersicht.csv", "", "a;b\n1;2\n"},
	}, parts)
}

func TestSendGridCharsets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, charset, text, want string
	}{
		{"UTF-8", "UTF-8", "grün", "grün"},
		{"Latin-1", "ISO-8859-1", "gr\xfcn", "grün"},
		{"Windows", "windows-1252", "\x80 5", "€ 5"},
		{"Shift JIS", "shift_jis", "\x93\xfa\x96{", "日本"},
		{"ISO-2022-JP", "iso-2022-jp", "\x1b$BF|K\\\x1b(B", "日本"},
		{"GB", "gb2312", "\xc4\xe3\xba\xc3", "你好"},
		{"KOI8", "koi8-r", "\xf0\xd2\xc9", "При"},
		{"IANA's", "ibm437", "\x81", "ü"},
		{"unknown", "x-none", "gr\xfcn", "gr\uFFFDn"},
		{"unknown, but ASCII", "x-none", "green", "green"},
		{"none", "", "gr\xfcn", "gr\uFFFDn"},
		{"UTF-8 that is not", "utf-8", "gr\xfcn", "gr\uFFFDn"},
		{"attack", "iso-2022-kr", "\x1b$)Cabc", "\x1b$)Cabc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in, err := webhook.SendGrid{}.Decode(webhook.Request{ContentType: typeMulti, Body: multi(
				"from", "a@b.example", "envelope", `{"to":["x@shop.example"],"from":""}`,
				"text", tt.text, "charsets", `{"text":"`+tt.charset+`"}`)})
			require.NoError(t, err)
			_, parts := leaves(t, in.Raw)
			require.Equal(t, []leaf{{"", "text/plain", "", "", "", tt.want}}, parts)
		})
	}
}

func TestSendGridRaw(t *testing.T) {
	t.Parallel()
	raw := "From: a@b.example\r\nMessage-ID: <1@b.example>\r\n\r\ngr\xfcn\r\n"
	in, err := webhook.SendGrid{}.Decode(webhook.Request{ContentType: typeMulti, Body: multi(
		"dkim", "none", "SPF", "pass", "sender_ip", "::ffff:192.0.2.1", "envelope", `{"to":["x@shop.example","y@shop.example"],"from":"a@b.example"}`,
		"email", raw, "text", "other")})
	require.NoError(t, err)
	require.Equal(t, webhook.Inbound{
		Vendor: webhook.VendorSendGrid, VendorMessageID: "1@b.example", Raw: []byte(raw), EnvelopeFrom: "a@b.example",
		Recipients: []string{"x@shop.example", "y@shop.example"},
		Auth:       webhook.Auth{SPF: "pass", DKIM: "none", ClientIP: netip.MustParseAddr("192.0.2.1")},
	}, in)
}

func TestSendGridRefused(t *testing.T) {
	t.Parallel()
	base := []string{"from", "a@b.example", "text", "x"}
	envelope := []string{"envelope", `{"to":["x@shop.example"],"from":"a@b.example"}`}
	with := func(pairs ...string) []byte {
		return multi(append(append(append([]string{}, base...), envelope...), pairs...)...)
	}
	files := multi(sendGridWithFiles()...)
	tests := []struct {
		name  string
		basic *webhook.BasicAuth
		req   webhook.Request
		want  string
	}{
		{"good", nil, webhook.Request{ContentType: typeMulti, Body: with()}, "ok"},
		{"odd sender_ip", nil, webhook.Request{ContentType: typeMulti, Body: with("sender_ip", "nowhere")}, "ok"},
		{"no credentials", &webhook.BasicAuth{User: "u", Password: "p"}, webhook.Request{ContentType: typeMulti, Body: with()}, "credentials missing"},
		{"urlencoded", nil, webhook.Request{ContentType: typeForm, Body: urlencoded(base...)}, "content type"},
		{"never ends", nil, webhook.Request{ContentType: typeMulti, Body: files[:len(files)-20]}, "malformed the form cannot be read"},
		{"no part", nil, webhook.Request{ContentType: typeMulti, Body: []byte("hello")}, "malformed the form cannot be read"},
		{"ends behind a part", nil, webhook.Request{ContentType: typeMulti, Body: bytes.TrimSuffix(with(), []byte("--xYzZY--\r\n"))}, "malformed the form cannot be read"},
		{"ends behind a delimiter", nil, webhook.Request{ContentType: typeMulti, Body: bytes.TrimSuffix(with(), []byte("--\r\n"))}, "malformed the form cannot be read"},
		{"ends behind a delimiter's line", nil, webhook.Request{ContentType: typeMulti, Body: append(bytes.TrimSuffix(with(), []byte("--\r\n")), "\r\n"...)}, "malformed the form cannot be read"},
		{"no envelope", nil, webhook.Request{ContentType: typeMulti, Body: multi(base...)}, "malformed envelope is not SendGrid's JSON"},
		{"envelope broken", nil, webhook.Request{ContentType: typeMulti, Body: multi("envelope", `{"to":["x@`)}, "malformed envelope is not SendGrid's JSON"},
		{"no recipient", nil, webhook.Request{ContentType: typeMulti, Body: multi("envelope", `{"to":[]}`)}, "malformed there is no recipient"},
		{"sender with a line break", nil, webhook.Request{ContentType: typeMulti, Body: multi("envelope", `{"to":["a@b.example"],"from":"a\nb"}`)}, "malformed the sender's address is none"},
		{"no From", nil, webhook.Request{ContentType: typeMulti, Body: multi(envelope...)}, "malformed there is no From"},
		{"empty raw mail", nil, webhook.Request{ContentType: typeMulti, Body: with("email", "")}, "malformed email is empty"},
		{"charsets broken", nil, webhook.Request{ContentType: typeMulti, Body: with("charsets", "{")}, "malformed charsets is not a map"},
		{"attachment lost", nil, webhook.Request{ContentType: typeMulti, Body: with("attachments", "1")}, "malformed an attachment is missing"},
		{"too many attachments", nil, webhook.Request{ContentType: typeMulti, Body: with("attachments", "501")}, "malformed attachments is not a count"},
		{"attachment not counted", nil, webhook.Request{ContentType: typeMulti, Body: with("attachment1|a|b/c", "x")}, "malformed there are more attachments than counted"},
		{"attachment-info broken", nil, webhook.Request{ContentType: typeMulti, Body: with("attachment-info", "[]")}, "malformed attachment-info is not SendGrid's JSON"},
		{"long name of a field", nil, webhook.Request{ContentType: typeMulti, Body: with(strings.Repeat("x", 300), "x")}, "malformed the form cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in, err := webhook.SendGrid{Basic: tt.basic}.Decode(tt.req)
			require.Equal(t, tt.want, outcome(err))
			if err != nil {
				require.Equal(t, webhook.Inbound{}, in)
			}
		})
	}
}
