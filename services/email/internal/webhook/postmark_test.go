package webhook_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/webhook"
)

// postmarkBody is in the shape of the documentation's example.
const postmarkBody = `{
  "FromName": "Jörg Müller",
  "MessageStream": "inbound",
  "From": "joerg@bank.example",
  "FromFull": {"Email": "joerg@bank.example", "Name": "Jörg Müller", "MailboxHash": ""},
  "To": "\"Shop, Help\" <hash+c-42@inbound.postmarkapp.com>",
  "ToFull": [{"Email": "hash+c-42@inbound.postmarkapp.com", "Name": "Shop, Help", "MailboxHash": "c-42"}],
  "Cc": "\"First Cc\" <firstcc@bank.example>, secondcc@bank.example",
  "CcFull": [{"Email": "firstcc@bank.example", "Name": "First Cc", "MailboxHash": ""}, {"Email": "secondcc@bank.example", "Name": "", "MailboxHash": ""}],
  "Bcc": "", "BccFull": [],
  "OriginalRecipient": "hash+c-42@inbound.postmarkapp.com",
  "Subject": "Grüße",
  "MessageID": "73e6d360-66eb-11e1-8e72-a8904824019b",
  "ReplyTo": "replyto@bank.example",
  "MailboxHash": "c-42",
  "Date": "Fri, 1 Aug 2014 16:45:32 -04:00",
  "TextBody": "Hallo – wo?\n",
  "HtmlBody": "<html><body><p>Hallo – wo?</p></body></html>",
  "StrippedTextReply": "Hallo – wo?",
  "Tag": "",
  "Headers": [
    {"Name": "Return-Path", "Value": "<bounce@bank.example>"},
    {"Name": "Received-SPF", "Value": "Pass (sender SPF authorized) identity=mailfrom; client-ip=192.0.2.1; helo=mx; envelope-from=bounce@bank.example; receiver=hash@inbound.postmarkapp.com"},
    {"Name": "Message-ID", "Value": "<CAGXpo2@mail.bank.example>"},
    {"Name": "MIME-Version", "Value": "1.0"},
    {"Name": "Content-Type", "Value": "multipart/alternative; boundary=x"},
    {"Name": "X-Long", "Value": "` + "WORDS" + `"}
  ],
  "Attachments": [
    {"Name": "fäile.txt", "Content": "VGhpcyBpcyBhdHRhY2htZW50IGNvbnRlbnRzLCBiYXNlLTY0IGVuY29kZWQu", "ContentType": "text/plain; charset=us-ascii", "ContentLength": 45},
    {"Name": "in.gif", "Content": "R0lG", "ContentType": "image/gif", "ContentLength": 3, "ContentID": "in.gif@01CE7342"}
  ]
}`

func postmarkExample() string {
	return strings.Replace(postmarkBody, "WORDS", strings.TrimSpace(strings.Repeat("words ", 400)), 1)
}

func TestPostmark(t *testing.T) {
	t.Parallel()
	d := webhook.Postmark{Basic: &webhook.BasicAuth{User: "u", Password: "p:ss"}}
	in, err := d.Decode(webhook.Request{ContentType: typeJSON, Authorization: basic("u", "p:ss"), Body: []byte(postmarkExample())})
	require.NoError(t, err)
	require.Equal(t, "73e6d360-66eb-11e1-8e72-a8904824019b", in.VendorMessageID)
	require.Equal(t, "bounce@bank.example", in.EnvelopeFrom)
	require.Equal(t, []string{"hash+c-42@inbound.postmarkapp.com"}, in.Recipients)
	require.Equal(t, "Hallo – wo?", in.StrippedText)
	require.Len(t, in.Auth.ReceivedSPF, 1)
	require.True(t, in.Rebuilt)
	require.True(t, in.ReceivedTime.IsZero())

	header, parts := leaves(t, in.Raw)
	require.Equal(t, "=?utf-8?q?J=C3=B6rg_M=C3=BCller?= <joerg@bank.example>", header.Get("From"))
	require.Equal(t, `"Shop, Help" <hash+c-42@inbound.postmarkapp.com>`, header.Get("To"))
	require.Equal(t, `"First Cc" <firstcc@bank.example>, <secondcc@bank.example>`, header.Get("Cc"))
	require.Equal(t, "replyto@bank.example", header.Get("Reply-To"))
	require.Equal(t, "=?utf-8?b?R3LDvMOfZQ==?=", header.Get("Subject"))
	require.Equal(t, "Fri, 1 Aug 2014 16:45:32 -04:00", header.Get("Date"))
	require.Equal(t, "<CAGXpo2@mail.bank.example>", header.Get("Message-Id"))
	require.Equal(t, strings.TrimSpace(strings.Repeat("words ", 400)), header.Get("X-Long"))
	for line := range strings.SplitSeq(string(in.Raw), "\r\n") {
		require.LessOrEqual(t, len(line), 998)
	}
	require.Equal(t, []leaf{
		{"mixed/alternative/", "text/plain", "", "", "", "Hallo – wo?\r\n"},
		{"mixed/alternative/related/", "text/html", "", "", "", "<html><body><p>Hallo – wo?</p></body></html>"},
		{"mixed/alternative/related/", "image/gif", "inline", "in.gif", "<in.gif@01CE7342>", "GIF"},
		{"mixed/", "text/plain", "attachment", "fäile.txt", "", "This is attachment contents, base-64 encoded."},
	}, parts)
	require.Contains(t, string(in.Raw), "Content-Type: text/plain; charset=us-ascii")
}

func TestPostmarkRaw(t *testing.T) {
	t.Parallel()
	raw := "From: a@b.example\r\n\r\nhi\r\n"
	quoted, err := json.Marshal(raw)
	require.NoError(t, err)
	body := `{"MessageID": "m", "ToFull": [{"Email": "x@shop.example"}], "CcFull": [{"Email": "y@shop.example"}], "RawEmail": ` + string(quoted) + `, "TextBody": "other"}`
	in, err := webhook.Postmark{}.Decode(webhook.Request{ContentType: "application/json", Body: []byte(body)})
	require.NoError(t, err)
	require.Equal(t, webhook.Inbound{
		Vendor: webhook.VendorPostmark, VendorMessageID: "m", Raw: []byte(raw),
		Recipients: []string{"x@shop.example", "y@shop.example"},
	}, in)
}

func TestPostmarkRefused(t *testing.T) {
	t.Parallel()
	secured := &webhook.BasicAuth{User: "u", Password: "p"}
	example := postmarkExample()
	tests := []struct {
		name        string
		basic       *webhook.BasicAuth
		auth        string
		contentType string
		body        string
		want        string
	}{
		{"open", nil, "", typeJSON, example, "ok"},
		{"right", secured, basic("u", "p"), typeJSON, example, "ok"},
		{"missing", secured, "", typeJSON, example, "credentials missing"},
		{"wrong password", secured, basic("u", "P"), typeJSON, example, "credentials wrong"},
		{"wrong user", secured, basic("U", "p"), typeJSON, example, "credentials wrong"},
		{"longer password", secured, basic("u", "pp"), typeJSON, example, "credentials wrong"},
		{"bearer", secured, "Bearer p", typeJSON, example, "credentials wrong"},
		{"no password set", &webhook.BasicAuth{User: "u"}, basic("u", ""), typeJSON, example, "credentials unconfigured"},
		{"wrong before broken", secured, "", "text/plain", "{", "credentials missing"},
		{"form", nil, "", typeForm, example, "content type"},
		{"broken JSON", nil, "", typeJSON, example[:100], "malformed the body is not Postmark's JSON"},
		{"deep JSON", nil, "", typeJSON, strings.Repeat("[", 1<<20), "malformed the body is not Postmark's JSON"},
		{"other JSON", nil, "", typeJSON, `{"Headers": "x"}`, "malformed the body is not Postmark's JSON"},
		{"empty", nil, "", typeJSON, "", "malformed the body is not Postmark's JSON"},
		{"null", nil, "", typeJSON, "null", "malformed there is no recipient"},
		{"no id", nil, "", typeJSON, strings.Replace(example, `"MessageID"`, `"Other"`, 1), "malformed there is no MessageID"},
		{"no From", nil, "", typeJSON, `{"MessageID": "m", "OriginalRecipient": "a@b.example", "TextBody": "x"}`, "malformed there is no From"},
		{"bad base64", nil, "", typeJSON, strings.Replace(example, `"R0lG"`, `"R0*G"`, 1), "malformed an attachment is not base64"},
		{"cut attachment", nil, "", typeJSON, strings.Replace(example, `"ContentLength": 3`, `"ContentLength": 4`, 1), "malformed an attachment is not of its length"},
		{"too many headers", nil, "", typeJSON, strings.Replace(example, `"Headers": [`, `"Headers": [`+strings.Repeat(`{},`, 2000), 1), "malformed there are too many header fields"},
		{"too many attachments", nil, "", typeJSON, strings.Replace(example, `"Attachments": [`, `"Attachments": [`+strings.Repeat(`{},`, 500), 1), "malformed there are too many attachments"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in, err := webhook.Postmark{Basic: tt.basic}.Decode(webhook.Request{ContentType: tt.contentType, Authorization: tt.auth, Body: []byte(tt.body)})
			require.Equal(t, tt.want, outcome(err))
			if err != nil {
				require.Equal(t, webhook.Inbound{}, in)
			}
		})
	}
}
