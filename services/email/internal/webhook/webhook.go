package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Decoder reads the requests of one vendor's endpoint. It may be used
// concurrently. Errors are those of the package's table.
type Decoder interface {
	// Vendor names the vendor.
	Vendor() Vendor
	// Admit checks what the head says of credentials, so that nobody's body
	// need be read. Decode checks it again.
	Admit(head http.Header) error
	// Decode checks the credentials and reads the mail.
	Decode(req Request) (Inbound, error)
	// Parse reads the mail without a look at credentials: for replays from
	// quarantine by whoever may do so.
	Parse(req Request) (Inbound, error)
	// Status is the HTTP status that tells the vendor an outcome.
	Status(o Outcome) int
}

// Vendor is who sends the webhook.
type Vendor string

// The vendors.
const (
	VendorMailgun  Vendor = "mailgun"
	VendorPostmark Vendor = "postmark"
	VendorSendGrid Vendor = "sendgrid"
)

// Request is what is kept of an HTTP request: enough to decode it, also later.
type Request struct {
	// ContentType is the header of that name.
	ContentType string
	// Authorization is the header of that name. It is a secret: leave it out of
	// what is kept, Parse does not need it.
	Authorization string
	// Body is the body as it came, whole.
	Body []byte
}

// Inbound is a mail as a vendor handed it over.
type Inbound struct {
	Vendor Vendor
	// VendorMessageID is Postmark's MessageID; of Mailgun and SendGrid, which
	// give none of their own, the mail's Message-ID without angle brackets. It
	// is the same when a request is sent again. With Recipients it names what
	// was delivered; empty where the mail has none.
	VendorMessageID string
	// Raw is the mail (RFC 5322); byte for byte as received unless Rebuilt.
	Raw []byte
	// Rebuilt says that Raw was put together from fields. Signatures do not hold
	// over it.
	Rebuilt bool
	// EnvelopeFrom is the address of MAIL FROM, empty for the null sender, and
	// of Postmark where the mail has no Return-Path.
	EnvelopeFrom string
	// Recipients are the addresses of RCPT TO, one or more, as written.
	Recipients []string
	// StrippedText and StrippedSignature are the new text without quotation and
	// the signature, in the vendor's judgement; may be empty.
	StrippedText, StrippedSignature string
	// Auth is what the vendor says of the sender.
	Auth Auth
	// ReceivedTime is when the vendor says that it signed the request; zero
	// where it does not say.
	ReceivedTime time.Time
}

// Auth is a vendor's word on the sender's authentication, as written; package
// auth reads it. Empty where nothing was said.
type Auth struct {
	// SPF and DKIM are the X-Mailgun-Spf and X-Mailgun-Dkim-Check-Result
	// headers, or SendGrid's fields SPF and dkim.
	SPF, DKIM string
	// ReceivedSPF are the Received-SPF fields of a Postmark mail, topmost first.
	ReceivedSPF []string
	// ClientIP is the address that delivered the mail to SendGrid.
	ClientIP netip.Addr
}

const (
	// DefaultMaxBytes holds the largest mail that the vendors take (Postmark
	// 35 MB with attachments, SendGrid 30 MB, Mailgun 25 MB) with what the form
	// or base64 adds.
	DefaultMaxBytes = 64 << 20
	// MaxRecipients bounds the recipients of one mail.
	MaxRecipients = 200
	// MaxAddressBytes bounds an address, as events do.
	MaxAddressBytes = 320
	// MaxAttachments bounds the files of a rebuilt mail.
	MaxAttachments = 500
)

// Decode reads and decodes a request of at most maxBytes of body, DefaultMaxBytes
// if 0. The Request is returned with whatever error came behind the reading, for
// quarantine.
func Decode(r *http.Request, d Decoder, maxBytes int64) (Inbound, Request, error) {
	if err := d.Admit(r.Header); err != nil {
		return Inbound{}, Request{}, err
	}
	req, err := Read(r, maxBytes)
	if err != nil {
		return Inbound{}, Request{}, err
	}
	in, err := d.Decode(req)
	return in, req, err
}

// Read reads a request of at most maxBytes of body, DefaultMaxBytes if 0. It
// fails with TooLargeError, or with the error of the connection.
func Read(r *http.Request, maxBytes int64) (Request, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	if r.ContentLength > maxBytes {
		return Request{}, &TooLargeError{Limit: maxBytes}
	}
	var body bytes.Buffer
	if r.ContentLength > 0 {
		// A length that is only claimed must not reserve much.
		body.Grow(int(min(r.ContentLength, 1<<20)) + bytes.MinRead)
	}
	if r.Body != nil {
		if _, err := body.ReadFrom(io.LimitReader(r.Body, maxBytes+1)); err != nil {
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
				return Request{}, &TooLargeError{Limit: maxBytes}
			}
			return Request{}, fmt.Errorf("read the webhook's body: %w", err)
		}
	}
	if int64(body.Len()) > maxBytes {
		return Request{}, &TooLargeError{Limit: maxBytes}
	}
	return Request{
		ContentType:   r.Header.Get("Content-Type"),
		Authorization: r.Header.Get("Authorization"),
		Body:          body.Bytes(),
	}, nil
}

// cleanAddress takes space and angle brackets off an address and checks that it
// can be one. The null sender is the empty address.
func cleanAddress(s string) (string, bool) {
	s = strings.TrimSpace(s)
	s = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">"))
	if len(s) > MaxAddressBytes || strings.ToValidUTF8(s, "") != s {
		return "", false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return "", false
		}
	}
	return s, true
}

// setEnvelope checks and sets sender and recipients.
func (in *Inbound) setEnvelope(from string, recipients []string) error {
	var ok bool
	if in.EnvelopeFrom, ok = cleanAddress(from); !ok {
		return in.malformed("the sender's address is none", nil)
	}
	for _, r := range recipients {
		address, ok := cleanAddress(r)
		if !ok {
			return in.malformed("a recipient's address is none", nil)
		}
		if address != "" {
			in.Recipients = append(in.Recipients, address)
		}
	}
	if len(in.Recipients) == 0 {
		return in.malformed("there is no recipient", nil)
	}
	if len(in.Recipients) > MaxRecipients {
		return in.malformed("there are too many recipients", nil)
	}
	return nil
}

func (in *Inbound) malformed(reason string, cause error) error {
	return &MalformedError{Vendor: in.Vendor, Reason: reason, Err: cause}
}
