package esdbserver_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
)

// readOptions are those of a read of one event of $all from its start, changed.
func readOptions(change func(*streams.ReadReq_Options)) *streams.ReadReq {
	o := &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
			AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}},
		}},
		CountOption:  &streams.ReadReq_Options_Count{Count: 1},
		FilterOption: &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}},
		UuidOption:   &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}}},
	}
	change(o)
	return &streams.ReadReq{Options: o}
}

// rawRead collects the answers of a read.
func (f *fixture) rawRead(req *streams.ReadReq) ([]*streams.ReadResp, error) {
	f.Helper()
	call, err := f.raw.Read(f.ctx, req)
	require.NoError(f, err)
	var out []*streams.ReadResp
	for {
		resp, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, resp)
	}
}

func ofStream(name string, revision uint64) *streams.ReadReq_Options_Stream {
	return &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(name)},
		RevisionOption:   &streams.ReadReq_Options_StreamOptions_Revision{Revision: revision},
	}}
}

func TestReadRefusesWhatIsMalformed(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	subscription := &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	filtered := func(x *streams.ReadReq_Options_FilterOptions) func(*streams.ReadReq_Options) {
		return func(o *streams.ReadReq_Options) {
			o.CountOption = subscription
			if x.GetWindow() == nil {
				x.Window = &streams.ReadReq_Options_FilterOptions_Count{}
			}
			o.FilterOption = &streams.ReadReq_Options_Filter{Filter: x}
		}
	}
	byType := func(regex string, prefixes ...string) *streams.ReadReq_Options_FilterOptions_EventType {
		return &streams.ReadReq_Options_FilterOptions_EventType{
			EventType: &streams.ReadReq_Options_FilterOptions_Expression{Regex: regex, Prefix: prefixes},
		}
	}
	for name, tc := range map[string]struct {
		change func(*streams.ReadReq_Options)
		want   string
	}{
		"neither stream nor all": {func(o *streams.ReadReq_Options) { o.StreamOption = nil }, "neither a stream nor $all"},
		"no count":               {func(o *streams.ReadReq_Options) { o.CountOption = nil }, "neither a count nor subscription"},
		"odd direction":          {func(o *streams.ReadReq_Options) { o.ReadDirection = 7 }, "direction 7"},
		"subscription backwards": {func(o *streams.ReadReq_Options) { o.CountOption, o.ReadDirection = subscription, 1 }, "forwards only"},
		"from nowhere":           {func(o *streams.ReadReq_Options) { o.GetAll().AllOption = nil }, "from nowhere"},
		"stream from nowhere": {func(o *streams.ReadReq_Options) {
			x := ofStream("s", 0)
			x.Stream.RevisionOption = nil
			o.StreamOption = x
		}, "from nowhere"},
		"no stream": {func(o *streams.ReadReq_Options) { o.StreamOption = ofStream("", 0) }, "empty"},
		"$all":      {func(o *streams.ReadReq_Options) { o.StreamOption = ofStream("$all", 0) }, "option `all`"},
		"position": {func(o *streams.ReadReq_Options) {
			o.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_Position{
				Position: &streams.ReadReq_Options_Position{CommitPosition: 1, PreparePosition: 2},
			}
		}, "prepare position is behind"},
		"filtered stream": {func(o *streams.ReadReq_Options) {
			o.StreamOption = ofStream("s", 0)
			o.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{Filter: byType("x")}}
		}, "only reads of $all"},
		"filter by nothing":    {filtered(&streams.ReadReq_Options_FilterOptions{CheckpointIntervalMultiplier: 1}), "neither stream nor event type"},
		"empty filter":         {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType(""), CheckpointIntervalMultiplier: 1}), "neither a prefix"},
		"both":                 {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType("x", "y"), CheckpointIntervalMultiplier: 1}), "both prefixes"},
		"regex":                {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType("(")}), "missing closing"},
		"look-ahead":           {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType("(?!x)")}), "RE2"},
		"long regex":           {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType(strings.Repeat("x", 5000))}), "at most 4096"},
		"many prefixes":        {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType("", make([]string, 1001)...)}), "at most 1000"},
		"no interval":          {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType("x")}), "at least 1"},
		"no window's interval": {filtered(&streams.ReadReq_Options_FilterOptions{Filter: byType("x"), CheckpointIntervalMultiplier: 1, Window: &streams.ReadReq_Options_FilterOptions_Max{}}), "at least 1"},
	} {
		_, err := f.rawRead(readOptions(tc.change))
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%s: %v", name, err)
		require.ErrorContains(t, err, tc.want, name)
	}
	_, err := f.rawRead(&streams.ReadReq{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// What is encoded by hand is what protobuf would make of it.
func TestEventsOnTheWire(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	id := uuid.MustParse("80000000-0000-0000-ffff-ffffffffffff")
	data := make([]byte, 50_000)
	f.append("s", esdb.NoStream{},
		esdb.EventData{EventID: id, EventType: "t", ContentType: esdb.ContentTypeBinary, Data: data, Metadata: []byte("m")},
		esdb.EventData{EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte("0@s")})
	for _, text := range []bool{false, true} {
		got, err := f.rawRead(readOptions(func(o *streams.ReadReq_Options) {
			o.CountOption = &streams.ReadReq_Options_Count{Count: 9}
			o.ResolveLinks = true
			if text {
				o.UuidOption.Content = &streams.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}
			}
		}))
		require.NoError(t, err)
		require.Len(t, got, 2)
		plain, linked := got[0].GetEvent(), got[1].GetEvent()
		require.Nil(t, plain.GetLink())
		require.EqualValues(t, 1, plain.GetCommitPosition())
		require.EqualValues(t, 2, linked.GetCommitPosition())
		require.Equal(t, "0@s", string(linked.GetLink().GetData()))
		require.Equal(t, "$>", linked.GetLink().GetMetadata()["type"])
		for _, e := range []*streams.ReadResp_ReadEvent_RecordedEvent{plain.GetEvent(), linked.GetEvent()} {
			require.Empty(t, e.ProtoReflect().GetUnknown())
			if text {
				require.Equal(t, id.String(), e.GetId().GetString_())
			} else {
				require.EqualValues(t, -1<<63, e.GetId().GetStructured().GetMostSignificantBits())
				require.Negative(t, e.GetId().GetStructured().GetLeastSignificantBits())
			}
			require.Equal(t, data, e.GetData())
			require.Equal(t, "m", string(e.GetCustomMetadata()))
			require.Equal(t, "s", string(e.GetStreamIdentifier().GetStreamName()))
			require.Len(t, e.GetMetadata(), 3)
			require.EqualValues(t, 1, e.GetCommitPosition())
		}
	}
}

func TestLinksThatLeadNowhere(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("gone", 1)
	f.fill("deleted", 1)
	_, err := f.client.TombstoneStream(f.ctx, "gone", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	_, err = f.client.DeleteStream(f.ctx, "deleted", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	targets := []string{"0@gone", "0@deleted", "7@links", "0@never", "x@links", "-1@links", "0", "", "0@", "0@a\nb", "99999999999999999999@links"}
	for _, target := range targets {
		f.append("links", esdb.Any{}, esdb.EventData{
			EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte(target),
		})
	}
	f.append("links", esdb.Any{}, esdb.EventData{
		EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte("3@links"),
	})
	got := f.all(f.client.ReadStream(f.ctx, "links", esdb.ReadStreamOptions{ResolveLinkTos: true}, 99))
	require.Len(t, got, len(targets)+1)
	for i, e := range got[:2] {
		require.Nil(t, e.Event, targets[i])
		require.Equal(t, targets[i], string(e.Link.Data))
	}
	for i, e := range got[3:len(targets)] {
		require.Nil(t, e.Event, targets[i+3])
	}
	require.EqualValues(t, 3, got[len(targets)].Event.EventNumber)
	// Unless it is asked for, a link is an event as any other.
	plain := f.all(f.client.ReadStream(f.ctx, "links", esdb.ReadStreamOptions{}, 99))
	require.Nil(t, plain[0].Link)
	require.Equal(t, "$>", plain[0].Event.EventType)
}

// Older clients break on what they did not ask for.
func TestPositionsOfTheEndsWhereTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("s", 5)
	var meta esdb.StreamMetadata
	meta.SetTruncateBefore(3)
	_, err := f.client.SetStreamMetadata(f.ctx, "s", esdb.AppendToStreamOptions{}, meta)
	require.NoError(t, err)
	for _, extras := range []bool{false, true} {
		options := func(change func(*streams.ReadReq_Options)) *streams.ReadReq {
			return readOptions(func(o *streams.ReadReq_Options) {
				change(o)
				if extras {
					o.ControlOption = &streams.ReadReq_Options_ControlOption{Compatibility: 1}
				}
			})
		}
		got, err := f.rawRead(options(func(o *streams.ReadReq_Options) { o.StreamOption = ofStream("s", 0) }))
		require.NoError(t, err)
		all, err := f.rawRead(options(func(*streams.ReadReq_Options) {}))
		require.NoError(t, err)
		if !extras {
			require.Len(t, got, 1)
			require.EqualValues(t, 3, got[0].GetEvent().GetEvent().GetStreamRevision())
			require.Len(t, all, 1)
			continue
		}
		require.Len(t, got, 3)
		require.EqualValues(t, 3, got[0].GetFirstStreamPosition())
		require.EqualValues(t, 4, got[2].GetLastStreamPosition())
		require.Len(t, all, 2)
		require.EqualValues(t, 6, all[1].GetLastAllStreamPosition().GetCommitPosition())
	}
}

func TestReadAllBothWays(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("a", 3)
	f.fill("b", 2)
	at := func(p uint64) esdb.AllPosition { return esdb.Position{Commit: p, Prepare: p} }
	for name, tc := range map[string]struct {
		from  esdb.AllPosition
		back  bool
		count uint64
		want  []string
	}{
		"all":                     {esdb.Start{}, false, 100, []string{"0 a a-0", "1 a a-1", "2 a a-2", "0 b b-0", "1 b b-1"}},
		"nothing":                 {esdb.Start{}, false, 0, []string{}},
		"a position is inclusive": {at(3), false, 2, []string{"2 a a-2", "0 b b-0"}},
		"beyond the head":         {at(6), false, 2, []string{}},
		"the end":                 {esdb.End{}, false, 2, []string{}},
		"position 0":              {at(0), false, 1, []string{"0 a a-0"}},
		"backwards":               {esdb.End{}, true, 2, []string{"1 b b-1", "0 b b-0"}},
		"backwards it is not":     {at(3), true, 9, []string{"1 a a-1", "0 a a-0"}},
		"backwards, beyond":       {at(99), true, 1, []string{"1 b b-1"}},
		"backwards, the first":    {at(1), true, 1, []string{}},
		"backwards, position 0":   {at(0), true, 1, []string{}},
		"backwards, the start":    {esdb.Start{}, true, 1, []string{}},
		"the largest":             {at(1<<64 - 1), true, 1, []string{"1 b b-1"}},
	} {
		opts := esdb.ReadAllOptions{From: tc.from}
		if tc.back {
			opts.Direction = esdb.Backwards
		}
		require.Equal(t, tc.want, f.texts(f.client.ReadAll(f.ctx, opts, tc.count)), name)
	}
	filtered, err := f.rawRead(readOptions(func(o *streams.ReadReq_Options) {
		o.ReadDirection = streams.ReadReq_Options_Backwards
		o.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_End{}
		o.CountOption = &streams.ReadReq_Options_Count{Count: 2}
		o.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
			Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
				StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: "^a$"},
			},
		}}
	}))
	require.NoError(t, err)
	require.Len(t, filtered, 2)
	require.EqualValues(t, 3, filtered[0].GetEvent().GetCommitPosition())
	require.EqualValues(t, 2, filtered[1].GetEvent().GetCommitPosition())
}

func TestReadOfNoStream(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	_, err := collect(f.client.ReadStream(f.ctx, "never", esdb.ReadStreamOptions{}, 1))
	f.fails(err, esdb.ErrorCodeResourceNotFound, "never")
	_, err = f.client.GetStreamMetadata(f.ctx, "never", esdb.ReadStreamOptions{})
	f.fails(err, esdb.ErrorCodeResourceNotFound, "")
}

func TestFeaturesAndGossip(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	conn := f.conn()
	info, err := gossip.NewGossipClient(conn).Read(f.ctx, &shared.Empty{})
	require.NoError(t, err)
	require.Len(t, info.GetMembers(), 1)
	member := info.GetMembers()[0]
	require.Equal(t, gossip.MemberInfo_Leader, member.GetState())
	require.True(t, member.GetIsAlive())
	host, _, err := net.SplitHostPort(f.address())
	require.NoError(t, err)
	require.Equal(t, host, member.GetHttpEndPoint().GetAddress())
	methods, err := serverfeatures.NewServerFeaturesClient(conn).GetSupportedMethods(f.ctx, &shared.Empty{})
	require.NoError(t, err)
	require.Equal(t, "23.10.0", methods.GetEventStoreServerVersion())

	// A client that discovers finds it by gossip.
	cluster := f.connect("esdb://" + f.address() + "," + f.address() + "?tls=false")
	_, err = cluster.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{}, event("found"))
	require.NoError(t, err)

	_, err = persistent.NewPersistentSubscriptionsClient(conn).Create(f.ctx, &persistent.CreateReq{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	require.ErrorContains(t, err, "PersistentSubscriptions/Create")
	require.ErrorContains(t, err, "catch-up subscription")
	for method, want := range map[string]string{
		"/event_store.client.projections.Projections/Create":  "parley projections",
		"/event_store.client.users.Users/Create":              "configuration",
		"/event_store.client.operations.Operations/Shutdown":  "scavenging",
		"/event_store.client.monitoring.Monitoring/Stats":     "/metrics",
		"/event_store.client.streams.Streams/SomethingNew":    "not part of",
		"/event_store.client.something.SomethingElse/Altered": "not part of",
	} {
		err := conn.Invoke(f.ctx, method, &shared.Empty{}, &shared.Empty{})
		require.Equal(t, codes.Unimplemented, status.Code(err))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, method)
	}
}
