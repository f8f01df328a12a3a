package esdbserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Keys of a stream's metadata.
const (
	keyMaxCount       = "$maxCount"
	keyMaxAge         = "$maxAge"
	keyTruncateBefore = "$tb"
	keyACL            = "$acl"
)

// deletionMark is the custom metadata of the $metadata event that deletes a
// stream. It tells a deleted stream from one whose events are merely all
// before $tb, which reads as empty.
const deletionMark = `{"$deleted":true}`

// streamMeta is what a stream's metadata says about reading it.
type streamMeta struct {
	maxCount int64         // 0: no bound
	maxAge   time.Duration // 0: no bound
	// before is the first revision that readers are shown.
	before eventstore.Revision
	// marked: the stream was deleted at before, and is as long as nothing
	// stands there.
	marked bool
	// raw is the JSON object; revision is that of its event, NoStream for none.
	raw      []byte
	revision eventstore.Revision
}

func noMeta() streamMeta { return streamMeta{revision: eventstore.NoStream} }

// deleted says whether the stream is deleted, given its last revision.
func (m streamMeta) deleted(head eventstore.Revision) bool { return m.marked && m.before > head }

// first is the first revision that readers are shown, given the last one.
func (m streamMeta) first(head eventstore.Revision) eventstore.Revision {
	first := m.before
	if m.maxCount > 0 && int64(head) >= m.maxCount {
		first = max(first, head-eventstore.Revision(m.maxCount)+1)
	}
	return first
}

// expired says whether a record is older than $maxAge allows.
func (m streamMeta) expired(r *eventstore.Record, now time.Time) bool {
	return m.maxAge > 0 && now.Sub(r.Recorded) > m.maxAge
}

// parseMeta reads a $metadata event of the store.
func parseMeta(r *eventstore.Record) (streamMeta, error) {
	m, err := decodeMeta(r.Data)
	if err != nil {
		// It was checked before it was appended.
		return streamMeta{}, fmt.Errorf("metadata at position %d: %w: %w", r.Position, eventstore.ErrCorrupt, err)
	}
	m.marked = string(r.Metadata) == deletionMark
	m.raw, m.revision = r.Data, r.Revision
	return m, nil
}

// decodeMeta checks the JSON of a stream's metadata. Keys that are not
// EventStoreDB's are the client's own.
func decodeMeta(data []byte) (streamMeta, error) {
	m := noMeta()
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil || keys == nil {
		return streamMeta{}, invalidArgument("stream metadata is no JSON object")
	}
	if _, acl := keys[keyACL]; acl {
		return streamMeta{}, invalidArgument(
			"stream metadata has %s: access control lists are not offered, rights are given in the server's configuration", keyACL)
	}
	for key, least := range map[string]int64{keyMaxCount: 1, keyMaxAge: 1, keyTruncateBefore: 0} {
		raw, ok := keys[key]
		if !ok || bytes.Equal(raw, []byte("null")) {
			continue
		}
		var n int64
		if err := json.Unmarshal(raw, &n); err != nil || n < least {
			return streamMeta{}, invalidArgument("stream metadata: %s must be a whole number from %d on", key, least)
		}
		if key == keyTruncateBefore && n == math.MaxInt64 {
			// EventStoreDB's own way to mark a deleted stream.
			return streamMeta{}, invalidArgument("stream metadata: %s hides all that is ever appended: use Delete", key)
		}
		switch key {
		case keyMaxCount:
			m.maxCount = n
		case keyMaxAge:
			m.maxAge = time.Duration(min(n, math.MaxInt64/int64(time.Second))) * time.Second
		default:
			m.before = eventstore.Revision(n)
		}
	}
	return m, nil
}

// truncated is the metadata with another $tb.
func (m streamMeta) truncated(before eventstore.Revision) ([]byte, error) {
	keys := map[string]json.RawMessage{}
	if len(m.raw) > 0 {
		if err := json.Unmarshal(m.raw, &keys); err != nil {
			return nil, fmt.Errorf("decode stream metadata: %w", err)
		}
	}
	keys[keyTruncateBefore] = json.RawMessage(strconv.FormatInt(int64(before), 10))
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("encode stream metadata: %w", err)
	}
	return data, nil
}
