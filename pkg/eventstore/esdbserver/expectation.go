package esdbserver

import (
	"math"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// expectation is what a client expects of a stream that it appends to or
// deletes.
type expectation struct {
	kind     expectationKind
	revision eventstore.Revision // of expectExact
}

type expectationKind uint8

const (
	expectExact expectationKind = iota
	expectNone
	expectAny
	expectExists
)

// exactly expects a revision. Clients send it as 64 bits without a sign.
func exactly(revision uint64) (expectation, error) {
	if revision > math.MaxInt64 {
		return expectation{}, invalidArgument("expected revision %d is none: the largest is %d", revision, int64(math.MaxInt64))
	}
	return expectation{kind: expectExact, revision: eventstore.Revision(revision)}, nil
}

func errNoExpectation() error {
	return invalidArgument("no expected revision: want a revision, no_stream, any or stream_exists")
}

// number is the expectation as EventStoreDB writes it into trailers.
func (e expectation) number() int64 {
	switch e.kind {
	case expectNone:
		return -1
	case expectAny:
		return -2
	case expectExists:
		return -4
	default:
		return int64(e.revision)
	}
}

func (e expectation) String() string {
	switch e.kind {
	case expectNone:
		return "no_stream"
	case expectAny:
		return "any"
	case expectExists:
		return "stream_exists"
	default:
		return strconv.FormatInt(int64(e.revision), 10)
	}
}

// holds says whether a stream is as expected. A stream that is deleted, and may
// go on, counts as none too.
func (e expectation) holds(head eventstore.Revision, deleted bool) bool {
	switch e.kind {
	case expectAny:
		return true
	case expectNone:
		return head == eventstore.NoStream || deleted
	case expectExists:
		return head != eventstore.NoStream && !deleted
	default:
		return head == e.revision
	}
}

func appendExpectation(o *streams.AppendReq_Options) (expectation, error) {
	switch o.GetExpectedStreamRevision().(type) {
	case *streams.AppendReq_Options_Revision:
		return exactly(o.GetRevision())
	case *streams.AppendReq_Options_NoStream:
		return expectation{kind: expectNone}, nil
	case *streams.AppendReq_Options_Any:
		return expectation{kind: expectAny}, nil
	case *streams.AppendReq_Options_StreamExists:
		return expectation{kind: expectExists}, nil
	default:
		return expectation{}, errNoExpectation()
	}
}

func batchExpectation(o *streams.BatchAppendReq_Options) (expectation, error) {
	switch o.GetExpectedStreamPosition().(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		return exactly(o.GetStreamPosition())
	case *streams.BatchAppendReq_Options_NoStream:
		return expectation{kind: expectNone}, nil
	case *streams.BatchAppendReq_Options_Any:
		return expectation{kind: expectAny}, nil
	case *streams.BatchAppendReq_Options_StreamExists:
		return expectation{kind: expectExists}, nil
	default:
		return expectation{}, errNoExpectation()
	}
}

func deleteExpectation(o *streams.DeleteReq_Options) (expectation, error) {
	switch o.GetExpectedStreamRevision().(type) {
	case *streams.DeleteReq_Options_Revision:
		return exactly(o.GetRevision())
	case *streams.DeleteReq_Options_NoStream:
		return expectation{kind: expectNone}, nil
	case *streams.DeleteReq_Options_Any:
		return expectation{kind: expectAny}, nil
	case *streams.DeleteReq_Options_StreamExists:
		return expectation{kind: expectExists}, nil
	default:
		return expectation{}, errNoExpectation()
	}
}

func tombstoneExpectation(o *streams.TombstoneReq_Options) (expectation, error) {
	switch o.GetExpectedStreamRevision().(type) {
	case *streams.TombstoneReq_Options_Revision:
		return exactly(o.GetRevision())
	case *streams.TombstoneReq_Options_NoStream:
		return expectation{kind: expectNone}, nil
	case *streams.TombstoneReq_Options_Any:
		return expectation{kind: expectAny}, nil
	case *streams.TombstoneReq_Options_StreamExists:
		return expectation{kind: expectExists}, nil
	default:
		return expectation{}, errNoExpectation()
	}
}

// conflict is a failed expectation as Append answers it, in the fields that
// clients of EventStoreDB 20.6 read and in those that came after.
func (e *replyError) conflict() *streams.AppendResp_WrongExpectedVersion {
	out := &streams.AppendResp_WrongExpectedVersion{}
	if e.actual >= 0 {
		current := uint64(e.actual)
		out.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: current}
		out.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: current}
	} else {
		out.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: &shared.Empty{}}
		out.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &shared.Empty{}}
	}
	switch e.expected.kind {
	case expectAny:
		out.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: &shared.Empty{}}
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: &shared.Empty{}}
	case expectExists:
		out.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: &shared.Empty{}}
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &shared.Empty{}}
	case expectNone:
		// 20.6 had no field for it; its clients read none as this.
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &shared.Empty{}}
	default:
		expected := uint64(e.expected.revision)
		out.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: expected}
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: expected}
	}
	return out
}

// setDetail tells the failed expectation in a batch append's detail.
func (e expectation) setDetail(out *shared.WrongExpectedVersion) {
	switch e.kind {
	case expectAny:
		out.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	case expectExists:
		out.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	case expectNone:
		out.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	default:
		out.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(e.revision)}
	}
}
