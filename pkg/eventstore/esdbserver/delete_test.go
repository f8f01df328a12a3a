package esdbserver_test

import (
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
)

func TestDeletedStreamGoesOn(t *testing.T) {
	t.Parallel()
	for name, expected := range map[string]esdb.ExpectedRevision{
		"none": esdb.NoStream{}, "any": esdb.Any{}, "exact": esdb.Revision(2),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, esdbserver.Config{})
			f.fill("s", 3)
			deleted, err := f.client.DeleteStream(f.ctx, "s", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(2)})
			require.NoError(t, err)
			require.EqualValues(t, 4, deleted.Position.Commit)
			_, err = collect(f.client.ReadStream(f.ctx, "s", esdb.ReadStreamOptions{}, 9))
			f.fails(err, esdb.ErrorCodeResourceNotFound, "")
			_, err = f.client.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.StreamExists{}}, event("x"))
			f.fails(err, esdb.ErrorCodeWrongExpectedVersion, "")

			events := eventsOf("more", 0, 2)
			first := f.append("s", expected, events...)
			require.EqualValues(t, 4, first.NextExpectedVersion)
			require.Equal(t, first, f.append("s", expected, events...), "again")
			require.Equal(t, []string{"3 s more-0", "4 s more-1"}, f.texts(f.client.ReadStream(f.ctx, "s", esdb.ReadStreamOptions{}, 9)))
			require.Equal(t, []string{"4 s more-1", "3 s more-0"},
				f.texts(f.client.ReadStream(f.ctx, "s", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 9)))
			// And so it does for a server that knows nothing of it.
			other := start(t, esdbserver.Config{Store: f.store})
			require.Len(t, other.texts(other.client.ReadStream(other.ctx, "s", esdb.ReadStreamOptions{}, 9)), 2)
			_, err = f.client.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("x"))
			f.fails(err, esdb.ErrorCodeWrongExpectedVersion, "")
		})
	}
}

func TestDeleteExpectations(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stream   string
		expected esdb.ExpectedRevision
		ok       bool
	}{
		"exact":         {"two", esdb.Revision(1), true},
		"behind":        {"two", esdb.Revision(0), false},
		"ahead":         {"two", esdb.Revision(2), false},
		"any":           {"two", esdb.Any{}, true},
		"exists":        {"two", esdb.StreamExists{}, true},
		"none":          {"two", esdb.NoStream{}, false},
		"new, any":      {"new", esdb.Any{}, true},
		"new, none":     {"new", esdb.NoStream{}, true},
		"new, exists":   {"new", esdb.StreamExists{}, false},
		"new, exact":    {"new", esdb.Revision(0), false},
		"deleted, none": {"deleted", esdb.NoStream{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, forGood := range []bool{false, true} {
				f := start(t, esdbserver.Config{})
				f.fill("two", 2)
				f.fill("deleted", 2)
				_, err := f.client.DeleteStream(f.ctx, "deleted", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
				require.NoError(t, err)
				if forGood {
					_, err = f.client.TombstoneStream(f.ctx, tc.stream, esdb.TombstoneStreamOptions{ExpectedRevision: tc.expected})
				} else {
					_, err = f.client.DeleteStream(f.ctx, tc.stream, esdb.DeleteStreamOptions{ExpectedRevision: tc.expected})
				}
				_, read := collect(f.client.ReadStream(f.ctx, tc.stream, esdb.ReadStreamOptions{}, 9))
				switch {
				case !tc.ok:
					require.Equal(t, codes.FailedPrecondition, status.Code(cause(err)), "%v", err)
					if tc.stream == "two" {
						require.NoError(t, read)
					}
				case forGood:
					require.NoError(t, err)
					f.fails(read, esdb.ErrorCodeStreamDeleted, "")
				default:
					require.NoError(t, err)
					f.fails(read, esdb.ErrorCodeResourceNotFound, "")
				}
			}
		})
	}
}

// cause is the status below the client's error.
func cause(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || status.Code(err) != codes.Unknown {
			return err
		}
		err = u.Unwrap()
	}
}

func TestDeleteConflictIsToldInTrailers(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("a ü", 2)
	var trailer metadata.MD
	_, err := f.raw.Delete(f.ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("a ü")},
		ExpectedStreamRevision: &streams.DeleteReq_Options_StreamExists{},
	}}, grpc.Trailer(&trailer))
	require.NoError(t, err)
	_, err = f.raw.Delete(f.ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("a ü")},
		ExpectedStreamRevision: &streams.DeleteReq_Options_StreamExists{},
	}}, grpc.Trailer(&trailer))
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.Equal(t, []string{"wrong-expected-version"}, trailer.Get("exception"))
	require.Equal(t, []string{"-4"}, trailer.Get("expected-version"))
	require.Equal(t, []string{"1"}, trailer.Get("actual-version"))
	require.Equal(t, []string{"a%20%C3%BC"}, trailer.Get("stream-name"))
	for _, bad := range []*streams.DeleteReq{
		{},
		{Options: &streams.DeleteReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("x")}}},
		{Options: &streams.DeleteReq_Options{ExpectedStreamRevision: &streams.DeleteReq_Options_Any{}}},
		{Options: &streams.DeleteReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("$$x")},
			ExpectedStreamRevision: &streams.DeleteReq_Options_Any{},
		}},
	} {
		_, err := f.raw.Delete(f.ctx, bad)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
		_, err = f.raw.Tombstone(f.ctx, &streams.TombstoneReq{})
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	}
}

func TestTombstonedStreamIsGoneForGood(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	before := eventsOf("s", 0, 3)
	f.append("s", esdb.NoStream{}, before...)
	result, err := f.client.TombstoneStream(f.ctx, "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.StreamExists{}})
	require.NoError(t, err)
	require.EqualValues(t, 4, result.Position.Commit)

	check := func(f *fixture) {
		_, err := collect(f.client.ReadStream(f.ctx, "s", esdb.ReadStreamOptions{}, 9))
		f.fails(err, esdb.ErrorCodeStreamDeleted, "'s'")
		for _, expected := range []esdb.ExpectedRevision{
			esdb.Any{}, esdb.NoStream{}, esdb.StreamExists{}, esdb.Revision(2), esdb.Revision(3),
		} {
			_, err := f.client.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: expected}, event("x"))
			f.fails(err, esdb.ErrorCodeStreamDeleted, "")
			_, err = f.client.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: expected}, before...)
			f.fails(err, esdb.ErrorCodeStreamDeleted, "")
			_, err = f.client.DeleteStream(f.ctx, "s", esdb.DeleteStreamOptions{ExpectedRevision: expected})
			f.fails(err, esdb.ErrorCodeStreamDeleted, "")
			_, err = f.client.TombstoneStream(f.ctx, "s", esdb.TombstoneStreamOptions{ExpectedRevision: expected})
			f.fails(err, esdb.ErrorCodeStreamDeleted, "")
		}
		_, err = f.client.SubscribeToStream(f.ctx, "s", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
		f.fails(err, esdb.ErrorCodeStreamDeleted, "")
	}
	check(f)
	check(start(t, esdbserver.Config{Store: f.store}))

	all := f.all(f.client.ReadAll(f.ctx, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1))
	require.Equal(t, "$streamDeleted", all[0].Event.EventType)
	require.EqualValues(t, int64(1<<63-1), all[0].Event.EventNumber)
	head, err := f.store.Head(f.ctx)
	require.NoError(t, err)
	require.EqualValues(t, 4, head, "nothing was appended behind")
}

func TestStreamMetadataIsHonoured(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tc := range map[string]struct {
		set  func(*esdb.StreamMetadata)
		want []string
	}{
		"max count":         {func(m *esdb.StreamMetadata) { m.SetMaxCount(2) }, []string{"3 s s-3", "4 s s-4"}},
		"larger max count":  {func(m *esdb.StreamMetadata) { m.SetMaxCount(5) }, []string{"0 s s-0", "1 s s-1", "2 s s-2", "3 s s-3", "4 s s-4"}},
		"truncate before":   {func(m *esdb.StreamMetadata) { m.SetTruncateBefore(3) }, []string{"3 s s-3", "4 s s-4"}},
		"both":              {func(m *esdb.StreamMetadata) { m.SetTruncateBefore(1); m.SetMaxCount(1) }, []string{"4 s s-4"}},
		"before everything": {func(m *esdb.StreamMetadata) { m.SetTruncateBefore(9) }, []string{}},
		"too old":           {func(m *esdb.StreamMetadata) { m.SetMaxAge(time.Hour) }, []string{}},
		"young enough":      {func(m *esdb.StreamMetadata) { m.SetMaxAge(24 * time.Hour); m.SetTruncateBefore(4) }, []string{"4 s s-4"}},
		"own keys":          {func(m *esdb.StreamMetadata) { m.AddCustomProperty("k", "v"); m.SetMaxCount(1) }, []string{"4 s s-4"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, esdbserver.Config{Now: func() time.Time { return now.Add(2 * time.Hour) }})
			f.fill("s", 5)
			require.Len(t, f.texts(f.client.ReadStream(f.ctx, "s", esdb.ReadStreamOptions{}, 9)), 5)
			var meta esdb.StreamMetadata
			tc.set(&meta)
			result, err := f.client.SetStreamMetadata(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, meta)
			require.NoError(t, err)
			require.Zero(t, result.NextExpectedVersion)
			got, err := f.client.GetStreamMetadata(f.ctx, "s", esdb.ReadStreamOptions{})
			require.NoError(t, err)
			require.Equal(t, meta.MaxCount(), got.MaxCount())
			require.Equal(t, meta.TruncateBefore(), got.TruncateBefore())
			require.Equal(t, meta.MaxAge(), got.MaxAge())
			require.Equal(t, tc.want, f.texts(f.client.ReadStream(f.ctx, "s", esdb.ReadStreamOptions{}, 9)))
			back := f.texts(f.client.ReadStream(f.ctx, "s", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 9))
			require.ElementsMatch(t, tc.want, back)
			// Deleting keeps what it does not change.
			_, err = f.client.DeleteStream(f.ctx, "s", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
			require.NoError(t, err)
			got, err = f.client.GetStreamMetadata(f.ctx, "s", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}})
			require.NoError(t, err)
			require.Equal(t, meta.MaxCount(), got.MaxCount())
			require.Equal(t, meta.CustomProperty("k"), got.CustomProperty("k"))
			require.EqualValues(t, 5, *got.TruncateBefore())
		})
	}
}
