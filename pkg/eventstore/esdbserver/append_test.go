package esdbserver_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
)

func TestAppendExpectations(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("three", 3)
	exact := func(revision uint64) esdb.ExpectedRevision { return esdb.Revision(revision) }
	for name, tc := range map[string]struct {
		stream   string // "three" has three events, every other one none
		expected esdb.ExpectedRevision
		revision uint64 // of the last event, where the append succeeds
		conflict string
	}{
		"none, new":           {"new-none", esdb.NoStream{}, 1, ""},
		"none, there":         {"three", esdb.NoStream{}, 0, "expecting 'no_stream' but got '2'"},
		"any, new":            {"new-any", esdb.Any{}, 1, ""},
		"exists, new":         {"new-exists", esdb.StreamExists{}, 0, "expecting 'stream_exists' but got 'no_stream'"},
		"exact, new":          {"new-exact", exact(0), 0, "expecting '0' but got 'no_stream'"},
		"exact, behind":       {"three", exact(1), 0, "expecting '1' but got '2'"},
		"exact, ahead":        {"three", exact(3), 0, "expecting '3' but got '2'"},
		"a system's stream":   {"$settings", esdb.NoStream{}, 1, ""},
		"a name with a tilde": {"~x", esdb.NoStream{}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := f.client.AppendToStream(t.Context(), tc.stream,
				esdb.AppendToStreamOptions{ExpectedRevision: tc.expected}, eventsOf("x", 0, 2)...)
			if tc.conflict != "" {
				f.fails(err, esdb.ErrorCodeWrongExpectedVersion, tc.conflict)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.revision, result.NextExpectedVersion)
			require.Equal(t, result.CommitPosition, result.PreparePosition)
			require.Len(t, f.texts(f.client.ReadStream(t.Context(), tc.stream, esdb.ReadStreamOptions{}, 10)), 2)
		})
	}
	require.EqualValues(t, 3, f.append("four", esdb.NoStream{}, eventsOf("four", 0, 4)...).NextExpectedVersion)
	require.EqualValues(t, 4, f.append("four", exact(3), event("exact")).NextExpectedVersion)
	require.EqualValues(t, 5, f.append("four", esdb.Any{}, event("any")).NextExpectedVersion)
	require.EqualValues(t, 6, f.append("four", esdb.StreamExists{}, event("exists")).NextExpectedVersion)
	head, err := f.store.Head(f.ctx)
	require.NoError(t, err)
	last := f.all(f.client.ReadAll(f.ctx, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1))
	require.EqualValues(t, head, last[0].Event.Position.Commit)
}

func TestAppendIsIdempotent(t *testing.T) {
	t.Parallel()
	for name, expected := range map[string]esdb.ExpectedRevision{
		"none": esdb.NoStream{}, "any": esdb.Any{}, "exists": esdb.StreamExists{}, "exact": esdb.Revision(2),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, esdbserver.Config{})
			if name == "exact" || name == "exists" {
				f.fill("s", 3)
			}
			events := eventsOf("again", 0, 4)
			first := f.append("s", expected, events...)
			require.Equal(t, first, f.append("s", expected, events...), "at once")
			f.append("s", esdb.Any{}, event("another"))
			require.Equal(t, first, f.append("s", expected, events...), "behind others")
			head, err := f.store.Head(t.Context())
			require.NoError(t, err)

			// A server that knows nothing of it looks.
			other := start(t, esdbserver.Config{Store: f.store})
			require.Equal(t, first, other.append("s", expected, events...), "after a restart")
			after, err := f.store.Head(t.Context())
			require.NoError(t, err)
			require.Equal(t, head, after)

			_, err = f.client.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{ExpectedRevision: expected},
				events[0], event("not the same"))
			f.fails(err, esdb.ErrorCodeWrongExpectedVersion, "")
		})
	}
}

// What others append to the store by themselves counts too.
func TestAppendAnySeesWhatOthersAppended(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.append("s", esdb.Any{}, event("ours"))
	id := uuid.New()
	done, err := f.store.Append(t.Context(), "s", eventstore.Any, eventstore.NewRecord{ID: id, Type: "theirs"})
	require.NoError(t, err)
	again := event("theirs")
	again.EventID = id
	require.EqualValues(t, done.Revision, f.append("s", esdb.Any{}, again).NextExpectedVersion)
	require.EqualValues(t, done.Revision+1, f.append("s", esdb.Any{}, event("more")).NextExpectedVersion)
}

func TestSameAppendAtTheSameTimeHappensOnce(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	const streamsCount, clients = 20, 8
	var wg sync.WaitGroup
	for i := range streamsCount {
		events := eventsOf("same", 0, 3)
		for range clients {
			wg.Go(func() {
				result, err := f.client.AppendToStream(f.ctx, fmt.Sprintf("s-%d", i), esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, events...)
				if err != nil || result.NextExpectedVersion != 2 {
					t.Errorf("append: %v, %v", result, err)
				}
			})
		}
	}
	wg.Wait()
	head, err := f.store.Head(f.ctx)
	require.NoError(t, err)
	require.EqualValues(t, 3*streamsCount, head)
}

func TestAppendOfNothing(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("two", 2)
	options := func(stream string) *streams.AppendReq_Options {
		return &streams.AppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(stream)},
			ExpectedStreamRevision: &streams.AppendReq_Options_Any{},
		}
	}
	resp, err := f.rawAppend(options("none"))
	require.NoError(t, err)
	require.NotNil(t, resp.GetSuccess().GetNoStream())
	require.NotNil(t, resp.GetSuccess().GetNoPosition())
	resp, err = f.rawAppend(options("two"))
	require.NoError(t, err)
	require.EqualValues(t, 1, resp.GetSuccess().GetCurrentRevision())
	exists := options("none")
	exists.ExpectedStreamRevision = &streams.AppendReq_Options_StreamExists{}
	resp, err = f.rawAppend(exists)
	require.NoError(t, err)
	require.NotNil(t, resp.GetWrongExpectedVersion().GetCurrentNoStream())
}

// Clients of 20.6 read other fields than those after.
func TestWrongExpectedVersionForOldAndNewClients(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("two", 2)
	resp, err := f.rawAppend(&streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("two")},
		ExpectedStreamRevision: &streams.AppendReq_Options_Revision{Revision: 7},
	}, message(uuid.New(), "t", "application/json"))
	require.NoError(t, err)
	wrong := resp.GetWrongExpectedVersion()
	require.EqualValues(t, 1, wrong.GetCurrentRevision())
	require.EqualValues(t, 1, wrong.GetCurrentRevision_20_6_0())
	require.EqualValues(t, 7, wrong.GetExpectedRevision())
	require.EqualValues(t, 7, wrong.GetExpectedRevision_20_6_0())
}

func TestAppendKeepsEverything(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	binary := esdb.EventData{
		EventID: uuid.New(), EventType: "bin", ContentType: esdb.ContentTypeBinary, Data: []byte{0, 1, 255}, Metadata: []byte{9, 0},
	}
	empty := esdb.EventData{EventID: uuid.New(), EventType: "$odd", ContentType: esdb.ContentTypeJson}
	f.append("Größe-1", esdb.NoStream{}, binary, empty)
	got := f.all(f.client.ReadStream(f.ctx, "Größe-1", esdb.ReadStreamOptions{}, 9))
	require.Len(t, got, 2)
	for i, want := range []esdb.EventData{binary, empty} {
		e := got[i].Event
		require.Equal(t, want.EventID, e.EventID)
		require.Equal(t, want.EventType, e.EventType)
		require.Equal(t, string(want.Data), string(e.Data))
		require.Equal(t, string(want.Metadata), string(e.UserMetadata))
		require.Equal(t, "Größe-1", e.StreamID)
		require.EqualValues(t, i, e.EventNumber)
		require.EqualValues(t, i+1, e.Position.Commit)
		require.Equal(t, e.Position.Commit, *got[i].Commit)
	}
	require.Equal(t, "application/octet-stream", got[0].Event.ContentType)
	require.Equal(t, "application/json", got[1].Event.ContentType)
	// To the 100 ns that the protocol carries.
	for r, err := range f.store.ReadAll(f.ctx, eventstore.ReadAllOptions{Limit: 1}) {
		require.NoError(t, err)
		require.True(t, r.Recorded.Equal(got[0].Event.CreatedDate))
	}
}

func message(id uuid.UUID, typ, content string) *streams.AppendReq_ProposedMessage {
	return &streams.AppendReq_ProposedMessage{
		Id:       &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}},
		Metadata: map[string]string{"type": typ, "content-type": content},
		Data:     []byte("{}"),
	}
}

// rawAppend sends options, where there are any, and events.
func (f *fixture) rawAppend(options *streams.AppendReq_Options, messages ...*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
	f.Helper()
	call, err := f.raw.Append(f.ctx)
	require.NoError(f, err)
	requests := []*streams.AppendReq{}
	if options != nil {
		requests = append(requests, &streams.AppendReq{Content: &streams.AppendReq_Options_{Options: options}})
	}
	for _, m := range messages {
		requests = append(requests, &streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: m}})
	}
	for _, r := range requests {
		if err := call.Send(r); err != nil {
			require.ErrorIs(f, err, io.EOF)
			break
		}
	}
	return call.CloseAndRecv()
}

func TestAppendRefusesWhatIsMalformed(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	to := func(stream string) *streams.AppendReq_Options {
		return &streams.AppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(stream)},
			ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
		}
	}
	good := message(uuid.New(), "t", "application/json")
	change := func(change func(*streams.AppendReq_ProposedMessage)) []*streams.AppendReq_ProposedMessage {
		m := message(uuid.New(), "t", "application/json")
		change(m)
		return []*streams.AppendReq_ProposedMessage{m}
	}
	withData := func(typ, data string) []*streams.AppendReq_ProposedMessage {
		return change(func(m *streams.AppendReq_ProposedMessage) { m.Metadata["type"], m.Data = typ, []byte(data) })
	}
	for name, tc := range map[string]struct {
		options  *streams.AppendReq_Options
		messages []*streams.AppendReq_ProposedMessage
		want     string
	}{
		"no options":         {nil, []*streams.AppendReq_ProposedMessage{good}, "first message of an append must be its options"},
		"nothing at all":     {nil, nil, "append without options"},
		"no stream":          {to(""), nil, "empty"},
		"control characters": {to("a\nb"), nil, "control character"},
		"not UTF-8":          {to("a\xff"), nil, "not UTF-8"},
		"long":               {to(strings.Repeat("x", 513)), nil, "at most 512"},
		"long for its tilde": {to("$" + strings.Repeat("x", 511)), nil, "at most 512"},
		"$all":               {to("$all"), nil, "$all is not a stream"},
		"metadata of $all":   {to("$$$all"), nil, "no metadata of"},
		"metadata twice":     {to("$$$$x"), nil, "no metadata of"},
		"no expectation":     {&streams.AppendReq_Options{StreamIdentifier: to("x").GetStreamIdentifier()}, nil, "no expected revision"},
		"huge revision": {
			&streams.AppendReq_Options{
				StreamIdentifier:       to("x").GetStreamIdentifier(),
				ExpectedStreamRevision: &streams.AppendReq_Options_Revision{Revision: 1 << 63},
			},
			nil, "expected revision 9223372036854775808",
		},
		"no id": {to("x"), change(func(m *streams.AppendReq_ProposedMessage) { m.Id = nil }), "no id"},
		"no UUID": {to("x"), change(func(m *streams.AppendReq_ProposedMessage) {
			m.Id = &shared.UUID{Value: &shared.UUID_String_{String_: "7"}}
		}), "no UUID"},
		"no type":          {to("x"), change(func(m *streams.AppendReq_ProposedMessage) { delete(m.GetMetadata(), "type") }), "type and content-type"},
		"no content type":  {to("x"), change(func(m *streams.AppendReq_ProposedMessage) { delete(m.GetMetadata(), "content-type") }), "type and content-type"},
		"odd content type": {to("x"), change(func(m *streams.AppendReq_ProposedMessage) { m.Metadata["content-type"] = "text/plain" }), "text/plain"},
		"empty type":       {to("x"), change(func(m *streams.AppendReq_ProposedMessage) { m.Metadata["type"] = "" }), "empty"},
		"long type":        {to("x"), change(func(m *streams.AppendReq_ProposedMessage) { m.Metadata["type"] = strings.Repeat("x", 257) }), "at most 256"},
		"the same twice":   {to("x"), []*streams.AppendReq_ProposedMessage{good, good}, "twice"},
		"a tombstone":      {to("x"), withData("$streamDeleted", "{}"), "use Tombstone"},
		"other metadata":   {to("$$x"), withData("other", "{}"), "$metadata only"},
		"no JSON":          {to("$$x"), withData("$metadata", "{"), "no JSON object"},
		"null":             {to("$$x"), withData("$metadata", "null"), "no JSON object"},
		"an ACL":           {to("$$x"), withData("$metadata", `{"$acl":{}}`), "access control lists"},
		"no count":         {to("$$x"), withData("$metadata", `{"$maxCount":0}`), "$maxCount"},
		"negative age":     {to("$$x"), withData("$metadata", `{"$maxAge":-1}`), "$maxAge"},
		"half a $tb":       {to("$$x"), withData("$metadata", `{"$tb":1.5}`), "$tb"},
		"text":             {to("$$x"), withData("$metadata", `{"$tb":"1"}`), "$tb"},
		"everything":       {to("$$x"), withData("$metadata", `{"$tb":9223372036854775807}`), "use Delete"},
		"a deletion": {
			to("$$x"),
			change(func(m *streams.AppendReq_ProposedMessage) {
				m.Metadata["type"], m.CustomMetadata = "$metadata", []byte(`{"$deleted":true}`)
			}), "use Delete",
		},
	} {
		_, err := f.rawAppend(tc.options, tc.messages...)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%s: %v", name, err)
		require.ErrorContains(t, err, tc.want, name)
	}
	head, err := f.store.Head(f.ctx)
	require.NoError(t, err)
	require.Zero(t, head)
}

func TestMissingMetadataIsToldInTrailers(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	var trailer metadata.MD
	call, err := f.raw.Append(f.ctx, grpc.Trailer(&trailer))
	require.NoError(t, err)
	m := message(uuid.New(), "t", "application/json")
	delete(m.GetMetadata(), "type")
	require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("x")},
		ExpectedStreamRevision: &streams.AppendReq_Options_Any{},
	}}}))
	require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: m}}))
	_, err = call.CloseAndRecv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.Equal(t, []string{"missing-required-metadata-property"}, trailer.Get("exception"))
	require.Equal(t, []string{"type,content-type"}, trailer.Get("required-metadata-properties"))
}

// The client has long sent more by the time it is refused.
func TestAppendTooLargeIsTyped(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{MaxAppendBytes: 100_000})
	var trailer metadata.MD
	call, err := f.raw.Append(f.ctx, grpc.Trailer(&trailer))
	require.NoError(t, err)
	require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("x")},
		ExpectedStreamRevision: &streams.AppendReq_Options_Any{},
	}}}))
	for range 20 {
		m := message(uuid.New(), "t", "application/json")
		m.Data = slices.Repeat([]byte("7"), 10_000)
		require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: m}}))
	}
	_, err = call.CloseAndRecv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.Equal(t, []string{"maximum-append-size-exceeded"}, trailer.Get("exception"))
	require.Equal(t, []string{"100000"}, trailer.Get("maximum-append-size"))

	// More events than the store takes at once, small as they are.
	many := make([]*streams.AppendReq_ProposedMessage, eventstore.MaxAppendRecords+1)
	for i := range many {
		many[i] = message(uuid.New(), "t", "application/json")
	}
	_, err = f.rawAppend(&streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("x")},
		ExpectedStreamRevision: &streams.AppendReq_Options_Any{},
	}, many...)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, "more than 10000 events")

	// One event over the store's own bound, under the server's.
	wide := start(t, esdbserver.Config{})
	large := event("")
	large.Data = slices.Repeat([]byte("7"), eventstore.MaxRecordBytes+1)
	_, err = wide.client.AppendToStream(wide.ctx, "x", esdb.AppendToStreamOptions{}, large)
	require.ErrorContains(t, err, "at most 1000000")
}
