package blobtest

import (
	"bytes"
	"io"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
)

// vaultTests use the driver as everybody does.
var vaultTests = map[string]func(*harness){
	"what goes in comes out": func(h *harness) {
		v, err := blob.NewVault(h.store, []byte("a secret of enough bytes"), blob.Options{})
		require.NoError(h, err)
		for i, size := range sizes {
			content := random(uint64(i), size)
			ref, err := v.Put(h.Context(), h.tenant, bytes.NewReader(content))
			require.NoError(h, err)
			again, err := v.Put(h.Context(), h.tenant, bytes.NewReader(content))
			require.NoError(h, err)
			require.Equal(h, ref, again)
			r, err := v.Open(h.Context(), h.tenant, ref)
			require.NoError(h, err)
			got, err := io.ReadAll(r)
			require.NoError(h, err)
			require.NoError(h, r.Close())
			require.True(h, bytes.Equal(content, got))
			require.EqualValues(h, size, r.Size())
		}
		require.Len(h, h.list(h.tenant+"/", ""), len(sizes))
	},
	"a damaged object": func(h *harness) {
		v, err := blob.NewVault(h.store, []byte("a secret of enough bytes"), blob.Options{})
		require.NoError(h, err)
		ref, err := v.Put(h.Context(), h.tenant, bytes.NewReader(random(1, 200_000)))
		require.NoError(h, err)
		name := blob.Name(h.tenant, ref.ID())
		object := h.read(name)
		for _, damaged := range [][]byte{object[:len(object)-1], object[:70_000], nil, append([]byte{1}, object...)} {
			h.put(name, damaged)
			r, err := v.Open(h.Context(), h.tenant, ref)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				require.NoError(h, r.Close())
			}
			require.ErrorIs(h, err, blob.ErrCorrupt)
		}
	},
}
