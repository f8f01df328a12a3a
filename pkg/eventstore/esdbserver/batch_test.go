package esdbserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// batchCall is a BatchAppend call.
type batchCall struct {
	*fixture

	call grpc.BidiStreamingClient[streams.BatchAppendReq, streams.BatchAppendResp]
}

func (f *fixture) batch() *batchCall {
	f.Helper()
	call, err := f.raw.BatchAppend(f.ctx)
	require.NoError(f, err)
	return &batchCall{fixture: f, call: call}
}

func (b *batchCall) send(req *streams.BatchAppendReq) {
	b.Helper()
	require.NoError(b, b.call.Send(req))
}

// byID are n answers by the text of their correlation ids.
func (b *batchCall) byID(n int) map[string]*streams.BatchAppendResp {
	b.Helper()
	out := map[string]*streams.BatchAppendResp{}
	for range n {
		resp, err := b.call.Recv()
		require.NoError(b, err)
		out[resp.GetCorrelationId().GetString_()] = resp
	}
	require.Len(b, out, n)
	return out
}

func textID(id string) *shared.UUID { return &shared.UUID{Value: &shared.UUID_String_{String_: id}} }

// request is a whole append of n events, any revision expected.
func request(id, stream string, n int, changes ...func(*streams.BatchAppendReq)) *streams.BatchAppendReq {
	req := &streams.BatchAppendReq{
		CorrelationId: textID(id),
		Options: &streams.BatchAppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(stream)},
			ExpectedStreamPosition: &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}},
		},
		IsFinal: true,
	}
	for range n {
		m := message(uuid.New(), "t", "application/json")
		req.ProposedMessages = append(req.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{
			Id: m.GetId(), Metadata: m.GetMetadata(), Data: m.GetData(),
		})
	}
	for _, change := range changes {
		change(req)
	}
	return req
}

func TestBatchAppend(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{ReadOnly: func(stream string) bool { return stream == "kept" }, MaxAppendBytes: 10_000})
	f.fill("two", 2)
	f.fill("gone", 1)
	_, err := f.client.TombstoneStream(f.ctx, "gone", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	at := func(revision uint64) func(*streams.BatchAppendReq) {
		return func(r *streams.BatchAppendReq) {
			r.Options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: revision}
		}
	}
	ids := map[string]string{}
	id := func(name string) string {
		ids[name] = uuid.NewString()
		return ids[name]
	}
	b := f.batch()
	b.send(request(id("ok"), "new", 3))
	b.send(request(id("conflict"), "two", 1, at(5)))
	b.send(request(id("deleted"), "gone", 1))
	b.send(request(id("denied"), "kept", 1))
	b.send(request(id("large"), "large", 2, func(r *streams.BatchAppendReq) { r.GetProposedMessages()[1].Data = make([]byte, 20_000) }))
	b.send(request(id("late"), "late", 1, func(r *streams.BatchAppendReq) {
		r.Options.DeadlineOption = &streams.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(time.Unix(1, 0))}
	}))
	b.send(request(id("bad"), "bad\x00", 1))
	b.send(request(id("no type"), "bad", 1, func(r *streams.BatchAppendReq) { delete(r.GetProposedMessages()[0].GetMetadata(), "type") }))
	b.send(request(id("no expectation"), "bad", 1, func(r *streams.BatchAppendReq) { r.Options.ExpectedStreamPosition = nil }))
	b.send(request(id("odd deadline"), "bad", 1, func(r *streams.BatchAppendReq) {
		r.Options.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: &durationpb.Duration{Seconds: 1, Nanos: -1}}
	}))
	b.send(request(id("exact"), "two", 1, at(1), func(r *streams.BatchAppendReq) {
		r.Options.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(time.Hour)}
	}))
	b.send(request(id("nothing"), "never", 0))
	answers := b.byID(len(ids))
	require.NoError(t, b.call.CloseSend())
	_, err = b.call.Recv()
	require.ErrorIs(t, err, io.EOF)

	ok := answers[ids["ok"]]
	require.EqualValues(t, 2, ok.GetSuccess().GetCurrentRevision())
	require.NotZero(t, ok.GetSuccess().GetPosition().GetCommitPosition())
	require.Equal(t, "new", string(ok.GetStreamIdentifier().GetStreamName()))
	require.NotNil(t, ok.GetAny())
	require.EqualValues(t, 2, answers[ids["exact"]].GetSuccess().GetCurrentRevision())
	require.EqualValues(t, 1, answers[ids["exact"]].GetStreamPosition())
	require.NotNil(t, answers[ids["nothing"]].GetSuccess().GetNoStream())
	require.NotNil(t, answers[ids["nothing"]].GetSuccess().GetNoPosition())

	detail := func(name string, into proto.Message, code codes.Code) {
		t.Helper()
		e := answers[ids[name]].GetError()
		require.NotNil(t, e, name)
		require.EqualValues(t, code, e.GetCode(), e.GetMessage())
		require.Len(t, e.GetDetails(), 1)
		require.NoError(t, e.GetDetails()[0].UnmarshalTo(into), name)
	}
	var wrong shared.WrongExpectedVersion
	detail("conflict", &wrong, codes.FailedPrecondition)
	require.EqualValues(t, 1, wrong.GetCurrentStreamRevision())
	require.EqualValues(t, 5, wrong.GetExpectedStreamPosition())
	var deleted shared.StreamDeleted
	detail("deleted", &deleted, codes.FailedPrecondition)
	require.Equal(t, "gone", string(deleted.GetStreamIdentifier().GetStreamName()))
	detail("denied", &shared.AccessDenied{}, codes.PermissionDenied)
	var large shared.MaximumAppendSizeExceeded
	detail("large", &large, codes.InvalidArgument)
	require.EqualValues(t, 10_000, large.GetMaxAppendSize())
	detail("late", &shared.Timeout{}, codes.DeadlineExceeded)
	for name, want := range map[string]string{
		"bad": "control character", "no type": "content-type", "no expectation": "expected revision", "odd deadline": "deadline",
	} {
		var bad shared.BadRequest
		detail(name, &bad, codes.InvalidArgument)
		require.Contains(t, bad.GetMessage(), want)
	}
}

func TestBatchAppendExpectations(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("two", 2)
	b := f.batch()
	id := uuid.NewString()
	try := func(stream string, change func(*streams.BatchAppendReq_Options)) (*streams.BatchAppendResp, *shared.WrongExpectedVersion) {
		b.send(request(id, stream, 1, func(r *streams.BatchAppendReq) { change(r.GetOptions()) }))
		resp := b.byID(1)[id]
		if resp.GetError() == nil {
			return resp, nil
		}
		var wrong shared.WrongExpectedVersion
		require.NoError(t, resp.GetError().GetDetails()[0].UnmarshalTo(&wrong))
		return resp, &wrong
	}
	none := func(o *streams.BatchAppendReq_Options) {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	}
	exists := func(o *streams.BatchAppendReq_Options) {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamExists{StreamExists: &emptypb.Empty{}}
	}
	resp, wrong := try("two", none)
	require.NotNil(t, wrong.GetExpectedNoStream())
	require.EqualValues(t, 1, wrong.GetCurrentStreamRevision())
	require.NotNil(t, resp.GetNoStream())
	resp, wrong = try("new", exists)
	require.NotNil(t, wrong.GetExpectedStreamExists())
	require.NotNil(t, wrong.GetCurrentNoStream())
	require.NotNil(t, resp.GetStreamExists())
	resp, _ = try("new", none)
	require.NotNil(t, resp.GetSuccess())
	resp, _ = try("two", exists)
	require.EqualValues(t, 2, resp.GetSuccess().GetCurrentRevision())
	again := request(uuid.NewString(), "any", 2)
	for range 2 {
		b.send(again)
		require.EqualValues(t, 1, b.byID(1)[again.GetCorrelationId().GetString_()].GetSuccess().GetCurrentRevision())
	}
	again.ProposedMessages = append(again.GetProposedMessages(), request(id, "any", 1).GetProposedMessages()...)
	b.send(again)
	wrong = &shared.WrongExpectedVersion{}
	require.NoError(t, b.byID(1)[again.GetCorrelationId().GetString_()].GetError().GetDetails()[0].UnmarshalTo(wrong))
	require.NotNil(t, wrong.GetExpectedAny())
}

func TestBatchAppendInPieces(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{MaxAppendBytes: 1000})
	b := f.batch()
	first, second, never := uuid.NewString(), uuid.NewString(), uuid.NewString()
	unfinished := func(r *streams.BatchAppendReq) { r.IsFinal = false }
	more := func(r *streams.BatchAppendReq) { r.Options = nil }
	b.send(request(first, "a", 2, unfinished))
	b.send(request(second, "b", 1, unfinished))
	b.send(request(first, "", 3, unfinished, more))
	// Options that are repeated say nothing new.
	b.send(request(second, "other", 1, unfinished))
	b.send(request(second, "", 0, more))
	b.send(request(first, "", 1, more))
	answers := b.byID(2)
	require.EqualValues(t, 5, answers[first].GetSuccess().GetCurrentRevision())
	require.EqualValues(t, 1, answers[second].GetSuccess().GetCurrentRevision())
	require.Equal(t, "b", string(answers[second].GetStreamIdentifier().GetStreamName()))

	// One that is refused in the middle is answered once, and its rest is not
	// taken for another one.
	b.send(request(never, "c", 1, unfinished))
	b.send(request(never, "", 1, unfinished, more, func(r *streams.BatchAppendReq) { r.GetProposedMessages()[0].Data = make([]byte, 2000) }))
	b.send(request(never, "c", 1, unfinished))
	b.send(request(never, "c", 1))
	b.send(request(first, "d", 1))
	answers = b.byID(2)
	require.NotNil(t, answers[never].GetError())
	require.NotNil(t, answers[first].GetSuccess())
	require.NoError(t, b.call.CloseSend())
	_, err := b.call.Recv()
	require.ErrorIs(t, err, io.EOF)
	_, err = collect(f.client.ReadStream(f.ctx, "c", esdb.ReadStreamOptions{}, 1))
	f.fails(err, esdb.ErrorCodeResourceNotFound, "")
}

func TestBatchAppendBoundsWhatIsUnfinished(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{MaxAppendBytes: 10_000})
	b := f.batch()
	const most = 100
	for range most {
		b.send(request(uuid.NewString(), "s", 1, func(r *streams.BatchAppendReq) {
			r.IsFinal = false
			r.GetProposedMessages()[0].Data = make([]byte, 9000)
		}))
	}
	resp, err := b.call.Recv()
	require.NoError(t, err)
	require.Contains(t, resp.GetError().GetMessage(), "unfinished")
}

func TestBatchAppendDeadlineOfWhatIsNeverFinished(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	b := f.batch()
	id := uuid.NewString()
	b.send(request(id, "s", 1, func(r *streams.BatchAppendReq) {
		r.IsFinal = false
		r.Options.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(time.Millisecond)}
	}))
	e := b.byID(1)[id].GetError()
	require.EqualValues(t, codes.DeadlineExceeded, e.GetCode())
	require.NoError(t, e.GetDetails()[0].UnmarshalTo(&shared.Timeout{}))
	b.send(request(id, "s", 1))
	b.send(request(id, "s", 1))
	require.Zero(t, b.byID(1)[id].GetSuccess().GetCurrentRevision())
}

// slowStore appends when it is told to.
type slowStore struct {
	eventstore.Store

	gate    chan struct{}
	waiting chan struct{} // told of who waits, unless nil
}

func (s *slowStore) Append(
	ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord,
) (eventstore.Appended, error) {
	if s.waiting != nil {
		s.waiting <- struct{}{}
	}
	select {
	case <-s.gate:
	case <-ctx.Done():
		return eventstore.Appended{}, ctx.Err()
	}
	return s.Store.Append(ctx, stream, expected, records...)
}

func TestBatchAppendDeadlineOfWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	store := &slowStore{Store: openStore(t), gate: make(chan struct{})}
	f := start(t, esdbserver.Config{Store: store})
	b := f.batch()
	soon := func(r *streams.BatchAppendReq) {
		r.Options.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(time.Millisecond)}
	}
	late := uuid.NewString()
	b.send(request(late, "other", 1, soon))
	require.EqualValues(t, codes.DeadlineExceeded, b.byID(1)[late].GetError().GetCode())
	first, waiting, last := uuid.NewString(), uuid.NewString(), uuid.NewString()
	b.send(request(first, "s", 1))
	b.send(request(waiting, "s", 1, soon))
	b.send(request(last, "s", 1))
	require.EqualValues(t, codes.DeadlineExceeded, b.byID(1)[waiting].GetError().GetCode())
	// Those around the one that gave up keep their order.
	close(store.gate)
	answers := b.byID(2)
	require.Zero(t, answers[first].GetSuccess().GetCurrentRevision())
	require.EqualValues(t, 1, answers[last].GetSuccess().GetCurrentRevision())
}

// What is under way when the server stops is answered as it ends.
func TestStopLetsBatchAppendsUnderWayEnd(t *testing.T) {
	t.Parallel()
	store := &slowStore{Store: openStore(t), gate: make(chan struct{}), waiting: make(chan struct{}, 1)}
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: store})
	server.Start()
	f := &fixture{TB: t, ctx: t.Context(), url: server.URL()}
	f.raw = f.dial()
	b := f.batch()
	id := uuid.NewString()
	b.send(request(id, "s", 1))
	<-store.waiting
	stopped := make(chan struct{})
	go func() {
		server.Stop()
		close(stopped)
	}()
	close(store.gate)
	require.Zero(t, b.byID(1)[id].GetSuccess().GetCurrentRevision())
	_, err := b.call.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	<-stopped
}

func TestBatchAppendKeepsTheOrderOfAStream(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	b := f.batch()
	const appends, streamsCount = 400, 5
	var want [streamsCount][]string
	for i := range appends {
		req := request(uuid.NewString(), fmt.Sprintf("s-%d", i%streamsCount), 1)
		id := req.GetProposedMessages()[0].GetId().GetString_()
		want[i%streamsCount] = append(want[i%streamsCount], id)
		b.send(req)
	}
	for _, resp := range b.byID(appends) {
		require.NotNil(t, resp.GetSuccess())
	}
	for i := range streamsCount {
		var got []string
		for _, e := range f.all(f.client.ReadStream(f.ctx, fmt.Sprintf("s-%d", i), esdb.ReadStreamOptions{}, appends)) {
			got = append(got, e.Event.EventID.String())
		}
		require.Equal(t, want[i], got)
	}
}

// tallyStore counts appends.
type tallyStore struct {
	eventstore.Store

	appends atomic.Int64
}

func (s *tallyStore) Append(
	ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord,
) (eventstore.Appended, error) {
	s.appends.Add(1)
	return s.Store.Append(ctx, stream, expected, records...)
}

// A client that sends and does not read what it is answered is not taken more
// from than the bounds allow, and loses nothing.
func TestBatchAppendOfAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	store := &tallyStore{Store: openStore(t)}
	f := start(t, esdbserver.Config{Store: store, MaxAppendBytes: 50_000})
	f.raw = f.dial(grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))
	b := f.batch()
	const appends = 6_000
	sent := make(chan error, 1)
	go func() {
		for i := range appends {
			if err := b.call.Send(request(uuid.NewString(), fmt.Sprintf("s-%d", i%500), 1)); err != nil {
				sent <- err
				return
			}
		}
		sent <- b.call.CloseSend()
	}()
	stillAt(t, store.appends.Load)
	require.Less(t, store.appends.Load(), int64(appends/2))
	got := 0
	for {
		resp, err := b.call.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.NotNil(t, resp.GetSuccess())
		got++
	}
	require.NoError(t, <-sent)
	require.Equal(t, appends, got)
}

func TestBatchAppendWithoutCorrelation(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	b := f.batch()
	b.send(request("", "s", 1))
	_, err := b.call.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, "correlation id")
}

func TestStopEndsBatchAppends(t *testing.T) {
	t.Parallel()
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: openStore(t)})
	server.Start()
	f := &fixture{TB: t, ctx: t.Context(), url: server.URL()}
	f.raw = f.dial()
	b := f.batch()
	id := uuid.NewString()
	b.send(request(id, "s", 1))
	require.NotNil(t, b.byID(1)[id].GetSuccess())
	server.Stop()
	_, err := b.call.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
}
