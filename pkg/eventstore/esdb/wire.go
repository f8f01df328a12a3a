package esdb

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Keys and values of what the protocol calls a record's metadata.
const (
	metaType        = "type"
	metaContentType = "content-type"
	metaCreated     = "created"
	typeJSON        = "application/json"
	typeBinary      = "application/octet-stream"
)

// tick is the unit of a record's created time.
const tick = 100 * time.Nanosecond

var empty = &shared.Empty{}

// ours says that a record in the cluster is one of the log's: not the
// cluster's own, and not the driver's.
func ours(e *streams.ReadResp_ReadEvent_RecordedEvent) bool {
	name := e.GetStreamIdentifier().GetStreamName()
	if len(name) == 0 || name[0] == '$' || string(name) == logStream {
		return false
	}
	kind := e.GetMetadata()[metaType]
	return kind != "" && kind[0] != '$'
}

// toRecord translates. What cannot be what was appended is ErrCorrupt.
func toRecord(e *streams.ReadResp_ReadEvent_RecordedEvent) (*eventstore.Record, error) {
	stream := string(e.GetStreamIdentifier().GetStreamName())
	meta := e.GetMetadata()
	id, err := toUUID(e.GetId())
	if err != nil {
		return nil, corrupt(stream, e, "event id", err)
	}
	ticks, err := strconv.ParseInt(meta[metaCreated], 10, 64)
	if err != nil || ticks > math.MaxInt64/int64(tick) || ticks < math.MinInt64/int64(tick) {
		return nil, corrupt(stream, e, "recorded time", fmt.Errorf("%.40q", meta[metaCreated]))
	}
	content := eventstore.ContentProtobuf
	if meta[metaContentType] == typeJSON {
		content = eventstore.ContentJSON
	}
	return &eventstore.Record{
		NewRecord: eventstore.NewRecord{
			ID: id, Type: meta[metaType], ContentType: content, Data: e.GetData(), Metadata: e.GetCustomMetadata(),
		},
		Stream:   stream,
		Revision: eventstore.Revision(e.GetStreamRevision()),
		Position: eventstore.Position(e.GetCommitPosition()),
		Recorded: time.Unix(0, ticks*int64(tick)).UTC().Truncate(time.Microsecond),
	}, nil
}

func corrupt(stream string, e *streams.ReadResp_ReadEvent_RecordedEvent, what string, err error) error {
	return fmt.Errorf("stream %s revision %d position %d: %s: %w: %w",
		stream, e.GetStreamRevision(), e.GetCommitPosition(), what, err, eventstore.ErrCorrupt)
}

func toUUID(id *shared.UUID) (uuid.UUID, error) {
	if s := id.GetStructured(); s != nil {
		var u uuid.UUID
		binary.BigEndian.PutUint64(u[:8], uint64(s.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(u[8:], uint64(s.GetLeastSignificantBits()))
		return u, nil
	}
	return uuid.Parse(id.GetString_())
}

func fromUUID(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

func identifier(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

// appendHeader opens an append.
func appendHeader(stream string, expected eventstore.Revision) *streams.AppendReq {
	o := &streams.AppendReq_Options{StreamIdentifier: identifier(stream)}
	switch expected {
	case eventstore.NoStream:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: empty}
	case eventstore.Any:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Any{Any: empty}
	default:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: uint64(expected)}
	}
	return &streams.AppendReq{Content: &streams.AppendReq_Options_{Options: o}}
}

func proposed(r *eventstore.NewRecord) *streams.AppendReq {
	content := typeBinary
	if r.ContentType == eventstore.ContentJSON {
		content = typeJSON
	}
	return &streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
		Id:             fromUUID(r.ID),
		Metadata:       map[string]string{metaType: r.Type, metaContentType: content},
		CustomMetadata: r.Metadata,
		Data:           r.Data,
	}}}
}

// everything is a count without an end.
const everything = math.MaxInt64

func readOptions(direction eventstore.Direction) *streams.ReadReq_Options {
	o := &streams.ReadReq_Options{
		FilterOption: &streams.ReadReq_Options_NoFilter{NoFilter: empty},
		UuidOption:   &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: empty}},
	}
	if direction == eventstore.Backwards {
		o.ReadDirection = streams.ReadReq_Options_Backwards
	}
	return o
}

// streamRequest reads a stream from a revision on, inclusive, or from its end.
func streamRequest(stream string, from eventstore.Revision, direction eventstore.Direction, count uint64) *streams.ReadReq {
	o := readOptions(direction)
	at := &streams.ReadReq_Options_StreamOptions{StreamIdentifier: identifier(stream)}
	if from == eventstore.End {
		at.RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: empty}
	} else {
		at.RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: uint64(from)}
	}
	o.StreamOption = &streams.ReadReq_Options_Stream{Stream: at}
	o.CountOption = &streams.ReadReq_Options_Count{Count: count}
	return &streams.ReadReq{Options: o}
}

// backwardsRequest reads the whole log from a position down, or from its end
// where the position is 0.
func backwardsRequest(from eventstore.Position, count uint64) *streams.ReadReq {
	o := readOptions(eventstore.Backwards)
	at := &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_End{End: empty}}
	if from > 0 {
		at.AllOption = place(from)
	}
	o.StreamOption = &streams.ReadReq_Options_All{All: at}
	o.CountOption = &streams.ReadReq_Options_Count{Count: count}
	return &streams.ReadReq{Options: o}
}

// atRequest reads the one record at a position, or the next.
func atRequest(at eventstore.Position) *streams.ReadReq {
	o := readOptions(eventstore.Forwards)
	o.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{AllOption: place(at)}}
	o.CountOption = &streams.ReadReq_Options_Count{Count: 1}
	return &streams.ReadReq{Options: o}
}

func place(at eventstore.Position) *streams.ReadReq_Options_AllOptions_Position {
	return &streams.ReadReq_Options_AllOptions_Position{Position: &streams.ReadReq_Options_Position{
		CommitPosition: uint64(at), PreparePosition: uint64(at),
	}}
}

// followRequest subscribes to the whole log from behind a position.
func followRequest(after eventstore.Position, filter eventstore.Filter) *streams.ReadReq {
	o := readOptions(eventstore.Forwards)
	at := &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: empty}}
	if after > 0 {
		at.AllOption = place(after)
	}
	o.StreamOption = &streams.ReadReq_Options_All{All: at}
	o.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	o.FilterOption = &streams.ReadReq_Options_Filter{Filter: serverFilter(filter)}
	return &streams.ReadReq{Options: o}
}

// searchWindow is after how many records that were looked at the cluster says
// how far it is, where none matches.
const searchWindow = 500

// serverFilter is the part of a filter that the cluster can apply: prefixes of
// streams, or else of types. Whatever it lets through is looked at again here.
func serverFilter(filter eventstore.Filter) *streams.ReadReq_Options_FilterOptions {
	f := &streams.ReadReq_Options_FilterOptions{
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: searchWindow},
		CheckpointIntervalMultiplier: 1,
	}
	switch {
	case prefixes(filter.StreamPrefixes):
		f.Filter = &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: filter.StreamPrefixes},
		}
	case prefixes(filter.Types):
		f.Filter = &streams.ReadReq_Options_FilterOptions_EventType{
			EventType: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: filter.Types},
		}
	default:
		f.Filter = &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: `^[^$]`},
		}
	}
	return f
}

// prefixes says that a list of prefixes is a filter: an empty one matches all.
func prefixes(list []string) bool {
	for _, p := range list {
		if p == "" {
			return false
		}
	}
	return len(list) > 0
}
