package webhook_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/webhook"
)

// mailgunParsed is a fully parsed request, in the shape of the documentation.
var mailgunParsed = []string{
	"recipient", "help+c-42@shop.example",
	"sender", "ann@bank.example",
	"subject", "Re: Ihre Bestellung – 42",
	"from", "Ann Müller <ann@bank.example>",
	"X-Envelope-From", "<ann@bank.example>",
	"body-plain", "Wo ist sie?\r\n\r\nOn Monday Shop wrote:\r\n> Danke\r\n",
	"body-html", `<p>Wo ist sie? <img src="cid:pic1"></p>`,
	"stripped-text", "Wo ist sie?",
	"stripped-signature", "Ann",
	"message-headers", `[["Received", "by mx.mailgun.org"], ["X-Mailgun-Spf", "Pass"], ["X-Mailgun-Dkim-Check-Result", "Fail"],` +
		`["Message-Id", "<abc@mail.bank.example>"], ["In-Reply-To", "<1@shop.example>"], ["From", "=?utf-8?q?Ann_M=C3=BCller?= <ann@bank.example>"],` +
		`["To", "Höfe <help+c-42@shop.example>"], ["Subject", "Re: Ihre Bestellung – 42"], ["Mime-Version", "1.0"], ["Content-Type", "multipart/mixed; boundary=\"old\""]]`,
}

func mailgunWithFiles() []string {
	return append(append([]string{}, mailgunParsed...),
		"attachment-count", "2",
		"content-id-map", `{"<pic1>": "attachment-1"}`,
		"attachment-1|pic.png|image/png", "\x89PNG\r\n\x1a\n\x00",
		"attachment-2|Rechnung.pdf|application/pdf", "%PDF-1.4\n")
}

func TestMailgunParsed(t *testing.T) {
	t.Parallel()
	d := webhook.Mailgun{Key: mailgunKey, Now: at(60)}
	in, err := d.Decode(webhook.Request{ContentType: typeMulti, Body: multi(signed(mailgunWithFiles()...)...)})
	require.NoError(t, err)
	require.Equal(t, webhook.VendorMailgun, in.Vendor)
	require.Equal(t, "abc@mail.bank.example", in.VendorMessageID)
	require.True(t, in.Rebuilt)
	require.Equal(t, "ann@bank.example", in.EnvelopeFrom)
	require.Equal(t, []string{"help+c-42@shop.example"}, in.Recipients)
	require.Equal(t, "Wo ist sie?", in.StrippedText)
	require.Equal(t, "Ann", in.StrippedSignature)
	require.Equal(t, webhook.Auth{SPF: "Pass", DKIM: "Fail"}, in.Auth)
	require.Equal(t, time.Unix(signedAt, 0).UTC(), in.ReceivedTime)

	header, parts := leaves(t, in.Raw)
	require.Equal(t, "=?utf-8?q?Ann_M=C3=BCller?= <ann@bank.example>", header.Get("From"))
	require.Equal(t, "=?utf-8?q?H=C3=B6fe?= <help+c-42@shop.example>", header.Get("To"))
	require.Equal(t, "=?utf-8?b?UmU6IElocmUgQmVzdGVsbHVuZyDigJMgNDI=?=", header.Get("Subject"))
	require.Equal(t, "<1@shop.example>", header.Get("In-Reply-To"))
	require.Len(t, header["Content-Type"], 1)
	require.Equal(t, []leaf{
		{"mixed/alternative/", "text/plain", "", "", "", "Wo ist sie?\r\n\r\nOn Monday Shop wrote:\r\n> Danke\r\n"},
		{"mixed/alternative/related/", "text/html", "", "", "", `<p>Wo ist sie? <img src="cid:pic1"></p>`},
		{"mixed/alternative/related/", "image/png", "inline", "pic.png", "<pic1>", "\x89PNG\r\n\x1a\n\x00"},
		{"mixed/", "application/pdf", "attachment", "Rechnung.pdf", "", "%PDF-1.4\n"},
	}, parts)

	// The same fields give the same mail, whatever form carries them.
	replay, err := d.Parse(webhook.Request{ContentType: typeMulti, Body: multi(mailgunWithFiles()...)})
	require.NoError(t, err)
	require.Equal(t, string(in.Raw), string(replay.Raw))
	plain, err := d.Decode(webhook.Request{ContentType: typeForm, Body: urlencoded(signed(mailgunParsed...)...)})
	require.NoError(t, err)
	again, err := d.Decode(webhook.Request{ContentType: typeMulti, Body: multi(signed(mailgunParsed...)...)})
	require.NoError(t, err)
	require.Equal(t, string(plain.Raw), string(again.Raw))
}

func TestMailgunRaw(t *testing.T) {
	t.Parallel()
	const raw = "Received: x\r\nX-Mailgun-Spf: SoftFail\r\nFrom: ann@bank.example\r\nMessage-ID:\r\n <7@bank.example>\r\n\r\nhi; there = \xe4\r\n"
	in, err := webhook.Mailgun{Key: mailgunKey, Now: at(0)}.Decode(webhook.Request{
		ContentType: typeForm, Body: urlencoded(signed("recipient", "a@shop.example, <b@shop.example>", "sender", "", "body-mime", raw)...),
	})
	require.NoError(t, err)
	require.Equal(t, webhook.Inbound{
		Vendor: webhook.VendorMailgun, VendorMessageID: "7@bank.example", Raw: []byte(raw),
		Recipients: []string{"a@shop.example", "b@shop.example"}, Auth: webhook.Auth{SPF: "SoftFail"},
		ReceivedTime: time.Unix(signedAt, 0).UTC(),
	}, in)
}

func TestMailgunRefused(t *testing.T) {
	t.Parallel()
	raw := []string{"recipient", "a@shop.example", "sender", "b@bank.example", "body-mime", "From: b@bank.example\r\n\r\nhi\r\n"}
	with := func(pairs ...string) []string { return append(append([]string{}, raw...), pairs...) }
	good := urlencoded(signed(raw...)...)
	files := multi(signed(mailgunWithFiles()...)...)
	tests := []struct {
		name string
		d    webhook.Mailgun
		req  webhook.Request
		want string
	}{
		{"good", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: good}, "ok"},
		{"signature in capitals", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(with("timestamp", fmt.Sprint(signedAt), "token", token, "signature", strings.ToUpper(signature(signedAt, token)))...)}, "ok"},
		{"raw semicolon in a value", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: append([]byte("x=a;b&"), good...)}, "ok"},
		{"last repetition", webhook.Mailgun{Now: at(28_500)}, webhook.Request{ContentType: typeForm, Body: good}, "ok"},
		{"old", webhook.Mailgun{Now: at(9*3600 + 1)}, webhook.Request{ContentType: typeForm, Body: good}, "credentials stale"},
		{"old by own tolerance", webhook.Mailgun{Tolerance: time.Minute, Now: at(61)}, webhook.Request{ContentType: typeForm, Body: good}, "credentials stale"},
		{"of the future", webhook.Mailgun{Now: at(-301)}, webhook.Request{ContentType: typeForm, Body: good}, "credentials stale"},
		{"clock behind", webhook.Mailgun{Now: at(-299)}, webhook.Request{ContentType: typeForm, Body: good}, "ok"},
		{"another key", webhook.Mailgun{Key: "other"}, webhook.Request{ContentType: typeForm, Body: good}, "credentials wrong"},
		{"no key", webhook.Mailgun{Key: "none"}, webhook.Request{ContentType: typeForm, Body: good}, "credentials unconfigured"},
		{"no signature", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(raw...)}, "credentials missing"},
		{"empty", webhook.Mailgun{}, webhook.Request{ContentType: typeForm}, "credentials missing"},
		{"time changed", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(with("timestamp", fmt.Sprint(signedAt+1), "token", token, "signature", signature(signedAt, token))...)}, "credentials wrong"},
		{"token changed", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(with("timestamp", fmt.Sprint(signedAt), "token", token[1:], "signature", signature(signedAt, token))...)}, "credentials wrong"},
		{"signature cut", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(with("timestamp", fmt.Sprint(signedAt), "token", token, "signature", signature(signedAt, token)[:62])...)}, "credentials wrong"},
		{"signature no hex", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(with("timestamp", fmt.Sprint(signedAt), "token", token, "signature", strings.Repeat("zz", 32))...)}, "credentials wrong"},
		{"JSON", webhook.Mailgun{}, webhook.Request{ContentType: typeJSON, Body: []byte("{}")}, "content type"},
		{"no type", webhook.Mailgun{}, webhook.Request{Body: good}, "content type"},
		{"form broken before the signature", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: append([]byte("%zz&"), good...)}, "credentials missing"},
		{"form broken behind the signature", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: append(good[:len(good):len(good)], "&%zz"...)}, "malformed the form cannot be read"},
		{"too many fields", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: append(good[:len(good):len(good)], strings.Repeat("&a=b", 2000)...)}, "malformed the form cannot be read"},
		{"too many fields before the signature", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: append([]byte(strings.Repeat("a&", 1<<20)), good...)}, "credentials missing"},
		{"multipart never ends", webhook.Mailgun{}, webhook.Request{ContentType: typeMulti, Body: multi(signed(raw...)...)[:350]}, "credentials missing"},
		{"multipart breaks off behind the signature", webhook.Mailgun{}, webhook.Request{ContentType: typeMulti, Body: append(multi(append(signed(), raw...)...)[:540], "..."...)}, "malformed the form cannot be read"},
		{"too many parts", webhook.Mailgun{}, webhook.Request{ContentType: typeMulti, Body: multi(append(signed(), strings.Split(strings.Repeat("a b ", 2000), " ")[:4000]...)...)}, "malformed the form cannot be read"},
		{"no boundary", webhook.Mailgun{}, webhook.Request{ContentType: "multipart/form-data", Body: files}, "credentials missing"},
		{"no recipient", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed(raw[2:]...)...)}, "malformed there is no recipient"},
		{"recipient with a line break", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed(append([]string{"recipient", "a@b\r\nX: y"}, raw[2:]...)...)...)}, "malformed a recipient's address is none"},
		{"too many recipients", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed(append([]string{"recipient", strings.Repeat("a@b.example,", 201)}, raw[2:]...)...)...)}, "malformed there are too many recipients"},
		{"empty mail", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed("recipient", "a@b.example", "body-mime", "")...)}, "malformed body-mime is empty"},
		{"no From", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed("recipient", "a@b.example", "body-plain", "x")...)}, "malformed there is no From"},
		{"headers no JSON", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed("recipient", "a@b.example", "from", "a@b", "message-headers", "[[")...)}, "malformed message-headers is not a list of pairs"},
		{"attachment lost", webhook.Mailgun{}, webhook.Request{ContentType: typeMulti, Body: multi(signed(mailgunWithFiles()[:len(mailgunWithFiles())-2]...)...)}, "malformed an attachment is missing"},
		{"attachment not counted", webhook.Mailgun{}, webhook.Request{ContentType: typeMulti, Body: multi(signed(append(append([]string{}, mailgunParsed...), "attachment-1|a|b/c", "x")...)...)}, "malformed there are more attachments than counted"},
		{"count no number", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed(append(append([]string{}, mailgunParsed...), "attachment-count", "-1")...)...)}, "malformed attachment-count is not a count"},
		{"content ids no JSON", webhook.Mailgun{}, webhook.Request{ContentType: typeForm, Body: urlencoded(signed(append(append([]string{}, mailgunParsed...), "content-id-map", "[]")...)...)}, "malformed content-id-map is not a map"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := tt.d
			switch d.Key {
			case "":
				d.Key = mailgunKey
			case "none":
				d.Key = ""
			}
			if d.Now == nil {
				d.Now = at(0)
			}
			in, err := d.Decode(tt.req)
			require.Equal(t, tt.want, outcome(err))
			if err != nil {
				require.Equal(t, webhook.Inbound{}, in)
				require.NotContains(t, err.Error(), mailgunKey)
			}
		})
	}
}

func TestMailgunReplay(t *testing.T) {
	t.Parallel()
	now := int64(signedAt)
	d := webhook.Mailgun{Key: mailgunKey, Tokens: webhook.NewTokens(), Now: func() time.Time { return time.Unix(now, 0) }}
	decode := func(d webhook.Mailgun, recipient, text, stripped string) string {
		_, err := d.Decode(webhook.Request{ContentType: typeForm, Body: urlencoded(signed(
			"recipient", recipient, "sender", "a@b.example", "stripped-text", stripped, "body-mime", "From: a@b.example\r\n\r\n"+text)...)})
		return outcome(err)
	}
	require.Equal(t, "ok", decode(d, "x@shop.example", "hello", ""))
	require.Equal(t, "ok", decode(d, "x@shop.example", "hello", ""), "the vendor's own repetition")
	require.Equal(t, "credentials replayed", decode(d, "x@shop.example", "pay", ""))
	require.Equal(t, "credentials replayed", decode(d, "y@shop.example", "hello", ""))
	require.Equal(t, "credentials replayed", decode(d, "x@shop.example", "hello", "pay"))
	now += int64(webhook.DefaultTolerance / time.Second)
	require.Equal(t, "credentials replayed", decode(d, "x@shop.example", "pay", ""))
	now++
	require.Equal(t, "credentials stale", decode(d, "x@shop.example", "pay", ""))
	require.Equal(t, "ok", decode(webhook.Mailgun{Key: mailgunKey, Now: at(0)}, "x@shop.example", "pay", ""))
}

// Tokens are bounded: the oldest goes when there are too many.
func TestTokensBounded(t *testing.T) {
	t.Parallel()
	d := webhook.Mailgun{Key: mailgunKey, Tokens: webhook.NewTokens(), Now: at(0)}
	decode := func(token, text string) string {
		_, err := d.Decode(webhook.Request{ContentType: typeForm, Body: urlencoded(
			"recipient", "x@shop.example", "body-mime", text,
			"timestamp", fmt.Sprint(signedAt), "token", token, "signature", signature(signedAt, token))})
		return outcome(err)
	}
	require.Equal(t, "ok", decode("first", "a"))
	for i := range webhook.MaxTokens - 1 {
		require.Equal(t, "ok", decode(fmt.Sprint(i), "a"))
	}
	require.Equal(t, "credentials replayed", decode(fmt.Sprint(webhook.MaxTokens-2), "b"))
	require.Equal(t, "ok", decode("one more", "a"))
	require.Equal(t, "ok", decode("first", "b"), "forgotten")
}

// A vector of known parts, made with another implementation:
// printf 1529006854a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0 | openssl dgst -sha256 -hmac key-3ax6xnjp29jd6fds4gc373sgvjxteol0
func TestMailgunVector(t *testing.T) {
	t.Parallel()
	const stamp, tok = "1529006854", "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0"
	const sum = "b63c0701c4f4b614f272106a1b367c5c3369bcdca664ae73ebd52787e45eef07"
	_, err := hex.DecodeString(sum)
	require.NoError(t, err)
	d := webhook.Mailgun{Key: mailgunKey, Now: func() time.Time { return time.Unix(1529006854, 0) }}
	_, err = d.Decode(webhook.Request{ContentType: typeForm, Body: []byte(
		"timestamp=" + stamp + "&token=" + tok + "&signature=" + sum + "&recipient=a%40b.example&body-mime=From:+a%40b.example%0D%0A%0D%0Ahi")})
	require.NoError(t, err)
}
