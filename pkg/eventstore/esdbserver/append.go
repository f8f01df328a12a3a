package esdbserver

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Keys of a proposed message's metadata, and of a recorded event's.
const (
	keyType        = "type"
	keyContentType = "content-type"
	keyCreated     = "created" // in ticks of 100 ns since 1970

	contentJSON   = "application/json"
	contentBinary = "application/octet-stream"
)

// Append is Streams.Append: the options, then one event a message.
func (s *Server) Append(stream streams.Streams_AppendServer) error {
	ctx := stream.Context()
	cmd, err := s.receiveAppend(stream)
	if err != nil {
		// Clients see an error's trailers only once they have sent everything.
		if drained := drain(stream, 8*s.cfg.MaxAppendBytes); drained != nil {
			return s.answer(ctx, drained)
		}
		return s.answer(ctx, err)
	}
	place, err := s.append(ctx, cmd)
	var refused *replyError
	if errors.As(err, &refused) && refused.reason == reasonWrongVersion {
		return stream.SendAndClose(&streams.AppendResp{
			Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: refused.conflict()},
		})
	}
	if err != nil {
		return s.answer(ctx, err)
	}
	return stream.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: place.success()}})
}

func (s *Server) receiveAppend(stream streams.Streams_AppendServer) (*appendCommand, error) {
	req, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, invalidArgument("append without options")
	}
	if err != nil {
		return nil, err
	}
	options := req.GetOptions()
	if options == nil {
		return nil, invalidArgument("the first message of an append must be its options")
	}
	cmd := &appendCommand{}
	if cmd.expected, err = appendExpectation(options); err != nil {
		return nil, err
	}
	if cmd.name, cmd.stream, err = streamName(options.GetStreamIdentifier().GetStreamName()); err != nil {
		return nil, err
	}
	if err := s.mayWrite(stream.Context(), cmd.name); err != nil {
		return nil, err
	}
	size := 0
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return cmd, nil
		}
		if err != nil {
			return nil, err
		}
		message := req.GetProposedMessage()
		if message == nil {
			return nil, invalidArgument("only the first message of an append has options; the others have an event each")
		}
		record, err := newRecord(cmd.name, message)
		if err != nil {
			return nil, err
		}
		if size += recordSize(&record); size > s.cfg.MaxAppendBytes {
			return nil, appendTooLarge(s.cfg.MaxAppendBytes)
		}
		if len(cmd.records) == eventstore.MaxAppendRecords {
			return nil, tooManyRecords()
		}
		cmd.records = append(cmd.records, record)
	}
}

// drain takes what a client still sends of an append that is refused, up to
// about as many bytes.
func drain(stream streams.Streams_AppendServer, left int) error {
	for left > 0 {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m := req.GetProposedMessage()
		// The constant is about what an empty message costs.
		left -= len(m.GetData()) + len(m.GetCustomMetadata()) + 64
	}
	return nil
}

func tooManyRecords() error {
	return invalidArgument("append of more than %d events: split it", eventstore.MaxAppendRecords)
}

// recordSize is what an event counts towards Config.MaxAppendBytes.
func recordSize(r *eventstore.NewRecord) int { return len(r.Data) + len(r.Metadata) + len(r.Type) }

func (a appended) success() *streams.AppendResp_Success {
	out := &streams.AppendResp_Success{}
	if a.revision < 0 {
		out.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{NoStream: &shared.Empty{}}
	} else {
		out.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(a.revision)}
	}
	if a.position == 0 {
		out.PositionOption = &streams.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}}
	} else {
		out.PositionOption = &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{
			CommitPosition: uint64(a.position), PreparePosition: uint64(a.position),
		}}
	}
	return out
}

// proposed is an event to append, of Append or of BatchAppend.
type proposed interface {
	GetId() *shared.UUID
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

// newRecord checks an event and makes the store's record of it.
func newRecord(stream string, m proposed) (eventstore.NewRecord, error) {
	id, err := parseUUID(m.GetId())
	if err != nil {
		return eventstore.NewRecord{}, err
	}
	typ, ok := m.GetMetadata()[keyType]
	if !ok {
		return eventstore.NewRecord{}, missingProperty(keyType)
	}
	content, ok := m.GetMetadata()[keyContentType]
	if !ok {
		return eventstore.NewRecord{}, missingProperty(keyContentType)
	}
	r := eventstore.NewRecord{ID: id, Type: inside(typ), Data: m.GetData(), Metadata: m.GetCustomMetadata()}
	switch content {
	case contentJSON:
		r.ContentType = eventstore.ContentJSON
	case contentBinary:
		r.ContentType = eventstore.ContentProtobuf
	default:
		return eventstore.NewRecord{}, invalidArgument("event %s: content-type %q: want %s or %s", id, content, contentJSON, contentBinary)
	}
	return r, checkRecord(stream, &r)
}

// checkRecord keeps the events that have a meaning of their own to where they
// have it.
func checkRecord(stream string, r *eventstore.NewRecord) error {
	_, isMeta := subject(stream)
	switch {
	case r.Type == storedStreamDeleted:
		return invalidArgument("type %s: use Tombstone", typeStreamDeleted)
	case isMeta && r.Type != storedMetadata:
		return invalidArgument("stream %q takes events of type %s only", stream, typeMetadata)
	case isMeta:
		if string(r.Metadata) == deletionMark {
			return invalidArgument("event %s: use Delete", r.ID)
		}
		_, err := decodeMeta(r.Data)
		return err
	default:
		return nil
	}
}

// parseUUID reads an id, which must not be zero.
func parseUUID(u *shared.UUID) (uuid.UUID, error) {
	var id uuid.UUID
	switch v := u.GetValue().(type) {
	case *shared.UUID_Structured_:
		binary.BigEndian.PutUint64(id[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(id[8:], uint64(v.Structured.GetLeastSignificantBits()))
	case *shared.UUID_String_:
		parsed, err := uuid.Parse(v.String_)
		if err != nil {
			return uuid.Nil, invalidArgument("id %.64q is no UUID", v.String_)
		}
		id = parsed
	}
	if id == uuid.Nil {
		return uuid.Nil, invalidArgument("no id")
	}
	return id, nil
}
