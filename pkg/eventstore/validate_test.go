package eventstore_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

func FuzzStreamNames(f *testing.F) {
	for _, name := range []string{
		"", "a", "$a", "a$", "acme.web-1", "überprüft", "a\x00", "\n", "a\x7f", "a\u0085", "a\xff", "日本",
		strings.Repeat("a", eventstore.MaxStreamNameBytes), strings.Repeat("a", eventstore.MaxStreamNameBytes+1),
		strings.Repeat("é", eventstore.MaxStreamNameBytes/2),
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		allowed := name != "" && len(name) <= 512 && utf8.ValidString(name) &&
			!strings.HasPrefix(name, "$") && !strings.ContainsFunc(name, unicode.IsControl)
		err := eventstore.ValidateStream(name)
		if allowed {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		require.False(t, strings.ContainsFunc(err.Error(), unicode.IsControl), "the message is fit to print")
	})
}

func TestFilterMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter       eventstore.Filter
		stream, kind string
		want         bool
	}{
		{eventstore.Filter{}, "a", "t", true},
		{eventstore.Filter{Types: []string{"t"}}, "a", "t", true},
		{eventstore.Filter{Types: []string{"u", "t"}}, "a", "t", true},
		{eventstore.Filter{Types: []string{"u"}}, "a", "t", false},
		{eventstore.Filter{StreamPrefixes: []string{"b", "a"}}, "ab", "t", true},
		{eventstore.Filter{StreamPrefixes: []string{"ab"}}, "a", "t", false},
		{eventstore.Filter{StreamPrefixes: []string{""}}, "a", "t", true},
		{eventstore.Filter{Types: []string{"t"}, StreamPrefixes: []string{"a"}}, "a", "t", true},
		{eventstore.Filter{Types: []string{"t"}, StreamPrefixes: []string{"b"}}, "a", "t", false},
		{eventstore.Filter{Types: []string{"u"}, StreamPrefixes: []string{"a"}}, "a", "t", false},
	} {
		require.Equal(t, c.want, c.filter.Matches(c.stream, c.kind), "%+v", c)
	}
	require.True(t, eventstore.Filter{}.IsZero())
	require.False(t, eventstore.Filter{Types: []string{"t"}}.IsZero())
}

func TestValidateBatchFindsAnIDTwiceInAStream(t *testing.T) {
	t.Parallel()
	record := func() eventstore.NewRecord { return eventstore.NewRecord{ID: uuid.New(), Type: "t"} }
	same := record()
	part := func(stream string, records ...eventstore.NewRecord) eventstore.StreamAppend {
		return eventstore.StreamAppend{Stream: stream, Expected: eventstore.Any, Records: records}
	}
	require.NoError(t, eventstore.ValidateBatch([]eventstore.StreamAppend{part("a", same), part("b", same), part("a", record())}))
	err := eventstore.ValidateBatch([]eventstore.StreamAppend{part("a", record()), part("a", same), part("b", record()), part("a", record(), same)})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, same.ID.String())
	require.ErrorContains(t, err, "append 3")
}

func TestValidateAppendBoundsTheWhole(t *testing.T) {
	t.Parallel()
	var records []eventstore.NewRecord
	data := make([]byte, eventstore.MaxRecordBytes)
	for range eventstore.MaxAppendBytes/eventstore.MaxRecordBytes + 1 {
		records = append(records, eventstore.NewRecord{ID: uuid.New(), Type: "t", Data: data})
	}
	require.ErrorIs(t, eventstore.ValidateAppend("a", eventstore.Any, records), eventstore.ErrTooLarge)
	require.NoError(t, eventstore.ValidateAppend("a", eventstore.Any, records[1:]))
	parts := []eventstore.StreamAppend{
		{Stream: "a", Expected: eventstore.Any, Records: records[1:]},
		{Stream: "b", Expected: eventstore.Any, Records: records[:1]},
	}
	require.ErrorIs(t, eventstore.ValidateBatch(parts), eventstore.ErrTooLarge)
}

func TestRevisionsSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	for revision, want := range map[eventstore.Revision]string{
		eventstore.NoStream: "none", eventstore.Any: "any", eventstore.End: "end", 0: "0", 17: "17",
	} {
		require.Equal(t, want, fmt.Sprint(revision))
	}
	err := &eventstore.RevisionConflictError{Stream: "acme.ticket-42", Expected: eventstore.NoStream, Actual: 7}
	require.EqualError(t, err, "stream acme.ticket-42: expected revision none, is at 7")
}
