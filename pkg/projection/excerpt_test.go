package projection

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/parleyhq/parley/pkg/testkit/testseed"
)

// TestExcerpts writes random documents beside others with which they share
// some fields: each is read back, and no more is written than differs.
func TestExcerpts(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	var e excerpter
	for range 3000 {
		fields := make([][]byte, 1+rnd.IntN(40))
		for i := range fields {
			fields[i] = randomField(rnd)
		}
		draw := func() (doc []byte) {
			for range rnd.IntN(60) {
				doc = append(doc, fields[rnd.IntN(len(fields))]...)
			}
			return doc
		}
		base := draw()
		e.begin(base)
		for range 3 {
			doc := draw()
			own := 0 // bytes of fields that the base lacks, or that are too small
			for b := doc; len(b) > 0; b = b[fieldSize(b):] {
				if n := fieldSize(b); n < leastShared || !hasField(base, b[:n]) {
					own += n
				}
			}
			if rnd.IntN(4) == 0 {
				cut := rnd.IntN(20)
				doc = append(doc, bytes.Repeat([]byte{0xff}, cut)...) // no field
				own += cut
			}
			b := e.append([]byte("x"), doc)
			const reference = 6 // bytes of one, with the head of what follows
			require.LessOrEqual(t, len(b), 1+own+reference*(1+len(doc)/leastShared))
			whole, ok := appendWhole([]byte("y"), b[1:], base)
			require.True(t, ok)
			require.Equal(t, "y"+string(doc), string(whole))
		}
	}
}

func hasField(doc, field []byte) bool {
	for ; len(doc) > 0; doc = doc[fieldSize(doc):] {
		if bytes.Equal(doc[:fieldSize(doc)], field) {
			return true
		}
	}
	return false
}

func randomField(rnd *rand.Rand) []byte {
	number := protowire.Number(1 + rnd.IntN(200))
	if rnd.IntN(3) == 0 {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), rnd.Uint64()>>rnd.IntN(64))
	}
	text := make([]byte, rnd.IntN(100))
	for i := range text {
		text[i] = byte(rnd.IntN(2))
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), text)
}

// TestExcerptOfTheSame costs next to nothing: neighbours that stand together in
// both documents are one reference.
func TestExcerptOfTheSame(t *testing.T) {
	t.Parallel()
	doc := bytes.Repeat(protowire.AppendBytes([]byte{10}, make([]byte, 50)), 1)
	for i := range 40 {
		doc = protowire.AppendBytes(append(doc, 18), bytes.Repeat([]byte{byte(i)}, 60))
	}
	var e excerpter
	e.begin(doc)
	require.LessOrEqual(t, len(e.append(nil, doc)), 4)
}

func FuzzExcerpt(f *testing.F) {
	f.Add([]byte("\x0a\x14twenty bytes of text"), []byte("\x0a\x14twenty bytes of text\x12\x00"), []byte{41, 0, 4, 'a', 'b'})
	f.Fuzz(func(t *testing.T, base, doc, excerpt []byte) {
		var e excerpter
		e.begin(base)
		whole, ok := appendWhole(nil, e.append(nil, doc), base)
		require.True(t, ok)
		require.Equal(t, string(doc), string(whole))
		_, _ = appendWhole(nil, excerpt, base) // whatever it is, it ends
	})
}
