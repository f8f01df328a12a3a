package webhook_test

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/webhook"
)

func FuzzMailgun(f *testing.F) {
	f.Add(typeForm, urlencoded(signed(mailgunParsed...)...))
	f.Add(typeMulti, multi(signed(mailgunWithFiles()...)...))
	f.Add(typeForm, urlencoded(signed("recipient", "a@b.example", "body-mime", "From: a@b.example\r\n\r\n")...))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		d := webhook.Mailgun{Key: mailgunKey, Now: at(0), Tokens: webhook.NewTokens()}
		check(t, d, webhook.Request{ContentType: contentType, Body: body})
	})
}

func FuzzPostmark(f *testing.F) {
	f.Add(typeJSON, []byte(postmarkExample()))
	f.Add(typeJSON, []byte(`{"MessageID":"m","OriginalRecipient":"a@b.example","From":"a@b.example"}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		check(t, webhook.Postmark{}, webhook.Request{ContentType: contentType, Body: body})
	})
}

func FuzzSendGrid(f *testing.F) {
	f.Add(typeMulti, multi(sendGridWithFiles()...))
	f.Add(typeMulti, multi("from", "a@b.example", "text", "x", "envelope", `{"to":["a@b.example"]}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		check(t, webhook.SendGrid{}, webhook.Request{ContentType: contentType, Body: body})
	})
}

// FuzzRebuild reaches the rebuilding with any fields.
func FuzzRebuild(f *testing.F) {
	f.Add("From: a@b.example\nSubject: x", "text", "<p>", "a.txt", "text/plain", "cid", []byte("content"), "iso-8859-1")
	f.Add("From: a\nContent-Type: multipart/report", "", "", "", "message/rfc822", "", []byte("a\r\nb\n\r"), "x")
	f.Fuzz(func(t *testing.T, headers, text, html, name, contentType, id string, content []byte, charset string) {
		clean := strings.NewReplacer("xYzZY", "", `"`, "", `\`, "", "\r", "", "\n", "")
		body := multi("headers", headers, "from", "a@b.example", "text", text, "html", html,
			"envelope", `{"to":["a@b.example"]}`, "attachments", "1", "charsets", `{"text":"`+clean.Replace(charset)+`"}`,
			"attachment-info", `{"attachment1":{"filename":"`+clean.Replace(name)+`","type":"`+clean.Replace(contentType)+`","content-id":"`+clean.Replace(id)+`"}}`,
			"attachment1|x|y/z", string(content))
		check(t, webhook.SendGrid{}, webhook.Request{ContentType: typeMulti, Body: body})
	})
}

// check holds for every request: an error of the table or a mail that can be read.
func check(t *testing.T, d webhook.Decoder, req webhook.Request) {
	t.Helper()
	in, err := d.Parse(req)
	if _, decodeErr := d.Decode(req); decodeErr == nil {
		require.NoError(t, err)
	}
	if err != nil {
		kind := outcome(err)
		require.True(t, strings.HasPrefix(kind, "malformed ") || kind == "content type", kind)
		require.Equal(t, webhook.Inbound{}, in)
		return
	}
	require.NotEmpty(t, in.Recipients)
	require.NotEmpty(t, in.Raw)
	for _, r := range append(in.Recipients, in.EnvelopeFrom) {
		require.NotContains(t, r, "\n")
		require.LessOrEqual(t, len(r), webhook.MaxAddressBytes)
	}
	again, err := d.Parse(req)
	require.NoError(t, err)
	require.Equal(t, in, again)
	if !in.Rebuilt {
		return
	}
	requireWellFormed(t, in.Raw)
	m, err := mail.ReadMessage(bytes.NewReader(in.Raw))
	require.NoError(t, err)
	require.Equal(t, []string{"1.0"}, m.Header["Mime-Version"])
	require.Len(t, m.Header["Content-Type"], 1)
	_, _, err = mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, m.Body)
	require.NoError(t, err)
	_, parts := leaves(t, in.Raw)
	require.NotEmpty(t, parts)
}
