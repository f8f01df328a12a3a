package webhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// SendGrid reads the requests of SendGrid's Inbound Parse
// (twilio.com/docs/sendgrid/for-developers/parsing-email). It uses the field
// `email` where "POST the raw, full MIME message" is on, and rebuilds otherwise.
type SendGrid struct {
	// Basic is the user and password of the webhook's URL; nil for none.
	Basic *BasicAuth
}

var _ Decoder = SendGrid{}

// Vendor implements Decoder.
func (SendGrid) Vendor() Vendor { return VendorSendGrid }

// Admit implements Decoder.
func (s SendGrid) Admit(head http.Header) error {
	return s.Basic.check(VendorSendGrid, head.Get("Authorization"))
}

// Status implements Decoder. 2xx: done; 5xx: "automatically queues and
// retries", for 3 days (twilio.com/docs/sendgrid/for-developers/parsing-email/
// inbound-email). A 4xx is not retried: a mail under a wrong password is lost.
func (SendGrid) Status(o Outcome) int {
	switch o {
	case Accepted:
		return http.StatusOK
	case Refused:
		return http.StatusNotAcceptable
	case Unauthenticated:
		return http.StatusUnauthorized
	default:
		return http.StatusServiceUnavailable
	}
}

// Decode implements Decoder.
func (s SendGrid) Decode(req Request) (Inbound, error) {
	if err := s.Basic.check(VendorSendGrid, req.Authorization); err != nil {
		return Inbound{}, err
	}
	return s.Parse(req)
}

// Parse implements Decoder.
func (SendGrid) Parse(req Request) (Inbound, error) {
	isFile := func(field string) bool { return numbered(field, "attachment") }
	f, err := readForm(VendorSendGrid, req, isFile, typeMultipart)
	if _, other := errors.AsType[*ContentTypeError](err); other {
		return Inbound{}, err
	}
	in := Inbound{Vendor: VendorSendGrid}
	if err != nil {
		return Inbound{}, in.malformed("the form cannot be read", err)
	}
	var envelope struct {
		To   []string `json:"to"`
		From string   `json:"from"`
	}
	if err := json.Unmarshal([]byte(f.values["envelope"]), &envelope); err != nil {
		return Inbound{}, in.malformed("envelope is not SendGrid's JSON", err)
	}
	if err := in.setEnvelope(envelope.From, envelope.To); err != nil {
		return Inbound{}, err
	}
	in.Auth.SPF, in.Auth.DKIM = cleanText(f.values["SPF"]), cleanText(f.values["dkim"])
	if ip, err := netip.ParseAddr(strings.TrimSpace(f.values["sender_ip"])); err == nil {
		in.Auth.ClientIP = ip.Unmap().WithZone("")
	}
	if f.has("email") {
		in.Raw = []byte(f.values["email"])
		if len(in.Raw) == 0 {
			return Inbound{}, in.malformed("email is empty", nil)
		}
		in.VendorMessageID = messageID(topHeader(in.Raw))
		return in, nil
	}
	d, err := sendGridDraft(&in, f)
	if err != nil {
		return Inbound{}, err
	}
	in.Raw, in.Rebuilt = d.build(), true
	in.VendorMessageID = messageID(d.header)
	return in, nil
}

func sendGridDraft(in *Inbound, f form) (draft, error) {
	var d draft
	charsets := map[string]string{}
	if text := f.values["charsets"]; text != "" {
		if err := json.Unmarshal([]byte(text), &charsets); err != nil {
			return d, in.malformed("charsets is not a map", err)
		}
	}
	decoded := func(field string) string { return toUTF8(f.values[field], charsets[field]) }

	d.header = readHeader(f.values["headers"])
	for i, h := range d.header {
		// Fields are as sent, mostly in encoded words; bytes beyond that are in
		// the charset of the field, if SendGrid found one.
		charset := charsets[strings.ToLower(h.name)]
		if !isASCII(h.value) {
			d.header[i].value = toUTF8(h.value, charset)
		}
	}
	d.header = complete(d.header, "From", decoded("from"))
	d.header = complete(d.header, "To", decoded("to"))
	d.header = complete(d.header, "Cc", decoded("cc"))
	d.header = complete(d.header, "Subject", decoded("subject"))
	if first(d.header, "From") == "" {
		return d, in.malformed("there is no From", nil)
	}
	if f.has("text") {
		text := decoded("text")
		d.text = &text
	}
	if f.values["html"] != "" {
		html := decoded("html")
		d.html = &html
	}
	attachments, err := sendGridAttachments(in, f)
	d.attachments = attachments
	return d, err
}

func sendGridAttachments(in *Inbound, f form) ([]attachment, error) {
	count, err := countOf(f.values["attachments"])
	if err != nil {
		return nil, in.malformed("attachments is not a count", err)
	}
	var infos map[string]struct {
		FileName  string `json:"filename"`
		Name      string `json:"name"`
		Type      string `json:"type"`
		ContentID string `json:"content-id"`
	}
	if text := f.values["attachment-info"]; text != "" {
		if err := json.Unmarshal([]byte(text), &infos); err != nil {
			return nil, in.malformed("attachment-info is not SendGrid's JSON", err)
		}
	}
	var attachments []attachment
	for i := 1; i <= count; i++ {
		field := "attachment" + strconv.Itoa(i)
		part, ok := f.files[field]
		if !ok {
			return nil, in.malformed("an attachment is missing", nil)
		}
		info := infos[field]
		a := attachment{name: info.FileName, contentType: info.Type, contentID: info.ContentID, content: part.content}
		for _, name := range []string{info.Name, part.name} {
			if a.name == "" {
				a.name = name
			}
		}
		if a.contentType == "" {
			a.contentType = part.contentType
		}
		attachments = append(attachments, a)
	}
	if len(f.files) > count {
		return nil, in.malformed("there are more attachments than counted", nil)
	}
	return attachments, nil
}
