// Package blobtest holds every driver of blob to its contract.
//
// A driver's test calls Run with a factory. Nothing is assumed of a store but
// the contract: it may hold other tenants' objects, and others may use it beside
// the test.
package blobtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
)

// Factory opens a store for one test, and closes it with t.Cleanup. Closing it
// before, as some tests do, must be harmless.
type Factory func(t *testing.T) blob.Store

// Run runs the whole suite. Whoever calls it must not be parallel: the memory
// test measures the process, and runs alone before the others.
func Run(t *testing.T, factory Factory) {
	t.Helper()
	t.Run("Memory", func(t *testing.T) { testMemory(newHarness(t, factory)) })
	for _, group := range []struct {
		name  string
		tests map[string]func(*harness)
	}{
		{"Put", putTests},
		{"Failures", failureTests},
		{"Delete", deleteTests},
		{"List", listTests},
		{"Vault", vaultTests},
		{"Close", closeTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(newHarness(t, factory))
				})
			}
		})
	}
}

// harness is one test's view of a store: a tenant that no other test has.
type harness struct {
	*testing.T
	store  blob.Store
	tenant string
}

func newHarness(t *testing.T, factory Factory) *harness {
	t.Helper()
	return &harness{T: t, store: factory(t), tenant: newTenant()}
}

func newTenant() string { return "t" + strings.ReplaceAll(uuid.NewString(), "-", "") }

// name makes a name of some digits, which its id begins with.
func (h *harness) name(digits string) string {
	return blob.Name(h.tenant, digits+strings.Repeat("0", 40-len(digits)))
}

func (h *harness) put(name string, content []byte) {
	h.Helper()
	require.NoError(h, h.store.Put(h.Context(), name, bytes.NewReader(content), int64(len(content))))
}

func (h *harness) read(name string) []byte {
	h.Helper()
	r, size, err := h.store.Open(h.Context(), name)
	require.NoError(h, err)
	content, err := io.ReadAll(r)
	require.NoError(h, err)
	require.NoError(h, r.Close())
	require.EqualValues(h, len(content), size)
	return content
}

func (h *harness) missing(name string) {
	h.Helper()
	_, _, err := h.store.Open(h.Context(), name)
	require.ErrorIs(h, err, blob.ErrNotFound)
}

func (h *harness) list(prefix, after string) []blob.Info {
	h.Helper()
	var found []blob.Info
	for info, err := range h.store.List(h.Context(), prefix, after) {
		require.NoError(h, err)
		found = append(found, info)
	}
	return found
}

func names(infos []blob.Info) []string {
	all := make([]string, len(infos))
	for i, info := range infos {
		all[i] = info.Name
	}
	return all
}

// random gives the same bytes for the same seed.
func random(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	// A ChaCha8 never fails.
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// malformed names and what is wrong with them.
func malformed() map[string]string {
	id := strings.Repeat("ab", 20)
	return map[string]string{
		"empty":              "",
		"root":               "/",
		"tenant only":        "acme",
		"no id":              "acme/ab",
		"no shard":           "acme/" + id,
		"id too short":       "acme/ab/" + id[:38],
		"id too long":        "acme/ab/" + id + "ab",
		"upper case":         "acme/AB/" + strings.ToUpper(id),
		"no hexadecimal":     "acme/xy/" + strings.Repeat("xy", 20),
		"other shard":        "acme/cd/" + id,
		"up":                 "../ab/" + id,
		"up in the middle":   "acme/../ab/" + id,
		"up as shard":        "acme/../" + id,
		"up at the end":      "acme/ab/../../../../../../../../../../etc/pass",
		"absolute":           "/acme/ab/" + id,
		"dot tenant":         "./ab/" + id,
		"hidden tenant":      ".tmp/ab/" + id,
		"backslash":          `acme\..\..\ab/ab/` + id,
		"NUL":                "acme\x00/ab/" + id,
		"line break":         "acme/ab/" + id[:39] + "\n",
		"space":              "ac me/ab/" + id,
		"slash at the end":   "acme/ab/" + id[:39] + "/",
		"double slash":       "acme//ab/" + id,
		"tenant with hyphen": "ac-me/ab/" + id,
		"tenant in capitals": "Acme/ab/" + id,
		"leading underscore": "_acme/ab/" + id,
		"tenant too long":    strings.Repeat("a", 41) + "/ab/" + id,
		"escaped slash":      "acme%2f..%2f/ab/" + id,
		"not UTF-8":          "acme\xff/ab/" + id,
		"very long":          strings.Repeat("a", 1<<20),
		"fine but too deep":  "acme/ab/" + id[:20] + "/" + id[21:],
		"hex of other kind":  "acme/" + hex.EncodeToString([]byte("x")) + "/" + strings.Repeat("٣", 20),
	}
}

// canceller cancels once so many bytes were read, and goes on giving some.
type canceller struct {
	src    io.Reader
	left   int
	cancel context.CancelFunc
}

func (c *canceller) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	if c.left -= n; c.left <= 0 {
		c.cancel()
	}
	return n, err
}
