package eventstore

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// ValidateStream checks a stream name: 1 to MaxStreamNameBytes bytes of UTF-8
// without control characters that does not begin with '$', which EventStoreDB
// keeps for itself. The error wraps ErrInvalid.
func ValidateStream(stream string) error {
	if err := validateName(stream, MaxStreamNameBytes); err != nil {
		return fmt.Errorf("stream name %s: %w", quoted(stream), err)
	}
	return nil
}

// ValidateAppend checks what one stream's part of an append must fulfil with
// every driver. Errors wrap ErrInvalid or ErrTooLarge and say which record.
func ValidateAppend(stream string, expected Revision, records []NewRecord) error {
	if err := ValidateStream(stream); err != nil {
		return err
	}
	if expected < 0 && expected != NoStream && expected != Any {
		return fmt.Errorf("expected revision %d: %w", int64(expected), ErrInvalid)
	}
	if len(records) == 0 {
		return fmt.Errorf("no records: %w", ErrInvalid)
	}
	if len(records) > MaxAppendRecords {
		return fmt.Errorf("%d records, at most %d: %w", len(records), MaxAppendRecords, ErrTooLarge)
	}
	total := 0
	for i := range records {
		if err := validateRecord(&records[i]); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		total += len(records[i].Data) + len(records[i].Metadata)
	}
	if total > MaxAppendBytes {
		return fmt.Errorf("%d bytes, at most %d: %w", total, MaxAppendBytes, ErrTooLarge)
	}
	if id, twice := repeatedID(records); twice {
		return fmt.Errorf("event id %s twice: %w", id, ErrInvalid)
	}
	return nil
}

// ValidateBatch checks the whole of an AppendBatch: each part as
// ValidateAppend does, the bounds over all parts, and that no stream gets the
// same event id twice.
func ValidateBatch(appends []StreamAppend) error {
	if len(appends) == 0 {
		return fmt.Errorf("no appends: %w", ErrInvalid)
	}
	count, size := 0, 0
	for i := range appends {
		a := &appends[i]
		if err := ValidateAppend(a.Stream, a.Expected, a.Records); err != nil {
			return fmt.Errorf("append %d to %s: %w", i, quoted(a.Stream), err)
		}
		count += len(a.Records)
		for j := range a.Records {
			size += len(a.Records[j].Data) + len(a.Records[j].Metadata)
		}
	}
	if count > MaxAppendRecords {
		return fmt.Errorf("%d records, at most %d: %w", count, MaxAppendRecords, ErrTooLarge)
	}
	if size > MaxAppendBytes {
		return fmt.Errorf("%d bytes, at most %d: %w", size, MaxAppendBytes, ErrTooLarge)
	}
	return validateRepeatedStreams(appends)
}

// validateRepeatedStreams looks for an id that comes twice in one stream by
// way of two parts.
func validateRepeatedStreams(appends []StreamAppend) error {
	first := make(map[string]int, len(appends))
	var seen map[string]map[uuid.UUID]struct{}
	for i := range appends {
		stream := appends[i].Stream
		j, again := first[stream]
		if !again {
			first[stream] = i
			continue
		}
		if seen == nil {
			seen = map[string]map[uuid.UUID]struct{}{}
		}
		ids := seen[stream]
		if ids == nil {
			ids = map[uuid.UUID]struct{}{}
			for k := range appends[j].Records {
				ids[appends[j].Records[k].ID] = struct{}{}
			}
			seen[stream] = ids
		}
		for k := range appends[i].Records {
			id := appends[i].Records[k].ID
			if _, twice := ids[id]; twice {
				return fmt.Errorf("append %d to %s: event id %s twice: %w", i, quoted(stream), id, ErrInvalid)
			}
			ids[id] = struct{}{}
		}
	}
	return nil
}

func validateRecord(r *NewRecord) error {
	if r.ID == uuid.Nil {
		return fmt.Errorf("no event id: %w", ErrInvalid)
	}
	if err := validateName(r.Type, MaxTypeBytes); err != nil {
		return fmt.Errorf("type %s: %w", quoted(r.Type), err)
	}
	if r.ContentType > ContentJSON {
		return fmt.Errorf("content type %d is unknown: %w", r.ContentType, ErrInvalid)
	}
	if size := len(r.Data) + len(r.Metadata); size > MaxRecordBytes {
		return fmt.Errorf("%d bytes, at most %d: %w", size, MaxRecordBytes, ErrTooLarge)
	}
	return nil
}

func validateName(name string, maxBytes int) error {
	switch {
	case name == "":
		return fmt.Errorf("empty: %w", ErrInvalid)
	case len(name) > maxBytes:
		return fmt.Errorf("%d bytes, at most %d: %w", len(name), maxBytes, ErrInvalid)
	case name[0] == '$':
		return fmt.Errorf("begins with '$': %w", ErrInvalid)
	}
	ascii := true
	for i := range len(name) {
		c := name[i]
		if c < 0x20 || c == 0x7f {
			return fmt.Errorf("control character: %w", ErrInvalid)
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return nil
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("not UTF-8: %w", ErrInvalid)
	}
	// U+0080 to U+009F, the control characters beyond ASCII.
	if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 && r <= 0x9f }) {
		return fmt.Errorf("control character: %w", ErrInvalid)
	}
	return nil
}

// repeatedID finds an id that occurs twice.
func repeatedID(records []NewRecord) (uuid.UUID, bool) {
	// Up to here comparing all pairs is cheaper than a map.
	const few = 12
	if len(records) <= few {
		for i := range records {
			for j := range i {
				if records[i].ID == records[j].ID {
					return records[i].ID, true
				}
			}
		}
		return uuid.Nil, false
	}
	seen := make(map[uuid.UUID]struct{}, len(records))
	for i := range records {
		if _, twice := seen[records[i].ID]; twice {
			return records[i].ID, true
		}
		seen[records[i].ID] = struct{}{}
	}
	return uuid.Nil, false
}

// quoted makes a name from outside fit for an error message.
func quoted(name string) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("%q…", name[:most])
	}
	return fmt.Sprintf("%q", name)
}

// IsZero says that the filter matches every record.
func (f Filter) IsZero() bool { return len(f.Types) == 0 && len(f.StreamPrefixes) == 0 }

// Matches says whether a record with this stream and type is chosen.
func (f Filter) Matches(stream, recordType string) bool {
	return f.matchesType(recordType) && f.matchesStream(stream)
}

func (f Filter) matchesType(recordType string) bool {
	return len(f.Types) == 0 || slices.Contains(f.Types, recordType)
}

func (f Filter) matchesStream(stream string) bool {
	return len(f.StreamPrefixes) == 0 ||
		slices.ContainsFunc(f.StreamPrefixes, func(prefix string) bool { return strings.HasPrefix(stream, prefix) })
}
