package cloudevents

import (
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// SpecVersion is the version of the specification that is spoken.
const SpecVersion = "1.0"

// Media types of data that are known here.
const (
	ContentJSON     = "application/json"
	ContentProtobuf = "application/protobuf"
)

// CloudEvent is an event with the attributes of CloudEvents 1.0.
type CloudEvent struct {
	// ID, together with Source, identifies the event. Required.
	ID string
	// Source is a URI reference. Required.
	Source string
	// Type names what happened. Required.
	Type string
	// Subject of the event within the source; empty for none.
	Subject string
	// Time at which it happened; zero for none.
	Time time.Time
	// DataContentType is the media type of Data; empty for none said, which
	// stands for JSON in structured mode.
	DataContentType string
	// DataSchema is a URI; empty for none.
	DataSchema string
	// Extensions are further attributes. Their names are lower case letters
	// and digits. Values are in their canonical string form.
	Extensions map[string]string
	// Data is the payload; nil for none.
	Data []byte
}

// MalformedError says why something is not a CloudEvent.
type MalformedError struct {
	// Attribute that is wrong; empty for the message as a whole.
	Attribute string
	// Reason, for people.
	Reason string
}

func (e *MalformedError) Error() string {
	if e.Attribute == "" {
		return "malformed CloudEvent: " + e.Reason
	}
	return fmt.Sprintf("malformed CloudEvent: attribute %s %s", e.Attribute, e.Reason)
}

func malformed(attribute, format string, args ...any) error {
	return &MalformedError{Attribute: attribute, Reason: fmt.Sprintf(format, args...)}
}

const (
	// maxAttribute bounds the value of an attribute in bytes.
	maxAttribute = 8192
	// maxAttributes bounds the number of extensions.
	maxAttributes = 128
	// maxName bounds the name of an attribute; the specification asks for no
	// more than 20, which many producers do not keep.
	maxName = 64
)

// The attributes that the specification names.
const (
	attrSpecVersion     = "specversion"
	attrID              = "id"
	attrSource          = "source"
	attrType            = "type"
	attrSubject         = "subject"
	attrTime            = "time"
	attrDataContentType = "datacontenttype"
	attrDataSchema      = "dataschema"

	memberData       = "data"
	memberDataBase64 = "data_base64"
)

// Validate checks what the specification asks of an event. The error is a
// *MalformedError.
func (e *CloudEvent) Validate() error {
	for _, a := range [...]struct {
		name, value string
		required    bool
	}{
		{attrID, e.ID, true},
		{attrSource, e.Source, true},
		{attrType, e.Type, true},
		{attrSubject, e.Subject, false},
		{attrDataContentType, e.DataContentType, false},
		{attrDataSchema, e.DataSchema, false},
	} {
		if a.required && a.value == "" {
			return malformed(a.name, "is missing")
		}
		if err := checkText(a.name, a.value); err != nil {
			return err
		}
	}
	if !validReference(e.Source) {
		return malformed(attrSource, "is no URI reference")
	}
	if e.DataSchema != "" && !validReference(e.DataSchema) {
		return malformed(attrDataSchema, "is no URI")
	}
	if !e.Time.IsZero() && (e.Time.UTC().Year() < 0 || e.Time.UTC().Year() > 9999) {
		return malformed(attrTime, "cannot be written")
	}
	if len(e.Extensions) > maxAttributes {
		return malformed("", "%d extension attributes, at most %d", len(e.Extensions), maxAttributes)
	}
	for name, value := range e.Extensions {
		if !validName(name) || isReserved(name) {
			return malformed(clip(name), "cannot be an extension's name")
		}
		if err := checkText(name, value); err != nil {
			return err
		}
	}
	return nil
}

// set puts an attribute in its place from its canonical string form.
func (e *CloudEvent) set(name, value string) error {
	switch name {
	case attrSpecVersion:
		if value != SpecVersion {
			return malformed(attrSpecVersion, "is %q, only %s is understood", clip(value), SpecVersion)
		}
	case attrID:
		e.ID = value
	case attrSource:
		e.Source = value
	case attrType:
		e.Type = value
	case attrSubject:
		e.Subject = value
	case attrDataContentType:
		e.DataContentType = value
	case attrDataSchema:
		e.DataSchema = value
	case attrTime:
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return malformed(attrTime, "is %q, not an RFC 3339 time", clip(value))
		}
		e.Time = t
	default:
		if !validName(name) || isReserved(name) {
			return malformed(clip(name), "is no name of an attribute")
		}
		if e.Extensions == nil {
			e.Extensions = map[string]string{}
		}
		if len(e.Extensions) >= maxAttributes {
			return malformed("", "more than %d extension attributes", maxAttributes)
		}
		e.Extensions[name] = value
	}
	return nil
}

// attributes calls visit with every attribute that is there, in canonical
// string form; extensions in no particular order.
func (e *CloudEvent) attributes(visit func(name, value string)) {
	visit(attrSpecVersion, SpecVersion)
	visit(attrID, e.ID)
	visit(attrSource, e.Source)
	visit(attrType, e.Type)
	for _, a := range [...][2]string{
		{attrSubject, e.Subject},
		{attrDataContentType, e.DataContentType},
		{attrDataSchema, e.DataSchema},
	} {
		if a[1] != "" {
			visit(a[0], a[1])
		}
	}
	if !e.Time.IsZero() {
		visit(attrTime, e.Time.UTC().Format(time.RFC3339Nano))
	}
	for name, value := range e.Extensions {
		visit(name, value)
	}
}

// checkText keeps to the specification's String: Unicode without control
// characters and noncharacters.
func checkText(name, value string) error {
	if len(value) > maxAttribute {
		return malformed(clip(name), "is %d bytes long, at most %d", len(value), maxAttribute)
	}
	if !utf8.ValidString(value) {
		return malformed(clip(name), "is not UTF-8")
	}
	for _, r := range value {
		if r <= 0x1f || (r >= 0x7f && r <= 0x9f) || (r >= 0xfdd0 && r <= 0xfdef) || r&0xfffe == 0xfffe {
			return malformed(clip(name), "has the character U+%04X", r)
		}
	}
	return nil
}

// validName: lower case letters and digits.
func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isReserved is for names that an extension cannot have.
func isReserved(name string) bool {
	switch name {
	case attrSpecVersion, attrID, attrSource, attrType, attrSubject, attrTime,
		attrDataContentType, attrDataSchema, memberData, memberDataBase64:
		return true
	default:
		return false
	}
}

// validReference: a URI reference has no spaces, which url.Parse would take.
func validReference(s string) bool {
	if s == "" || strings.ContainsAny(s, " \"<>\\^`{|}") {
		return false
	}
	_, err := url.Parse(s)
	return err == nil
}

// clip makes text from outside fit for an error message: short and UTF-8.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
