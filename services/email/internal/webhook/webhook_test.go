package webhook_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/webhook"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	d := webhook.Postmark{Basic: &webhook.BasicAuth{User: "u", Password: "p"}}
	request := func(body io.Reader, auth string) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/x", body)
		r.Header.Set("Content-Type", typeJSON)
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		return r
	}
	example := postmarkExample()
	right := basic("u", "p")
	tests := []struct {
		name    string
		r       *http.Request
		max     int64
		want    string
		outcome webhook.Outcome
		// kept says that the request came back for quarantine.
		kept bool
	}{
		{"good", request(strings.NewReader(example), right), 0, "ok", webhook.Accepted, true},
		{"just fits", request(strings.NewReader(example), right), int64(len(example)), "ok", webhook.Accepted, true},
		{"too large by its length", request(strings.NewReader(example), right), int64(len(example) - 1), "too large", webhook.Refused, false},
		{"too large in chunks", request(io.MultiReader(strings.NewReader(example)), right), int64(len(example) - 1), "too large", webhook.Refused, false},
		{"endless", request(endless{}, right), 1 << 20, "too large", webhook.Refused, false},
		{"limited before", request(http.MaxBytesReader(nil, io.NopCloser(endless{}), 1000), right), 0, "too large", webhook.Refused, false},
		{"breaks off", request(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(io.ErrUnexpectedEOF)), right), 0, "other", webhook.RetryLater, false},
		{"malformed", request(strings.NewReader("{"), right), 0, "malformed the body is not Postmark's JSON", webhook.Accepted, true},
		{"not read without credentials", request(iotest.ErrReader(errors.New("read")), ""), 0, "credentials missing", webhook.Unauthenticated, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, req, err := webhook.Decode(tt.r, d, tt.max)
			require.Equal(t, tt.want, outcome(err))
			require.Equal(t, tt.outcome, webhook.OutcomeOf(err))
			require.Equal(t, tt.kept, len(req.Body) > 0)
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		d                                         webhook.Decoder
		vendor                                    webhook.Vendor
		accepted, refused, unauthenticated, later int
	}{
		{webhook.Mailgun{}, webhook.VendorMailgun, 200, 406, 401, 503},
		{webhook.Postmark{}, webhook.VendorPostmark, 200, 403, 401, 503},
		{webhook.SendGrid{}, webhook.VendorSendGrid, 200, 406, 401, 503},
	}
	for _, tt := range tests {
		require.Equal(t, tt.vendor, tt.d.Vendor())
		require.Equal(t, tt.accepted, tt.d.Status(webhook.OutcomeOf(nil)))
		require.Equal(t, tt.accepted, tt.d.Status(webhook.OutcomeOf(&webhook.MalformedError{})))
		require.Equal(t, tt.refused, tt.d.Status(webhook.OutcomeOf(&webhook.TooLargeError{})))
		require.Equal(t, tt.refused, tt.d.Status(webhook.OutcomeOf(&webhook.ContentTypeError{})))
		require.Equal(t, tt.unauthenticated, tt.d.Status(webhook.OutcomeOf(&webhook.CredentialsError{})))
		require.Equal(t, tt.later, tt.d.Status(webhook.OutcomeOf(io.ErrUnexpectedEOF)))
	}
}

// What a sender writes into a mail cannot add fields or parts to the rebuilt one.
func TestRebuiltInjection(t *testing.T) {
	t.Parallel()
	rebuild := func(t *testing.T, pairs ...string) []byte {
		t.Helper()
		in, err := webhook.SendGrid{}.Decode(webhook.Request{ContentType: typeMulti, Body: multi(append([]string{
			"envelope", `{"to":["x@shop.example"],"from":""}`}, pairs...)...)})
		require.NoError(t, err)
		return in.Raw
	}
	t.Run("subject", func(t *testing.T) {
		t.Parallel()
		header, _ := leaves(t, rebuild(t, "from", "a@b.example", "subject", "x\r\nBcc: evil@b.example\r\n\r\nbody", "text", "t"))
		require.Empty(t, header.Get("Bcc"))
		require.Equal(t, "x Bcc: evil@b.example body", header.Get("Subject"))
	})
	t.Run("file name and type", func(t *testing.T) {
		t.Parallel()
		_, parts := leaves(t, rebuild(t, "from", "a@b.example", "text", "t", "attachments", "1",
			"attachment-info", `{"attachment1":{"filename":"a\"\r\nX: y\u0000.txt","type":"text/plain\r\nX: y","content-id":"a>\r\nX: y"}}`,
			"attachment1|x|y/z", "content"))
		require.Equal(t, []leaf{
			{"mixed/", "text/plain", "", "", "", "t"},
			{"mixed/", "application/octet-stream", "attachment", `a"  X: y .txt`, "", "content"},
		}, parts)
	})
	t.Run("boundary", func(t *testing.T) {
		t.Parallel()
		raw := rebuild(t, "from", "a@b.example", "text", "t", "html", "h")
		_, after, _ := strings.Cut(string(raw), `boundary="`)
		boundary, _, _ := strings.Cut(after, `"`)
		require.NotEmpty(t, boundary)
		text := "--" + boundary + "\r\nContent-Type: text/x\r\n\r\nx\r\n--" + boundary + "--\r\n"
		_, parts := leaves(t, rebuild(t, "from", "a@b.example", "text", text, "html", "h"))
		require.Equal(t, []leaf{{"alternative/", "text/plain", "", "", "", text}, {"alternative/", "text/html", "", "", "", "h"}}, parts)
	})
	t.Run("multipart attachment", func(t *testing.T) {
		t.Parallel()
		_, parts := leaves(t, rebuild(t, "from", "a@b.example", "attachments", "1", "attachment1|x|multipart/mixed; boundary=y", "--y--"))
		require.Equal(t, "application/octet-stream", parts[1].contentType)
	})
	t.Run("long words and many spaces", func(t *testing.T) {
		t.Parallel()
		long := strings.Repeat("a", 3000)
		header, _ := leaves(t, rebuild(t, "headers", "From: a@b.example\nX-A: "+long+" b   c\nX-B:\nX-C: "+strings.Repeat(" ", 5000)+"d\n", "text", "t"))
		require.Equal(t, long+" b c", header.Get("X-A"))
		require.Equal(t, "d", header.Get("X-C"))
	})
}

// A delivery report keeps its type, and its parts can be read as such.
func TestRebuiltReport(t *testing.T) {
	t.Parallel()
	status := "Reporting-MTA: dns; mx.bank.example\n\nFinal-Recipient: rfc822; gone@bank.example\nAction: failed\nStatus: 5.1.1\n"
	in, err := webhook.SendGrid{}.Decode(webhook.Request{ContentType: typeMulti, Body: multi(
		"headers", "From: MAILER-DAEMON@bank.example\nContent-Type: multipart/report;\n report-type=delivery-status; boundary=\"old\"\n",
		"text", "It failed.", "envelope", `{"to":["x@shop.example"],"from":""}`,
		"attachments", "2", "attachment1|status|message/delivery-status", status, "attachment2|m.eml|message/rfc822", "Subject: grün\n\nx\n")})
	require.NoError(t, err)
	header, parts := leaves(t, in.Raw)
	require.Contains(t, header.Get("Content-Type"), "multipart/report;")
	require.Contains(t, header.Get("Content-Type"), "report-type=delivery-status")
	require.Equal(t, []leaf{
		{"report/", "text/plain", "", "", "", "It failed."},
		{"report/", "message/delivery-status", "attachment", "status", "", strings.ReplaceAll(status, "\n", "\r\n")},
		{"report/", "message/rfc822", "attachment", "m.eml", "", "Subject: grün\n\nx\n"},
	}, parts)
}
