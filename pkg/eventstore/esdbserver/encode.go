package esdbserver

import (
	"encoding/binary"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Fields of ReadResp and the messages in it, as streams.proto numbers them.
const (
	fieldRespEvent = 1

	fieldEventEvent  = 1
	fieldEventLink   = 2
	fieldEventCommit = 3

	fieldRecordID       = 1
	fieldRecordStream   = 2
	fieldRecordRevision = 3
	fieldRecordPrepare  = 4
	fieldRecordCommit   = 5
	fieldRecordMetadata = 6
	fieldRecordCustom   = 7
	fieldRecordData     = 8

	fieldIDStructured = 1
	fieldIDString     = 2
	fieldIDMost       = 1
	fieldIDLeast      = 2

	fieldStreamName = 3

	fieldKey   = 1
	fieldValue = 2
)

// tombstoneRevision is the revision that EventStoreDB gives a tombstone.
const tombstoneRevision = math.MaxInt64

// encoder writes ReadEvent messages as protobuf would: most of
// what a read costs beside the store is encoding, and generated code takes several
// times as long over it. What it returns is never written to again.
type encoder struct {
	stringIDs bool
	block     []byte
	head      []byte // all of a record but its data
	link      []byte
	scratch   []byte
}

// encoderBlock is how much is allocated at a time for small events. gRPC keeps
// at most what a client's flow control lets it send, so that a block lives as
// long as its last event is on the way.
const encoderBlock = 32 << 10

// event encodes an event, or a link with the event that it leads to; resolved
// is nil where there is none, and the link then stands as itself.
func (e *encoder) event(original, resolved *eventstore.Record, isLink bool) []byte {
	e.link = e.link[:0]
	record := original
	if isLink {
		e.record(original)
		e.link = protowire.AppendTag(e.link, fieldEventLink, protowire.BytesType)
		e.link = protowire.AppendVarint(e.link, uint64(e.recordSize(original)))
		e.link = e.appendRecord(e.link, original)
		record = resolved
	}
	size := len(e.link) + protowire.SizeTag(fieldEventCommit) + protowire.SizeVarint(uint64(original.Position))
	recordSize := 0
	if record != nil {
		e.record(record)
		recordSize = e.recordSize(record)
		size += protowire.SizeTag(fieldEventEvent) + protowire.SizeBytes(recordSize)
	}
	out := e.alloc(size)
	if record != nil {
		out = protowire.AppendTag(out, fieldEventEvent, protowire.BytesType)
		out = protowire.AppendVarint(out, uint64(recordSize))
		out = e.appendRecord(out, record)
	}
	out = append(out, e.link...)
	out = protowire.AppendTag(out, fieldEventCommit, protowire.VarintType)
	return protowire.AppendVarint(out, uint64(original.Position))
}

// alloc is an empty slice with room for exactly size bytes.
func (e *encoder) alloc(size int) []byte {
	if size > encoderBlock/4 {
		return make([]byte, 0, size)
	}
	if cap(e.block)-len(e.block) < size {
		e.block = make([]byte, 0, encoderBlock)
	}
	at := len(e.block)
	e.block = e.block[:at+size]
	return e.block[at : at : at+size]
}

// record puts all but the data of a RecordedEvent into head.
func (e *encoder) record(r *eventstore.Record) {
	b := e.id(e.head[:0], r)
	name := outside(r.Stream)
	b = protowire.AppendTag(b, fieldRecordStream, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(fieldStreamName)+protowire.SizeBytes(len(name))))
	b = protowire.AppendTag(b, fieldStreamName, protowire.BytesType)
	b = protowire.AppendString(b, name)
	revision := uint64(r.Revision)
	if r.Type == storedStreamDeleted {
		revision = tombstoneRevision
	}
	b = appendUint(b, fieldRecordRevision, revision)
	b = appendUint(b, fieldRecordPrepare, uint64(r.Position))
	b = appendUint(b, fieldRecordCommit, uint64(r.Position))
	b = appendPair(b, keyType, outside(r.Type))
	content := contentBinary
	if r.ContentType == eventstore.ContentJSON {
		content = contentJSON
	}
	b = appendPair(b, keyContentType, content)
	e.scratch = strconv.AppendInt(e.scratch[:0], r.Recorded.UnixNano()/100, 10)
	b = protowire.AppendTag(b, fieldRecordMetadata, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(2*protowire.SizeTag(fieldKey)+protowire.SizeBytes(len(keyCreated))+protowire.SizeBytes(len(e.scratch))))
	b = protowire.AppendTag(b, fieldKey, protowire.BytesType)
	b = protowire.AppendString(b, keyCreated)
	b = protowire.AppendTag(b, fieldValue, protowire.BytesType)
	b = protowire.AppendBytes(b, e.scratch)
	if len(r.Metadata) > 0 {
		b = protowire.AppendTag(b, fieldRecordCustom, protowire.BytesType)
		b = protowire.AppendBytes(b, r.Metadata)
	}
	e.head = b
}

func (e *encoder) recordSize(r *eventstore.Record) int {
	size := len(e.head)
	if n := len(r.Data); n > 0 {
		size += protowire.SizeTag(fieldRecordData) + protowire.SizeBytes(n)
	}
	return size
}

// appendRecord appends head and data.
func (e *encoder) appendRecord(b []byte, r *eventstore.Record) []byte {
	b = append(b, e.head...)
	if len(r.Data) > 0 {
		b = protowire.AppendTag(b, fieldRecordData, protowire.BytesType)
		b = protowire.AppendBytes(b, r.Data)
	}
	return b
}

func (e *encoder) id(b []byte, r *eventstore.Record) []byte {
	e.scratch = e.scratch[:0]
	if e.stringIDs {
		e.scratch = protowire.AppendTag(e.scratch, fieldIDString, protowire.BytesType)
		e.scratch = protowire.AppendString(e.scratch, r.ID.String())
	} else {
		most, least := binary.BigEndian.Uint64(r.ID[:8]), binary.BigEndian.Uint64(r.ID[8:])
		size := uintSize(fieldIDMost, most) + uintSize(fieldIDLeast, least)
		e.scratch = protowire.AppendTag(e.scratch, fieldIDStructured, protowire.BytesType)
		e.scratch = protowire.AppendVarint(e.scratch, uint64(size))
		e.scratch = appendUint(e.scratch, fieldIDMost, most)
		e.scratch = appendUint(e.scratch, fieldIDLeast, least)
	}
	b = protowire.AppendTag(b, fieldRecordID, protowire.BytesType)
	return protowire.AppendBytes(b, e.scratch)
}

// appendUint leaves zero out, as proto3 does.
func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func uintSize(field protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(v)
}

// appendPair appends an entry of the metadata map.
func appendPair(b []byte, key, value string) []byte {
	b = protowire.AppendTag(b, fieldRecordMetadata, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(2*protowire.SizeTag(fieldKey)+protowire.SizeBytes(len(key))+protowire.SizeBytes(len(value))))
	b = protowire.AppendTag(b, fieldKey, protowire.BytesType)
	b = protowire.AppendString(b, key)
	b = protowire.AppendTag(b, fieldValue, protowire.BytesType)
	return protowire.AppendString(b, value)
}
