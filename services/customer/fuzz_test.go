package customer

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func FuzzTraitText(f *testing.F) {
	for _, s := range []string{`"Ada"`, `"A\"da"`, `{"name":"Acme"}`, `42`, `null`, `"`, `""`, `[[[`, `{"name":{}}`, `"\ud800"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		text := traitText(value)
		if utf8.ValidString(value) {
			require.True(t, utf8.ValidString(text), "%q", text)
		}
	})
}

// FuzzReadMask checks that a mask keeps a part of the whole, and the same part
// when it is applied again.
func FuzzReadMask(f *testing.F) {
	g := &generator{r: newRand(2)}
	whole := &customerv1.Customer{}
	for range 50 {
		if err := fold(whole, g.event()); err != nil {
			f.Fatal(err)
		}
	}
	for _, path := range []string{"orders.last_order.total.units", "traits", "*", "", ".", "orders..count", "first_seen_time.seconds", "working", "spoiled"} {
		f.Add(path, "customer_id")
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		keep, err := parseMask(&fieldmaskpb.FieldMask{Paths: []string{one, other}})
		if err != nil {
			return
		}
		doc := proto.CloneOf(whole)
		keep.prune(doc.ProtoReflect())
		require.LessOrEqual(t, proto.Size(doc), proto.Size(whole))
		require.NotContains(t, keep, workingField)
		require.NotContains(t, keep, spoiledField)
		again := proto.CloneOf(doc)
		keep.prune(again.ProtoReflect())
		require.True(t, proto.Equal(doc, again))
	})
}

func FuzzPlace(f *testing.F) {
	f.Add((&place{time: instant{seconds: 1, nanos: 2}, sequence: 3, eventID: "4"}).append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlace(b)
		if err == nil {
			require.Equal(t, b, p.append(nil))
		}
	})
}

// FuzzVisible checks that what is served of stored bytes is a prefix of them, and
// has nothing that is stored alone.
func FuzzVisible(f *testing.F) {
	g := &generator{r: newRand(3)}
	doc := &customerv1.Customer{}
	for range 30 {
		if err := fold(doc, g.event()); err != nil {
			f.Fatal(err)
		}
	}
	if err := finish(doc, "p1", profiles); err != nil {
		f.Fatal(err)
	}
	f.Add(mustMarshal(f, doc))
	f.Add([]byte{0xa2, 0x06, 0x00})
	f.Add([]byte{0xaa, 0x06, 0x01, 'x'})
	f.Fuzz(func(t *testing.T, stored []byte) {
		part, err := visible(stored)
		if err != nil {
			return
		}
		require.True(t, bytes.HasPrefix(stored, part))
		served := &customerv1.Customer{}
		if proto.Unmarshal(part, served) == nil {
			require.Nil(t, served.GetWorking())
			require.Empty(t, served.GetSpoiled())
		}
	})
}

func FuzzSearchQuery(f *testing.F) {
	for _, s := range []string{"0170 1234567", "+49 (0) 170", "ada", "0000", "--", "4711-22"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := searchQuery(query)
		require.LessOrEqual(t, len(got), len(query))
		require.Equal(t, got, searchQuery(got))
	})
}
