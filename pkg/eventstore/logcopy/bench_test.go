package logcopy_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
)

func onDisk(b *testing.B) eventstore.Store {
	b.Helper()
	store, err := embedded.Open(b.TempDir(), embedded.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	return store
}

// batchOf is records of several sessions, in turns.
func batchOf(first, count int, next map[string]eventstore.Revision) []eventstore.StreamAppend {
	const sessions = 50
	data := make([]byte, 300)
	all := make([]eventstore.StreamAppend, count)
	for i := range all {
		stream := fmt.Sprintf("acme.web-%d-%d", (first+i)/(8*sessions), (first+i)%sessions)
		revision := next[stream]
		next[stream] = revision + 1
		all[i] = eventstore.StreamAppend{Stream: stream, Expected: revision - 1, Records: []eventstore.NewRecord{{
			ID: uuid.New(), Type: "parley.page.viewed", Data: data,
		}}}
	}
	return all
}

// BenchmarkCopy copies and compares records of 300 bytes, from disk to disk. Its
// yardstick appends the same records in commits of the same size.
func BenchmarkCopy(b *testing.B) {
	const batch = 2048
	fill := func(b *testing.B, store eventstore.Store) {
		next := map[string]eventstore.Revision{}
		for at := 0; at < b.N; at += batch {
			_, err := store.AppendBatch(b.Context(), batchOf(at, min(batch, b.N-at), next))
			require.NoError(b, err)
		}
	}
	b.Run("yardstick", func(b *testing.B) {
		store := onDisk(b)
		b.ResetTimer()
		fill(b, store)
	})
	b.Run("copy", func(b *testing.B) {
		from, to := onDisk(b), onDisk(b)
		fill(b, from)
		b.ResetTimer()
		_, err := logcopy.Copy(b.Context(), from, to, logcopy.Options{})
		require.NoError(b, err)
	})
	b.Run("verify", func(b *testing.B) {
		from, to := onDisk(b), onDisk(b)
		fill(b, from)
		_, err := logcopy.Copy(b.Context(), from, to, logcopy.Options{})
		require.NoError(b, err)
		b.ResetTimer()
		v, err := logcopy.Verify(b.Context(), from, to, nil)
		require.NoError(b, err)
		require.Nil(b, v.Difference)
	})
	b.Run("copy over the wire", func(b *testing.B) {
		from := onDisk(b)
		fill(b, from)
		to := serveOnDisk(b)
		b.ResetTimer()
		_, err := logcopy.Copy(b.Context(), from, to, logcopy.Options{})
		require.NoError(b, err)
	})
}
