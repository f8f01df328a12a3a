package token_test

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/token"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

var logID = uuid.MustParse("0190b3a0-7c3e-7000-8000-00000000000a")

// Clients keep tokens over releases.
func TestTokensNeverChange(t *testing.T) {
	t.Parallel()
	require.Equal(t, "EQGQs6B8PnAAgAAAAAAAAAoAAAAAAAASZz0xT-E0GQ", token.NewConsistency(logID, 4711).String())
	require.Equal(t, "EgGQs6B8PnAAgAAAAAAAAAoAAAAAAAASZ0MQAXdcSQ", token.NewResume(logID, 4711).String())
}

func TestTokensComeBack(t *testing.T) {
	t.Parallel()
	for _, position := range []eventstore.Position{0, 1, 4711, math.MaxInt64, math.MaxUint64} {
		want := token.NewConsistency(logID, position)
		require.Len(t, want.String(), 42)
		got, err := token.Parse(token.Consistency, want.String())
		require.NoError(t, err)
		require.Equal(t, want, got)
		_, err = token.Parse(token.Resume, want.String())
		require.ErrorIs(t, err, token.ErrInvalid, "one kind is never taken for another")
	}
}

func TestAnyChangeIsSeen(t *testing.T) {
	t.Parallel()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	good := token.NewResume(logID, 4711).String()
	for i := range len(good) {
		for _, c := range alphabet {
			if byte(c) == good[i] {
				continue
			}
			_, err := token.Parse(token.Resume, good[:i]+string(c)+good[i+1:])
			require.ErrorIs(t, err, token.ErrInvalid)
		}
		_, err := token.Parse(token.Resume, good[:i])
		require.ErrorIs(t, err, token.ErrInvalid)
	}
	for _, s := range []string{good + "A", good + "=", " " + good, good + "\n", strings.Repeat("A", 1<<20), "ä", good + good} {
		_, err := token.Parse(token.Resume, s)
		require.ErrorIs(t, err, token.ErrInvalid)
	}
}

func TestPageTokens(t *testing.T) {
	t.Parallel()
	request := &customerv1.SearchCustomersRequest{Query: "ada", PageSize: 10}
	first, err := token.FingerprintOf("default", request)
	require.NoError(t, err)
	page, err := token.Page("customer.search", first, []byte("cursor\x00\xff"))
	require.NoError(t, err)

	t.Run("page size and token may change", func(t *testing.T) {
		t.Parallel()
		again, err := token.FingerprintOf("default", &customerv1.SearchCustomersRequest{Query: "ada", PageSize: 50, PageToken: page})
		require.NoError(t, err)
		require.Equal(t, first, again)
		cursor, err := token.ParsePage("customer.search", again, page)
		require.NoError(t, err)
		require.Equal(t, "cursor\x00\xff", string(cursor))
	})
	t.Run("nothing else may", func(t *testing.T) {
		t.Parallel()
		other, err := token.FingerprintOf("default", &customerv1.SearchCustomersRequest{Query: "bob", PageSize: 10})
		require.NoError(t, err)
		_, err = token.ParsePage("customer.search", other, page)
		require.ErrorIs(t, err, token.ErrMismatch)
		tenant, err := token.FingerprintOf("acme", request)
		require.NoError(t, err)
		_, err = token.ParsePage("customer.search", tenant, page)
		require.ErrorIs(t, err, token.ErrMismatch)
	})
	t.Run("another list's", func(t *testing.T) {
		t.Parallel()
		_, err := token.ParsePage("customer.timeline", first, page)
		require.ErrorIs(t, err, token.ErrInvalid)
		_, err = token.ParsePage("customer.search", first, token.NewResume(logID, 1).String())
		require.ErrorIs(t, err, token.ErrInvalid)
	})
	t.Run("sizes", func(t *testing.T) {
		t.Parallel()
		largest, err := token.Page("p", first, make([]byte, token.MaxCursor))
		require.NoError(t, err)
		require.LessOrEqual(t, len(largest), token.MaxLength)
		cursor, err := token.ParsePage("p", first, largest)
		require.NoError(t, err)
		require.Len(t, cursor, token.MaxCursor)
		_, err = token.Page("p", first, make([]byte, token.MaxCursor+1))
		require.Error(t, err)
		empty, err := token.Page("p", first, nil)
		require.NoError(t, err)
		cursor, err = token.ParsePage("p", first, empty)
		require.NoError(t, err)
		require.Empty(t, cursor)
	})
	t.Run("the request is left alone", func(t *testing.T) {
		t.Parallel()
		r := &customerv1.SearchCustomersRequest{PageToken: "x"}
		_, err := token.FingerprintOf("default", r)
		require.NoError(t, err)
		require.Equal(t, "x", r.GetPageToken())
		_, err = token.FingerprintOf("default", r, "no_such_field")
		require.ErrorContains(t, err, "no_such_field")
	})
}

// Whatever parses is what was given out: it has one spelling.
func FuzzParse(f *testing.F) {
	f.Add(uint8(1), token.NewConsistency(logID, 1).String())
	f.Add(uint8(2), token.NewResume(logID, 1<<40).String())
	f.Add(uint8(2), base64.RawURLEncoding.EncodeToString([]byte("\x12short")))
	f.Add(uint8(0), "")
	f.Fuzz(func(t *testing.T, kind uint8, s string) {
		got, err := token.Parse(token.Kind(kind), s)
		if err != nil {
			require.ErrorIs(t, err, token.ErrInvalid)
			return
		}
		require.Equal(t, s, got.String())
	})
}

func FuzzParsePage(f *testing.F) {
	var fingerprint token.Fingerprint
	page, err := token.Page("p", fingerprint, []byte("c"))
	require.NoError(f, err)
	f.Add(page)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		cursor, err := token.ParsePage("p", fingerprint, s)
		if err != nil {
			return
		}
		again, err := token.Page("p", fingerprint, cursor)
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

func BenchmarkToken(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.Parse(token.Resume, token.NewResume(logID, 4711).String()); err != nil {
			b.Fatal(err)
		}
	}
}
