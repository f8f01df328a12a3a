package webhook

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/mail"
	"strings"
)

// Postmark reads the requests of Postmark's inbound webhook
// (postmarkapp.com/developer/webhooks/inbound-webhook). It uses RawEmail where
// "Include raw email content in JSON payload" is on, and rebuilds otherwise.
type Postmark struct {
	// Basic is the user and password of the webhook's URL; nil for none.
	Basic *BasicAuth
}

var _ Decoder = Postmark{}

// Vendor implements Decoder.
func (Postmark) Vendor() Vendor { return VendorPostmark }

// Admit implements Decoder.
func (p Postmark) Admit(head http.Header) error {
	return p.Basic.check(VendorPostmark, head.Get("Authorization"))
}

// Status implements Decoder. 200: done; 403: "we will stop retries"; all else:
// ten retries over growing intervals of 1 minute to 6 hours
// (postmarkapp.com/developer/user-guide/inbound/parse-an-email).
func (Postmark) Status(o Outcome) int {
	switch o {
	case Accepted:
		return http.StatusOK
	case Refused:
		return http.StatusForbidden
	case Unauthenticated:
		return http.StatusUnauthorized
	default:
		return http.StatusServiceUnavailable
	}
}

// Decode implements Decoder.
func (p Postmark) Decode(req Request) (Inbound, error) {
	if err := p.Basic.check(VendorPostmark, req.Authorization); err != nil {
		return Inbound{}, err
	}
	return p.Parse(req)
}

type postmarkAddress struct {
	Email, Name string
}

type postmarkMail struct {
	MessageID         string
	OriginalRecipient string
	From              string
	FromFull          postmarkAddress
	To                string
	ToFull            []postmarkAddress
	Cc                string
	CcFull            []postmarkAddress
	BccFull           []postmarkAddress
	ReplyTo           string
	Subject           string
	Date              string
	TextBody          string
	HTMLBody          string `json:"HtmlBody"`
	StrippedTextReply string
	RawEmail          string
	Headers           []struct{ Name, Value string }
	Attachments       []struct {
		Name, Content, ContentType, ContentID string
		ContentLength                         int64
	}
}

// Parse implements Decoder.
func (Postmark) Parse(req Request) (Inbound, error) {
	if _, _, err := mediaType(VendorPostmark, req.ContentType, typeJSON); err != nil {
		return Inbound{}, err
	}
	in := Inbound{Vendor: VendorPostmark}
	var m postmarkMail
	if err := json.Unmarshal(req.Body, &m); err != nil {
		return Inbound{}, in.malformed("the body is not Postmark's JSON", err)
	}
	if len(m.Headers) > maxHeaderFields {
		return Inbound{}, in.malformed("there are too many header fields", nil)
	}
	fields := make([]headerField, 0, len(m.Headers)+6)
	for _, h := range m.Headers {
		fields = append(fields, headerField{name: h.Name, value: h.Value})
		if strings.EqualFold(h.Name, "Received-SPF") {
			in.Auth.ReceivedSPF = append(in.Auth.ReceivedSPF, cleanText(h.Value))
		}
	}
	recipients := []string{m.OriginalRecipient}
	if strings.TrimSpace(m.OriginalRecipient) == "" {
		recipients = recipients[:0]
		for _, list := range [][]postmarkAddress{m.ToFull, m.CcFull, m.BccFull} {
			for _, a := range list {
				recipients = append(recipients, a.Email)
			}
		}
	}
	if err := in.setEnvelope(first(fields, "Return-Path"), recipients); err != nil {
		return Inbound{}, err
	}
	in.StrippedText = m.StrippedTextReply
	if in.VendorMessageID = cleanText(m.MessageID); in.VendorMessageID == "" || len(in.VendorMessageID) > 998 {
		return Inbound{}, in.malformed("there is no MessageID", nil)
	}
	if m.RawEmail != "" {
		in.Raw = []byte(m.RawEmail)
		return in, nil
	}
	d, err := m.draft(&in, fields)
	if err != nil {
		return Inbound{}, err
	}
	in.Raw, in.Rebuilt = d.build(), true
	return in, nil
}

// draft adds the fields that Postmark takes out of Headers.
func (m *postmarkMail) draft(in *Inbound, fields []headerField) (draft, error) {
	from := m.From
	if m.FromFull.Email != "" {
		from = addressList([]postmarkAddress{m.FromFull})
	}
	fields = complete(fields, "From", from)
	fields = complete(fields, "To", listOr(m.ToFull, m.To))
	fields = complete(fields, "Cc", listOr(m.CcFull, m.Cc))
	fields = complete(fields, "Reply-To", m.ReplyTo)
	fields = complete(fields, "Subject", m.Subject)
	fields = complete(fields, "Date", m.Date)
	d := draft{header: fields}
	if first(fields, "From") == "" {
		return d, in.malformed("there is no From", nil)
	}
	if m.TextBody != "" {
		d.text = &m.TextBody
	}
	if m.HTMLBody != "" {
		d.html = &m.HTMLBody
	}
	if len(m.Attachments) > MaxAttachments {
		return d, in.malformed("there are too many attachments", nil)
	}
	for _, a := range m.Attachments {
		content, err := base64.StdEncoding.DecodeString(a.Content)
		if err != nil {
			return d, in.malformed("an attachment is not base64", err)
		}
		if a.ContentLength > 0 && a.ContentLength != int64(len(content)) {
			return d, in.malformed("an attachment is not of its length", nil)
		}
		d.attachments = append(d.attachments, attachment{
			name: a.Name, contentType: a.ContentType, contentID: a.ContentID, content: content,
		})
	}
	return d, nil
}

func listOr(list []postmarkAddress, text string) string {
	if len(list) == 0 {
		return text
	}
	return addressList(list)
}

func addressList(list []postmarkAddress) string {
	texts := make([]string, 0, len(list))
	for _, a := range list {
		if a.Email == "" {
			continue
		}
		address := mail.Address{Name: cleanText(a.Name), Address: a.Email}
		texts = append(texts, address.String())
	}
	return strings.Join(texts, ", ")
}
