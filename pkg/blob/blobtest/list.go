package blobtest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
)

var listTests = map[string]func(*harness){
	"in the order of names, with all pages": func(h *harness) {
		var want []string
		for i := range 60 {
			name := h.name(fmt.Sprintf("%02x%04x", i*53%256, i))
			h.put(name, make([]byte, i))
			want = append(want, name)
		}
		slices.Sort(want)
		found := h.list(h.tenant+"/", "")
		require.Equal(h, want, names(found))
		for _, info := range found {
			require.EqualValues(h, len(h.read(info.Name)), info.Size)
			require.False(h, info.Modified.IsZero())
		}
		// It may go on behind any of them, and behind what is not there.
		for i, name := range want {
			require.Equal(h, want[i+1:], append([]string{}, names(h.list(h.tenant+"/", name))...))
		}
		require.Equal(h, want, names(h.list(h.tenant+"/", blob.Name("0", strings.Repeat("0", 40)))))
		require.Empty(h, h.list(h.tenant+"/", blob.Name("z", strings.Repeat("f", 40))))
	},
	"by prefix": func(h *harness) {
		for _, digits := range []string{"aa", "aab", "ab", "ba"} {
			h.put(h.name(digits), []byte("x"))
		}
		require.Equal(h, []string{h.name("aa"), h.name("aab")}, names(h.list(h.tenant+"/aa/", "")))
		require.Equal(h, []string{h.name("aab")}, names(h.list(h.tenant+"/aa/", h.name("aa"))))
		require.Empty(h, h.list(h.tenant+"/ff/", ""))
		require.Empty(h, h.list(newTenant()+"/", ""))
		for what, prefix := range map[string]string{
			"no slash": h.tenant, "half a shard": h.tenant + "/a/", "a shard and no slash": h.tenant + "/aa",
			"an id": h.tenant + "/aa/" + strings.Repeat("a", 40) + "/", "up": "../", "slash": "/", "upper case": "ACME/", "hidden": ".tmp/",
		} {
			h.refusedListing(prefix, "", what)
		}
	},
	"all tenants": func(h *harness) {
		// One's name begins the other's.
		tenants := []string{h.tenant, h.tenant + "0", h.tenant + "_x", h.tenant + "a"}
		var want []string
		for _, t := range tenants {
			for _, id := range []string{"00", "ff"} {
				name := blob.Name(t, strings.Repeat(id, 20))
				h.put(name, []byte(name))
				want = append(want, name)
			}
		}
		slices.Sort(want)
		var found []string
		for info, err := range h.store.List(h.Context(), "", "") {
			require.NoError(h, err)
			if strings.HasPrefix(info.Name, h.tenant) {
				found = append(found, info.Name)
			}
		}
		require.Equal(h, want, found)
		found = found[:0]
		for info, err := range h.store.List(h.Context(), "", want[2]) {
			require.NoError(h, err)
			if !strings.HasPrefix(info.Name, h.tenant) {
				break
			}
			found = append(found, info.Name)
		}
		require.Equal(h, want[3:], found)
	},
	"one may stop": func(h *harness) {
		for i := range 10 {
			h.put(h.name(fmt.Sprintf("%02x", i)), []byte("x"))
		}
		count := 0
		for _, err := range h.store.List(h.Context(), h.tenant+"/", "") {
			require.NoError(h, err)
			if count++; count == 3 {
				break
			}
		}
		require.Equal(h, 3, count)
	},
	"cancelled under way": func(h *harness) {
		for i := range 10 {
			h.put(h.name(fmt.Sprintf("%02x", i)), []byte("x"))
		}
		ctx, cancel := context.WithCancel(h.Context())
		defer cancel()
		var last error
		for _, err := range h.store.List(ctx, h.tenant+"/", "") {
			cancel()
			last = err
		}
		require.ErrorIs(h, last, context.Canceled)
	},
	"one may delete what one lists": func(h *harness) {
		for i := range 20 {
			h.put(h.name(fmt.Sprintf("%02x%02x", i/10, i)), []byte("x"))
		}
		count := 0
		for info, err := range h.store.List(h.Context(), h.tenant+"/", "") {
			require.NoError(h, err)
			require.NoError(h, h.store.Delete(h.Context(), info.Name))
			count++
		}
		require.Equal(h, 20, count)
		require.Empty(h, h.list(h.tenant+"/", ""))
	},
}
