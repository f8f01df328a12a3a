package cloudevents

import (
	"mime"
	"strings"
	"unicode/utf8"
)

const (
	headerPrefix      = "ce-"
	headerContentType = "content-type"

	mediaStructured      = "application/cloudevents"
	mediaStructuredJSON  = "application/cloudevents+json"
	mediaBatchedPrefix   = "application/cloudevents-batch"
	mediaStructuredOther = "application/cloudevents+"
)

// FromNATS reads a message in binary or structured mode. The header may be a
// nats.Header; data is kept, not copied. Errors are *MalformedError.
func FromNATS(header map[string][]string, data []byte) (*CloudEvent, error) {
	names, err := foldHeader(header)
	if err != nil {
		return nil, err
	}
	contentType := names[headerContentType]
	media := mediaType(contentType)
	switch {
	case strings.HasPrefix(media, mediaBatchedPrefix):
		return nil, malformed("", "a batch cannot be read from one message")
	case media == mediaStructured || media == mediaStructuredJSON:
		return ParseJSON(data)
	case strings.HasPrefix(media, mediaStructuredOther):
		return nil, malformed("", "event format %s is not understood", clip(media))
	}
	if _, binary := names[headerPrefix+attrSpecVersion]; !binary {
		if len(names) == 0 || (!hasAttributes(names) && looksStructured(data)) {
			return ParseJSON(data)
		}
		return nil, malformed(attrSpecVersion, "is missing")
	}
	e := &CloudEvent{}
	for name, raw := range names {
		attribute, ours := strings.CutPrefix(name, headerPrefix)
		if !ours {
			continue
		}
		value, err := percentDecode(attribute, raw)
		if err != nil {
			return nil, err
		}
		if err := e.set(attribute, value); err != nil {
			return nil, err
		}
	}
	if e.DataContentType == "" {
		e.DataContentType = contentType
	}
	if len(data) > 0 {
		e.Data = data
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e, nil
}

// ToHeaders gives the headers of the event in binary mode; its Data is the
// message. The result can be used as a nats.Header. Errors are *MalformedError.
func ToHeaders(e *CloudEvent) (map[string][]string, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	header := make(map[string][]string, len(e.Extensions)+9)
	e.attributes(func(name, value string) {
		header[headerPrefix+name] = []string{percentEncode(value)}
	})
	// A content type of CloudEvents would say that the message is structured.
	if e.DataContentType != "" && !strings.HasPrefix(mediaType(e.DataContentType), mediaStructured) {
		header[headerContentType] = []string{percentEncode(e.DataContentType)}
	}
	return header, nil
}

// foldHeader brings the names that matter to lower case. A name that is there
// twice is ambiguous.
func foldHeader(header map[string][]string) (map[string]string, error) {
	names := make(map[string]string, len(header))
	for name, values := range header {
		lower := strings.ToLower(name)
		if lower != headerContentType && !strings.HasPrefix(lower, headerPrefix) {
			continue
		}
		if _, again := names[lower]; again || len(values) != 1 {
			return nil, malformed(clip(strings.TrimPrefix(lower, headerPrefix)), "does not stand in the headers once")
		}
		names[lower] = values[0]
	}
	return names, nil
}

func hasAttributes(names map[string]string) bool {
	for name := range names {
		if strings.HasPrefix(name, headerPrefix) {
			return true
		}
	}
	return false
}

// looksStructured: JSON with a media type of its own only.
func looksStructured(data []byte) bool {
	trimmed := strings.TrimLeft(string(data[:min(len(data), 64)]), " \t\r\n")
	return strings.HasPrefix(trimmed, "{")
}

// mediaType is the media type without its parameters, in lower case.
func mediaType(contentType string) string {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		media, _, _ = strings.Cut(contentType, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	return media
}

const hexDigits = "0123456789ABCDEF"

// percentEncode keeps printable ASCII but space, double quote and percent
// sign, as section 3.1.3.2 of the HTTP binding has it.
func percentEncode(value string) string {
	keep := func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }
	plain := true
	for i := 0; plain && i < len(value); i++ {
		plain = keep(value[i])
	}
	if plain {
		return value
	}
	var b strings.Builder
	b.Grow(len(value) + 16)
	for i := range len(value) {
		c := value[i]
		if keep(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&0xf])
	}
	return b.String()
}

// percentDecode undoes percentEncode once, and quoting as HTTP headers have it
// first. A percent sign that begins no escape, and an escape that decodes to
// no UTF-8, are refused.
func percentDecode(attribute, value string) (string, error) {
	value = unquote(strings.Trim(value, " \t"))
	if strings.IndexByte(value, '%') < 0 {
		return value, nil
	}
	b := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			b = append(b, value[i])
			continue
		}
		if i+2 >= len(value) {
			return "", malformed(clip(attribute), "ends within a percent-encoded byte")
		}
		high, ok1 := unhex(value[i+1])
		low, ok2 := unhex(value[i+2])
		if !ok1 || !ok2 {
			return "", malformed(clip(attribute), "has a percent sign that encodes nothing")
		}
		b = append(b, high<<4|low)
		i += 2
	}
	if !utf8.Valid(b) {
		return "", malformed(clip(attribute), "does not decode to UTF-8")
	}
	return string(b), nil
}

// unquote takes off the double quotes of an HTTP quoted string.
func unquote(value string) string {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value
	}
	value = value[1 : len(value)-1]
	if strings.IndexByte(value, '\\') < 0 {
		return value
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] == '\\' && i+1 < len(value) {
			i++
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}
