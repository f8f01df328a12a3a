package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/parleyhq/parley/pkg/config"
)

// Mailgun reads the requests of a Mailgun route's forward(): fully parsed as a
// form, or raw where the URL ends in `mime`
// (documentation.mailgun.com, "Receive, Forward & Store", "Securing Webhooks").
type Mailgun struct {
	// Key is the account's HTTP webhook signing key. Required: without it
	// everything is refused.
	Key config.Secret
	// Tolerance is how far a request's timestamp may be in the past. Defaults to
	// DefaultTolerance. Of the future it may be FutureTolerance.
	Tolerance time.Duration
	// Now is the clock. Required.
	Now func() time.Time
	// Tokens guards against replays with another mail. Nil leaves that out.
	Tokens *Tokens
}

const (
	// DefaultTolerance is longer than the 7 h 55 min over which Mailgun repeats
	// a delivery (after 10, 15, 30 minutes, 1, 2 and 4 hours): it is not
	// documented that a repetition is signed anew, and a shorter one would lose
	// mail.
	DefaultTolerance = 9 * time.Hour
	// FutureTolerance is for clocks that differ.
	FutureTolerance = 5 * time.Minute
)

var _ Decoder = Mailgun{}

// Vendor implements Decoder.
func (Mailgun) Vendor() Vendor { return VendorMailgun }

// Admit implements Decoder: the signature is in the body.
func (m Mailgun) Admit(http.Header) error {
	if m.Key == "" {
		return &CredentialsError{Vendor: VendorMailgun, Reason: ReasonUnconfigured}
	}
	return nil
}

// Status implements Decoder. "200 (Success)": done; "406 (Not Acceptable)":
// rejected and not retried; any other code: retried over 8 hours
// (documentation.mailgun.com, "Receiving Messages via HTTP").
func (Mailgun) Status(o Outcome) int {
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
func (m Mailgun) Decode(req Request) (Inbound, error) {
	if err := m.Admit(nil); err != nil {
		return Inbound{}, err
	}
	// A form that breaks off may hold the signature before that: then it is
	// authentic and malformed, otherwise nobody's.
	f, formErr := readMailgunForm(req)
	if _, other := errors.AsType[*ContentTypeError](formErr); other {
		return Inbound{}, formErr
	}
	signedAt, err := m.authenticate(f)
	if err != nil {
		return Inbound{}, err
	}
	in, err := parseMailgun(f, formErr)
	if err != nil {
		return Inbound{}, err
	}
	in.ReceivedTime = signedAt
	until := signedAt.Add(m.tolerance() + FutureTolerance)
	if m.Tokens != nil && !m.Tokens.use(f.values["token"], digest(in), m.Now(), until) {
		return Inbound{}, &CredentialsError{Vendor: VendorMailgun, Reason: ReasonReplayed}
	}
	return in, nil
}

// Parse implements Decoder.
func (m Mailgun) Parse(req Request) (Inbound, error) {
	f, err := readMailgunForm(req)
	if _, other := errors.AsType[*ContentTypeError](err); other {
		return Inbound{}, err
	}
	in, err := parseMailgun(f, err)
	if err != nil {
		return Inbound{}, err
	}
	if seconds, err := strconv.ParseInt(f.values["timestamp"], 10, 64); err == nil {
		in.ReceivedTime = time.Unix(seconds, 0).UTC()
	}
	return in, nil
}

func (m Mailgun) tolerance() time.Duration {
	if m.Tolerance <= 0 {
		return DefaultTolerance
	}
	return m.Tolerance
}

// authenticate checks signature = hex(HMAC-SHA256(key, timestamp + token)).
func (m Mailgun) authenticate(f form) (time.Time, error) {
	refuse := func(r CredentialsReason) (time.Time, error) {
		return time.Time{}, &CredentialsError{Vendor: VendorMailgun, Reason: r}
	}
	timestamp, token, signature := f.values["timestamp"], f.values["token"], f.values["signature"]
	if timestamp == "" || token == "" || signature == "" {
		return refuse(ReasonMissing)
	}
	given, err := hex.DecodeString(signature)
	if err != nil {
		return refuse(ReasonWrong)
	}
	mac := hmac.New(sha256.New, []byte(m.Key.Reveal()))
	mac.Write([]byte(timestamp + token))
	if !hmac.Equal(given, mac.Sum(nil)) {
		return refuse(ReasonWrong)
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return refuse(ReasonWrong)
	}
	at, now := time.Unix(seconds, 0).UTC(), m.Now()
	if at.Before(now.Add(-m.tolerance())) || at.After(now.Add(FutureTolerance)) {
		return refuse(ReasonStale)
	}
	return at, nil
}

func readMailgunForm(req Request) (form, error) {
	isFile := func(field string) bool { return numbered(field, "attachment-") }
	return readForm(VendorMailgun, req, isFile, typeForm, typeMultipart)
}

// parseMailgun makes the mail of a form that was read, or broke off with an error.
func parseMailgun(f form, formErr error) (Inbound, error) {
	in := Inbound{
		Vendor:            VendorMailgun,
		StrippedText:      strings.ToValidUTF8(f.values["stripped-text"], "\uFFFD"),
		StrippedSignature: strings.ToValidUTF8(f.values["stripped-signature"], "\uFFFD"),
	}
	if formErr != nil {
		return Inbound{}, in.malformed("the form cannot be read", formErr)
	}
	if err := in.setEnvelope(f.values["sender"], strings.Split(f.values["recipient"], ",")); err != nil {
		return Inbound{}, err
	}
	var fields []headerField
	if f.has("body-mime") {
		in.Raw = []byte(f.values["body-mime"])
		if len(in.Raw) == 0 {
			return Inbound{}, in.malformed("body-mime is empty", nil)
		}
		fields = topHeader(in.Raw)
	} else {
		d, err := mailgunDraft(&in, f)
		if err != nil {
			return Inbound{}, err
		}
		in.Raw, in.Rebuilt = d.build(), true
		fields = d.header
	}
	in.VendorMessageID = messageID(fields)
	in.Auth.SPF = first(fields, "X-Mailgun-Spf")
	in.Auth.DKIM = first(fields, "X-Mailgun-Dkim-Check-Result")
	return in, nil
}

func mailgunDraft(in *Inbound, f form) (draft, error) {
	var d draft
	var pairs [][2]string
	if text := f.values["message-headers"]; text != "" {
		if err := json.Unmarshal([]byte(text), &pairs); err != nil {
			return d, in.malformed("message-headers is not a list of pairs", err)
		}
	}
	if len(pairs) > maxHeaderFields {
		return d, in.malformed("there are too many header fields", nil)
	}
	for _, p := range pairs {
		d.header = append(d.header, headerField{name: p[0], value: p[1]})
	}
	d.header = complete(d.header, "From", f.values["from"])
	d.header = complete(d.header, "Subject", f.values["subject"])
	if first(d.header, "From") == "" {
		return d, in.malformed("there is no From", nil)
	}
	if f.has("body-plain") {
		text := f.values["body-plain"]
		d.text = &text
	}
	if html := f.values["body-html"]; html != "" {
		d.html = &html
	}

	count, err := countOf(f.values["attachment-count"])
	if err != nil {
		return d, in.malformed("attachment-count is not a count", err)
	}
	ids := map[string]string{}
	if text := f.values["content-id-map"]; text != "" {
		if err := json.Unmarshal([]byte(text), &ids); err != nil {
			return d, in.malformed("content-id-map is not a map", err)
		}
	}
	idOf := make(map[string]string, len(ids))
	for id, field := range ids {
		if old, twice := idOf[field]; !twice || id < old {
			idOf[field] = id
		}
	}
	for i := 1; i <= count; i++ {
		field := "attachment-" + strconv.Itoa(i)
		a, ok := f.files[field]
		if !ok {
			return d, in.malformed("an attachment is missing", nil)
		}
		d.attachments = append(d.attachments, attachment{
			name: a.name, contentType: a.contentType, contentID: idOf[field], content: a.content,
		})
	}
	if len(f.files) > count {
		return d, in.malformed("there are more attachments than counted", nil)
	}
	return d, nil
}

// countOf reads a number of attachments; none where there is no text.
func countOf(text string) (int, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > MaxAttachments {
		return 0, strconv.ErrRange
	}
	return n, nil
}

// digest covers what a replay could change.
func digest(in Inbound) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range append([]string{string(in.Raw), in.EnvelopeFrom, in.StrippedText, in.StrippedSignature}, in.Recipients...) {
		h.Write([]byte(strconv.Itoa(len(part))))
		h.Write([]byte{0})
		h.Write([]byte(part))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
