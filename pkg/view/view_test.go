package view_test

import (
	"bytes"
	"cmp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/parleyhq/parley/pkg/view"
)

func sign(n int) int { return cmp.Compare(n, 0) }

// FuzzOrder checks that encodings order as values do, column by column, and
// that they can be read back.
func FuzzOrder(f *testing.F) {
	f.Add("a", "ab", int64(0), int64(-1), []byte{0}, []byte{0, 0xff})
	f.Add("", "\x00", int64(1<<62), int64(-1<<62), []byte{}, []byte{0, 1})
	f.Fuzz(func(t *testing.T, s1, s2 string, n1, n2 int64, b1, b2 []byte) {
		if max(len(s1), len(s2), len(b1), len(b2)) > view.MaxValueBytes {
			return // they are cut
		}
		s1, s2 = strings.ToValidUTF8(s1, ""), strings.ToValidUTF8(s2, "")
		types := []view.ColumnType{view.ColumnString, view.ColumnInt64, view.ColumnBytes, view.ColumnTime}
		one := view.Tuple{view.String(s1), view.Int64(n1), view.Bytes(b1), view.Time(time.UnixMicro(n1 / 2))}
		two := view.Tuple{view.String(s2), view.Int64(n2), view.Bytes(b2), view.Time(time.UnixMicro(n2 / 2))}
		want := cmp.Or(
			strings.Compare(one[0].AsString(), two[0].AsString()),
			cmp.Compare(n1, n2),
			strings.Compare(one[2].AsString(), two[2].AsString()),
		)
		if want == 0 {
			want = one[3].AsTime().Compare(two[3].AsTime())
		}
		require.Equal(t, want, sign(one.Compare(two)))
		encoded := append(view.AppendTuple(nil, one), "rest"...)
		got, rest, err := view.CutTuple(encoded, types)
		require.NoError(t, err)
		require.Equal(t, "rest", string(rest))
		require.Equal(t, one, got)
		// No encoding is the beginning of another, unless they are the same.
		if one.Compare(two) != 0 {
			require.False(t, bytes.HasPrefix(view.AppendTuple(nil, one), view.AppendTuple(nil, two)))
		}
	})
}

func FuzzCutTuple(f *testing.F) {
	f.Add([]byte("ab\x00\x01"))
	f.Add([]byte{0, 0xff, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		types := []view.ColumnType{view.ColumnBytes, view.ColumnInt64}
		tuple, rest, err := view.CutTuple(b, types)
		if err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
			return
		}
		if len(tuple[0].AsString()) <= view.MaxValueBytes {
			require.Equal(t, string(b), string(append(view.AppendTuple(nil, tuple), rest...)))
		}
	})
}

func FuzzNormalizeText(f *testing.F) {
	for _, s := range []string{"Ada  Lovelace", "Jürgen MÜLLER", "ΣΊΣΥΦΟΣ", "ﬁ", "İ", "\x00 \t", "ᾳ̈", "ǅ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := view.NormalizeText(s)
		require.True(t, utf8.ValidString(once))
		require.Equal(t, once, view.NormalizeText(once), "normalising twice")
		require.Equal(t, strings.Join(strings.Fields(once), " "), once)
		for _, word := range view.SearchWords(s) {
			if len(once) < view.MaxTextBytes {
				require.Contains(t, once, word)
			}
		}
	})
}

func TestSearchWords(t *testing.T) {
	t.Parallel()
	for query, want := range map[string][]string{
		"":               nil,
		"a":              nil,
		" a b ":          {"a", "b"},
		"Ada ada":        {"ada"},
		"ada adalbert a": {"adalbert"},
		"Müller, Jürgen": {"muller,", "jurgen"},
	} {
		require.Equal(t, want, view.SearchWords(query), query)
	}
}

func TestDeclarations(t *testing.T) {
	t.Parallel()
	declared := func(columns ...view.ColumnType) []view.Collection {
		return []view.Collection{{Name: "c", New: func() proto.Message { return &wrapperspb.StringValue{} }, Indexes: []view.Index{
			{Name: "a", Columns: columns, Extract: func(proto.Message) []view.Tuple { return nil }},
		}}}
	}
	text, number := view.ColumnString, view.ColumnInt64
	require.NoError(t, view.ValidateCollections(declared(text, view.ColumnBytes, text, number, number, number, number, view.ColumnTime)))
	for _, columns := range [][]view.ColumnType{nil, {0}, {view.ColumnBytes + 1}, {text, text, text, view.ColumnBytes}, {number, number, number, number, number, number, number, number, number}} {
		require.ErrorIs(t, view.ValidateCollections(declared(columns...)), view.ErrInvalid)
	}
}

func TestValueBounds(t *testing.T) {
	t.Parallel()
	for _, long := range []view.Value{
		view.String("x" + strings.Repeat("ä", view.MaxValueBytes)), view.Bytes(make([]byte, 10*view.MaxValueBytes)),
	} {
		cut, rest, err := view.CutValue(view.AppendValue(nil, long), long.Type())
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Greater(t, len(cut.AsString()), view.MaxValueBytes-utf8.UTFMax)
		require.LessOrEqual(t, len(cut.AsString()), view.MaxValueBytes)
		require.True(t, utf8.ValidString(cut.AsString()))
		require.Equal(t, view.AppendValue(nil, cut), view.AppendValue(nil, long))
	}
	require.Equal(t, "ab", view.String("a\x00b").AsString())
	require.Equal(t, "a\uFFFDb", view.String("a\xff\xfeb").AsString())
	require.Equal(t, view.Time(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)), view.Time(time.Unix(-1<<62, 0)))
	require.Equal(t, view.Time(time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)), view.Time(time.Unix(1<<62, 0)))
	for _, year := range []int{1, 1969, 1970, 9999} {
		at := time.Date(year, 1, 2, 3, 4, 5, 6000, time.UTC)
		require.Equal(t, at, view.Time(at).AsTime())
	}
	require.True(t, view.Value{}.IsZero())
	require.False(t, view.Int64(0).IsZero())
}

// FuzzTerms checks that stored terms are read back, or refused.
func FuzzTerms(f *testing.F) {
	c := view.Collection{Name: "c", New: func() proto.Message { return &wrapperspb.StringValue{} }, Indexes: []view.Index{
		{Name: "a", Columns: []view.ColumnType{view.ColumnString}, Extract: func(doc proto.Message) []view.Tuple {
			s, ok := doc.(*wrapperspb.StringValue)
			if !ok {
				panic("not a string")
			}
			var tuples []view.Tuple
			for word := range strings.FieldsSeq(s.GetValue()) {
				tuples = append(tuples, view.Tuple{view.String(word)})
			}
			return tuples
		}},
		{Name: "b", Kind: view.Text, Extract: func(proto.Message) []view.Tuple { return []view.Tuple{{view.String("Text")}} }},
	}}
	terms, err := c.Terms(wrapperspb.String("two words"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(terms.AppendBinary(nil), "other words")
	f.Add([]byte{3, 0, 1}, "")
	f.Add([]byte{0, 255}, "")
	f.Fuzz(func(t *testing.T, b []byte, other string) {
		stored, rest, err := view.CutTerms(b)
		skipped, skipErr := view.SkipTerms(b)
		if err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
			require.ErrorIs(t, skipErr, view.ErrCorrupt)
			return
		}
		require.NoError(t, skipErr)
		require.Equal(t, string(rest), string(skipped))
		terms, err := c.Terms(wrapperspb.String(strings.ToValidUTF8(other, "")))
		require.NoError(t, err)
		nothing := func(int, []byte) error { return nil }
		// What is stored may be damaged within: an error, and never a panic.
		if err := terms.DiffOrdered(&stored, nothing, nothing); err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
		}
	})
}

func TestDiffOrdered(t *testing.T) {
	t.Parallel()
	c := view.Collection{Name: "c", New: func() proto.Message { return &wrapperspb.StringValue{} }, Indexes: []view.Index{
		{Name: "a", Columns: []view.ColumnType{view.ColumnString}, Extract: func(doc proto.Message) []view.Tuple {
			s, ok := doc.(*wrapperspb.StringValue)
			if !ok {
				panic("not a string")
			}
			var tuples []view.Tuple
			for word := range strings.FieldsSeq(s.GetValue()) {
				tuples = append(tuples, view.Tuple{view.String(word)})
			}
			return tuples
		}},
	}}
	for _, x := range []struct{ before, after, removed, added string }{
		{"", "", "", ""},
		{"", "b a", "", "a b"},
		{"a b", "", "a b", ""},
		{"a b c", "b a c", "", ""},
		{"a b c", "b d", "a c", "d"},
		{"a a", "a b", "", "b"},
		{"z", "a", "z", "a"},
	} {
		before, err := c.Terms(wrapperspb.String(x.before))
		require.NoError(t, err)
		after, err := c.Terms(wrapperspb.String(x.after))
		require.NoError(t, err)
		var removed, added []string
		collect := func(into *[]string) func(int, []byte) error {
			return func(index int, tuple []byte) error {
				require.Zero(t, index)
				s, _, err := view.CutString(tuple)
				*into = append(*into, s)
				return err
			}
		}
		require.NoError(t, after.DiffOrdered(&before, collect(&removed), collect(&added)))
		require.Equal(t, x.removed, strings.Join(removed, " "), x)
		require.Equal(t, x.added, strings.Join(added, " "), x)
	}
}
