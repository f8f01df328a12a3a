package esdbserver

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
)

// FuzzRequests feeds whatever bytes make a request to its checks: they refuse
// it with INVALID_ARGUMENT, or what they make of it is safe to go on with.
func FuzzRequests(f *testing.F) {
	for _, m := range []proto.Message{
		&streams.ReadReq{Options: &streams.ReadReq_Options{
			StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
				AllOption: &streams.ReadReq_Options_AllOptions_Position{Position: &streams.ReadReq_Options_Position{CommitPosition: 7}},
			}},
			CountOption: &streams.ReadReq_Options_Subscription{},
			FilterOption: &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
				Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
					StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: "^[^$].*"},
				},
				Window: &streams.ReadReq_Options_FilterOptions_Max{Max: 3}, CheckpointIntervalMultiplier: 2,
			}},
		}},
		&streams.ReadReq{Options: &streams.ReadReq_Options{
			StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
				StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("$$orders")},
				RevisionOption:   &streams.ReadReq_Options_StreamOptions_Revision{Revision: 1 << 63},
			}},
			CountOption: &streams.ReadReq_Options_Count{Count: 1},
		}},
		&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
			Id:       &shared.UUID{Value: &shared.UUID_String_{String_: "0190f5b4-0000-7000-8000-000000000001"}},
			Metadata: map[string]string{"type": "$metadata", "content-type": "application/json"},
			Data:     []byte(`{"$maxCount":3,"$tb":9223372036854775807,"$maxAge":9223372036854775807}`),
		}}},
	} {
		data, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(data, "~x", "Placed")
	}
	f.Fuzz(func(t *testing.T, data []byte, stream, typ string) {
		checkNames(t, stream)
		record := &eventstore.Record{NewRecord: eventstore.NewRecord{Type: inside(typ)}, Stream: inside(stream), Position: 1}
		var read streams.ReadReq
		if proto.Unmarshal(data, &read) == nil {
			r, err := parseRead(&read)
			if err != nil {
				refused(t, err)
			} else {
				checkRead(t, r, &read, record)
			}
		}
		var request streams.AppendReq
		if proto.Unmarshal(data, &request) == nil && request.GetProposedMessage() != nil {
			for _, name := range []string{"s", "$$s"} {
				if r, err := newRecord(name, request.GetProposedMessage()); err != nil {
					refused(t, err)
				} else {
					require.NotEqual(t, uuid.Nil, r.ID)
					require.NotEqual(t, storedStreamDeleted, r.Type)
				}
			}
		}
	})
}

func checkNames(t *testing.T, name string) {
	require.Equal(t, name, outside(inside(name)))
	stored := inside(name)
	if stored != "" {
		require.NotEqual(t, byte('$'), stored[0])
	}
	if stored != name {
		require.Empty(t, event.TenantOf(stored))
	}
	got, stored2, err := streamName([]byte(name))
	if err != nil {
		refused(t, err)
		return
	}
	require.Equal(t, name, got)
	require.NoError(t, eventstore.ValidateStream(stored2))
	require.Empty(t, event.TenantOf(metaStream(stored2)))
	for i := range len(headerValue(name)) {
		c := headerValue(name)[i]
		require.True(t, c >= 0x20 && c < 0x7f)
	}
}

// checkRead compares what the store and the server choose together with what
// the filter says of the names that clients use.
func checkRead(t *testing.T, r *readRequest, req *streams.ReadReq, record *eventstore.Record) {
	require.GreaterOrEqual(t, r.revision, eventstore.Revision(0))
	if r.filter == nil {
		require.NoError(t, eventstore.ValidateStream(r.stream))
		return
	}
	chosen := r.filter.store.Matches(record.Stream, record.Type) && r.filter.matches(record)
	o := req.GetOptions().GetFilter()
	if o == nil {
		require.True(t, chosen)
		return
	}
	require.Equal(t, r.subscription, r.filter.interval > 0)
	want := plainFilter(o, outside(record.Stream), outside(record.Type))
	require.Equal(t, want, chosen)
	r.filter.restrict("acme")
	again := r.filter.store.Matches(record.Stream, record.Type) && r.filter.matches(record)
	require.Equal(t, want && owns("acme", outside(record.Stream)), again)
}

func refused(t *testing.T, err error) {
	t.Helper()
	e := classify(err)
	require.Contains(t, []reason{reasonInvalid, reasonMissingProperty}, e.reason, "%v", err)
	require.NotEmpty(t, e.Error())
}

// plainFilter is a filter as the protocol describes it.
func plainFilter(o *streams.ReadReq_Options_FilterOptions, stream, typ string) bool {
	name, x := stream, o.GetStreamIdentifier()
	if o.GetEventType() != nil {
		name, x = typ, o.GetEventType()
	}
	if x.GetRegex() != "" {
		return regexp.MustCompile(x.GetRegex()).MatchString(name)
	}
	return slices.ContainsFunc(x.GetPrefix(), func(p string) bool { return strings.HasPrefix(name, p) })
}
