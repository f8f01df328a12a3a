package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// ParseJSON reads an event in the JSON event format (structured mode). Errors
// are *MalformedError.
func ParseJSON(data []byte) (*CloudEvent, error) {
	if !utf8.Valid(data) {
		return nil, malformed("", "is not UTF-8")
	}
	members, err := readObject(data)
	if err != nil {
		return nil, err
	}
	if raw, ok := members[attrSpecVersion]; !ok || string(raw) == "null" {
		return nil, malformed(attrSpecVersion, "is missing")
	}
	e := &CloudEvent{}
	for name, raw := range members {
		if name == memberData || name == memberDataBase64 {
			continue
		}
		value, present, err := attributeText(name, raw)
		if err != nil {
			return nil, err
		}
		if !present {
			continue
		}
		if err := e.set(name, value); err != nil {
			return nil, err
		}
	}
	if err := e.setJSONData(members); err != nil {
		return nil, err
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e, nil
}

// FormatJSON writes an event in the JSON event format. Data of a JSON media
// type (or of none) stands as it is, text as a string, anything else in base64.
// Errors are *MalformedError.
func FormatJSON(e *CloudEvent) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	members := map[string]any{}
	e.attributes(func(name, value string) { members[name] = value })
	if e.Data != nil {
		switch media := mediaType(e.DataContentType); {
		case isJSON(media):
			if !json.Valid(e.Data) {
				return nil, malformed(memberData, "is said to be JSON and is not")
			}
			members[memberData] = json.RawMessage(e.Data)
		case strings.HasPrefix(media, "text/") && utf8.Valid(e.Data):
			members[memberData] = string(e.Data)
		default:
			members[memberDataBase64] = e.Data
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(members); err != nil {
		return nil, malformed("", "cannot be written: %v", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// readObject reads the members of one JSON object, refusing names that stand
// twice.
func readObject(data []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return nil, malformed("", "is no JSON object")
	}
	members := map[string]json.RawMessage{}
	for decoder.More() {
		t, err := decoder.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, malformed("", "is no JSON object")
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, malformed(clip(name), "is no JSON value")
		}
		if _, again := members[name]; again {
			return nil, malformed(clip(name), "stands twice")
		}
		if len(members) > maxAttributes {
			return nil, malformed("", "more than %d members", maxAttributes)
		}
		members[name] = raw
	}
	if _, err := decoder.Token(); err != nil {
		return nil, malformed("", "is no JSON object")
	}
	if decoder.InputOffset() < int64(len(data)) && len(bytes.TrimSpace(data[decoder.InputOffset():])) > 0 {
		return nil, malformed("", "has something behind the JSON object")
	}
	return members, nil
}

// attributeText brings a JSON value to its canonical string form: strings,
// booleans and integers of 32 bits. null is as if it were not there.
func attributeText(name string, raw json.RawMessage) (value string, present bool, err error) {
	switch raw[0] {
	case 'n':
		return "", false, nil
	case '"':
		if err := json.Unmarshal(raw, &value); err != nil {
			return "", false, malformed(clip(name), "is no JSON string")
		}
		return value, true, nil
	case 't', 'f':
		if isReserved(name) {
			return "", false, malformed(name, "is no string")
		}
		return string(raw), true, nil
	case '{', '[':
		return "", false, malformed(clip(name), "is neither string, number nor boolean")
	default:
		var n int32
		if err := json.Unmarshal(raw, &n); err != nil || isReserved(name) {
			return "", false, malformed(clip(name), "is no integer of 32 bits")
		}
		return string(raw), true, nil
	}
}

func (e *CloudEvent) setJSONData(members map[string]json.RawMessage) error {
	raw, inline := members[memberData]
	encoded, binary := members[memberDataBase64]
	if inline && binary {
		return malformed(memberData, "stands beside data_base64")
	}
	if binary {
		var text *string
		if err := json.Unmarshal(encoded, &text); err != nil {
			return malformed(memberDataBase64, "is no string")
		}
		if text == nil {
			return nil
		}
		data, err := base64.StdEncoding.DecodeString(*text)
		if err != nil {
			return malformed(memberDataBase64, "is no base64")
		}
		e.Data = data
		return nil
	}
	if !inline || string(raw) == "null" {
		return nil
	}
	if raw[0] == '"' && !isJSON(mediaType(e.DataContentType)) {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return malformed(memberData, "is no JSON string")
		}
		e.Data = []byte(text)
		return nil
	}
	e.Data = raw
	if e.DataContentType == "" {
		e.DataContentType = ContentJSON
	}
	return nil
}

// isJSON: no media type stands for JSON in the JSON event format.
func isJSON(media string) bool {
	return media == "" || media == ContentJSON || media == "text/json" || strings.HasSuffix(media, "+json")
}
