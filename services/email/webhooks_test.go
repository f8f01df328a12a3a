package email_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/services/email"
)

const mailgunKey = "key-of-the-account"

// hooks serves all three vendors' endpoints.
func hooks(t *testing.T, r *rig, change func(*email.WebhookConfig)) *httptest.Server {
	t.Helper()
	cfg := email.WebhookConfig{
		MailgunKey: mailgunKey, Postmark: email.Credentials{User: "pm", Password: "pm secret"}, SendGrid: email.Credentials{User: "sg", Password: "sg secret"},
		MaxBodyBytes: 1 << 20,
	}
	if change != nil {
		change(&cfg)
	}
	h, err := email.NewWebhooks(r.Intake, cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(h.Handler())
	t.Cleanup(srv.Close)
	return srv
}

// hook is a vendor's request.
type hook struct {
	path, contentType, user, password string
	body                              []byte
}

func (h hook) post(t *testing.T, srv *httptest.Server) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+h.path, bytes.NewReader(h.body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", h.contentType)
	if h.user != "" {
		req.SetBasicAuth(h.user, h.password)
	}
	resp, err := srv.Client().Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// mailgun signs fields.
func mailgun(path string, fields map[string]string) hook {
	token, stamp := "token-"+strconv.Itoa(len(fields["body-mime"])+len(fields["body-plain"])), strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(mailgunKey))
	mac.Write([]byte(stamp + token))
	form := url.Values{"timestamp": {stamp}, "token": {token}, "signature": {hex.EncodeToString(mac.Sum(nil))}}
	for k, v := range fields {
		form.Set(k, v)
	}
	return hook{path: path, contentType: "application/x-www-form-urlencoded", body: []byte(form.Encode())}
}

func mailgunMIME(raw string) hook {
	return mailgun("/v1/mail/mailgun/mime", map[string]string{"recipient": "support+c-k7@acme.example", "sender": "ada@customer.example", "body-mime": raw})
}

func mailgunFields(text string) hook {
	headers, err := json.Marshal([][]string{{"From", "Ada <ada@customer.example>"}, {"To", "support@acme.example"}, {"Subject", "Hello"},
		{"Message-Id", "<fields@customer.example>"}, {"Date", "Fri, 13 Mar 2026 08:59:00 +0000"},
		{"X-Mailgun-Spf", "Pass"}, {"X-Mailgun-Dkim-Check-Result", "Pass"}, {"Dkim-Signature", "v=1; d=customer.example; s=a; b=AAAA"}})
	if err != nil {
		return hook{}
	}
	return mailgun("/v1/mail/mailgun", map[string]string{"recipient": "support@acme.example", "sender": "ada@customer.example",
		"from": "Ada <ada@customer.example>", "subject": "Hello", "body-plain": text, "message-headers": string(headers)})
}

func postmark(t *testing.T, raw string) hook {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"MessageID": "pm-1", "OriginalRecipient": "support@acme.example", "From": "ada@customer.example", "FromFull": map[string]string{"Email": "ada@customer.example"},
		"ToFull": []map[string]string{{"Email": "support@acme.example"}}, "RawEmail": raw, "Headers": []map[string]string{}, "Attachments": []any{},
	})
	require.NoError(t, err)
	return hook{"/v1/mail/postmark", "application/json", "pm", "pm secret", body}
}

func sendgrid(t *testing.T, raw string) hook {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for k, v := range map[string]string{
		"envelope": `{"to":["support@acme.example","hello@globex.example"],"from":"ada@customer.example"}`, "email": raw, "SPF": "pass",
		"dkim": "{@customer.example : pass}", "sender_ip": "198.51.100.7",
	} {
		require.NoError(t, w.WriteField(k, v))
	}
	require.NoError(t, w.Close())
	return hook{"/v1/mail/sendgrid", w.FormDataContentType(), "sg", "sg secret", body.Bytes()}
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	raw := plain("hook@customer.example", "By a vendor.")
	for name, tc := range map[string]struct {
		hook              hook
		via               string
		refused, unauthed int
	}{
		"mailgun raw":    {mailgunMIME(raw), "mailgun", 406, 401},
		"mailgun fields": {mailgunFields("By a vendor."), "mailgun", 406, 401},
		"postmark":       {postmark(t, raw), "postmark", 403, 401},
		"sendgrid":       {sendgrid(t, raw), "sendgrid", 406, 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			srv := hooks(t, r, nil)
			// Not now: nothing is taken, and the vendor comes again.
			r.publisher.fail(bus.ErrFull)
			require.Equal(t, 503, tc.hook.post(t, srv))
			r.publisher.fail(nil)
			for range 2 {
				require.Equal(t, 200, tc.hook.post(t, srv))
			}
			events := r.publisher.events("acme")
			require.Len(t, events, 2)
			require.Equal(t, events[0].GetId(), events[1].GetId())
			require.Equal(t, events[0].GetContentDigest(), events[1].GetContentDigest())
			p := events[0].GetPayload().GetEmailReceived()
			require.Equal(t, "By a vendor.", p.GetText())
			require.Equal(t, "support@acme.example", p.GetMailbox())
			require.Contains(t, events[0].GetContextJson(), `"via":"`+tc.via+`"`)
			require.Contains(t, who(events[0]), "ada@customer.example")
			if tc.via == "sendgrid" {
				require.Len(t, r.publisher.events("globex"), 2, "each recipient's tenant has it")
				require.Contains(t, who(events[0]), "customer:ada@customer.example", "the vendor vouches for it")
			} else {
				require.Contains(t, who(events[0]), "customer/unchecked:")
			}
			if tc.via == "mailgun" && strings.HasSuffix(tc.hook.path, "mime") {
				require.Equal(t, "k7", p.GetAddressConversation())
			}

			bad := tc.hook
			bad.password = "wrong"
			bad.body = bytes.Replace(bytes.Clone(bad.body), []byte("signature="), []byte("signature=0"), 1)
			require.Equal(t, tc.unauthed, bad.post(t, srv))
			huge := tc.hook
			huge.body = make([]byte, 1<<20+1)
			require.Equal(t, tc.refused, huge.post(t, srv))
			odd := tc.hook
			odd.contentType = "image/png"
			require.Equal(t, tc.refused, odd.post(t, srv))
			require.Len(t, r.publisher.events("acme"), 2)
			require.Empty(t, r.publisher.quarantined("acme"))
		})
	}
}

// TestOneMailEveryWay sends one mail by all ways in: it is one event.
func TestOneMailEveryWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	srv := hooks(t, r, nil)
	raw := plain("every@customer.example", "Once is enough.")
	first := r.one(raw)
	for _, h := range []hook{mailgunMIME(raw), postmark(t, raw), sendgrid(t, raw)} {
		require.Equal(t, 200, h.post(t, srv))
	}
	for _, ev := range r.publisher.events("acme") {
		require.Equal(t, first.GetId(), ev.GetId())
		require.Equal(t, first.GetSource(), ev.GetSource())
		require.Equal(t, first.GetContentDigest(), ev.GetContentDigest())
		require.Equal(t, first.GetPayload().GetEmailReceived().GetRawBlob(), ev.GetPayload().GetEmailReceived().GetRawBlob())
	}
}

func TestMailgunChecksAreBelievedWhereSaid(t *testing.T) {
	t.Parallel()
	for believed, want := range map[bool]string{false: "customer/unchecked:ada@customer.example", true: "customer:ada@customer.example"} {
		r := newRig(t, nil)
		srv := hooks(t, r, func(cfg *email.WebhookConfig) { cfg.MailgunChecks = believed })
		require.Equal(t, 200, mailgunFields("x").post(t, srv))
		require.Contains(t, who(r.publisher.events("acme")[0]), want)
	}
}

func TestWebhooksMalformed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	srv := hooks(t, r, func(cfg *email.WebhookConfig) { cfg.QuarantineTenant = "globex" })
	broken := hook{"/v1/mail/postmark", "application/json", "pm", "pm secret", []byte(`{"RawEmail":` + strings.Repeat(" ", 300<<10))}
	require.Equal(t, 200, broken.post(t, srv))
	require.Equal(t, 200, broken.post(t, srv))
	bodies := r.publisher.quarantined("globex")
	require.Len(t, bodies, 2)
	require.Equal(t, bodies[0].GetId(), bodies[1].GetId(), "a retry is kept once")
	require.Equal(t, "malformed_webhook", bodies[0].GetCode())
	require.Equal(t, "email/postmark", bodies[0].GetSource())
	require.Equal(t, "application/json", bodies[0].GetMediaType())
	require.Len(t, bodies[0].GetBody(), 256<<10)
	require.EqualValues(t, len(broken.body), bodies[0].GetBodySize())
	v, err := validator()
	require.NoError(t, err)
	require.Empty(t, v.Check(bodies[0]))
	r.publisher.fail(bus.ErrUnavailable)
	require.Equal(t, 503, broken.post(t, srv))
	r.publisher.fail(nil)

	// For nobody here, and round and round: refused for good.
	nobody := mailgun("/v1/mail/mailgun/mime", map[string]string{"recipient": "a@nowhere.example", "sender": "b@c", "body-mime": plain("n@x", "x")})
	require.Equal(t, 406, nobody.post(t, srv))
	require.Equal(t, 406, mailgunMIME(strings.Repeat("Received: x\r\n", 51)+plain("n@x", "x")).post(t, srv))
	require.Empty(t, r.publisher.events("acme"))
}

func TestWebhooksWithoutASecretAreNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	srv := hooks(t, r, func(cfg *email.WebhookConfig) { *cfg = email.WebhookConfig{} })
	for _, h := range []hook{mailgunMIME("x"), mailgunFields("x"), postmark(t, "x"), sendgrid(t, "x")} {
		require.Equal(t, 404, h.post(t, srv))
	}
	srv = hooks(t, r, nil)
	resp, err := srv.Client().Get(srv.URL + "/v1/mail/postmark")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 405, resp.StatusCode)
	_, err = email.NewWebhooks(nil, email.WebhookConfig{})
	require.Error(t, err)
}

func TestWebhookThatBreaksOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	srv := hooks(t, r, func(cfg *email.WebhookConfig) { cfg.ReadTimeout = 50 * time.Millisecond })
	c := dialSMTP(t, strings.TrimPrefix(srv.URL, "http://"))
	auth := base64.StdEncoding.EncodeToString([]byte("pm:pm secret"))
	c.send("POST /v1/mail/postmark HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + auth + "\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	line, err := c.r.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "503")
	require.Empty(t, r.publisher.quarantined("acme"))
}
