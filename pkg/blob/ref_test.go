package blob_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
)

var (
	refID   = strings.Repeat("0123456789abcdef", 3)[:40]
	refKey  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	refText = "blob1." + refID + "." + refKey
)

func TestRefText(t *testing.T) {
	t.Parallel()
	r, err := blob.ParseRef(refText)
	require.NoError(t, err)
	require.Equal(t, refText, r.Text())
	require.Len(t, refText, blob.MaxRefText)
	require.Less(t, blob.MaxRefText, 200)
	require.Equal(t, refID, r.ID())
	require.False(t, r.IsZero())
	again, err := blob.ParseRef(refText)
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.Contains(t, map[blob.Ref]bool{r: true}, again, "they are ==")
	require.True(t, blob.Ref{}.IsZero())
	require.Empty(t, blob.Ref{}.Text())
	require.Equal(t, "no blob", blob.Ref{}.String())
}

func TestRefsThatAreNone(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"empty":          "",
		"another":        strings.Replace(refText, "blob1", "blob2", 1),
		"no version":     strings.Repeat("a", len(refText)),
		"upper case id":  strings.Replace(refText, "abcdef", "ABCDEF", 1),
		"no hexadecimal": strings.Replace(refText, "abcdef", "ghijkl", 1),
		"path in id":     strings.Replace(refText, "012345", "../../", 1),
		"key too short":  refText[:len(refText)-1],
		"key too long":   refText + "A",
		"padded":         refText[:len(refText)-1] + "=",
		"other alphabet": refText[:len(refText)-1] + "+",
		"spare bits":     refText[:len(refText)-1] + "9",
		"line break":     refText[:len(refText)-1] + "\n",
		"break inside":   refText[:60] + "\n" + refText[61:],
		"shifted dot":    "blob1." + refID[:39] + "." + refID[39:] + refKey,
		"space":          " " + refText[:len(refText)-1],
		"huge":           strings.Repeat(refText, 100_000),
	} {
		_, err := blob.ParseRef(text)
		require.ErrorIs(t, err, blob.ErrInvalid, what)
		require.NotContains(t, err.Error(), refKey[:20], what)
		require.Less(t, len(err.Error()), 200, what)
	}
}

func TestRefsNeverShowTheirKey(t *testing.T) {
	t.Parallel()
	r, err := blob.ParseRef(refText)
	require.NoError(t, err)
	type mail struct {
		Raw    blob.Ref
		hidden blob.Ref
		deep   *struct{ refs []blob.Ref }
	}
	m := mail{Raw: r, hidden: r, deep: &struct{ refs []blob.Ref }{[]blob.Ref{r}}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{r, &r, m, &m, m.hidden, *m.deep, []blob.Ref{r}, map[blob.Ref]blob.Ref{r: r}} {
			fmt.Fprintf(&out, verb, v)
		}
	}
	require.Contains(t, out.String(), refID)
	b, err := json.Marshal(m)
	require.NoError(t, err)
	out.Write(b)
	for _, l := range []*slog.Logger{slog.New(slog.NewJSONHandler(&out, nil)), slog.New(slog.NewTextHandler(&out, nil))} {
		l.Info("x", "ref", r, "mail", m, "pointer", &r, "list", []blob.Ref{r})
	}
	raw := make([]byte, 32)
	var numbers []string
	for i := range raw {
		raw[i] = byte(i)
		numbers = append(numbers, fmt.Sprint(i))
	}
	for _, key := range []string{
		refKey, refKey[:20], hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), string(raw),
		hex.EncodeToString([]byte(refKey)), strings.Join(numbers[:10], " "), "0x0, 0x1, 0x2, 0x3", strings.Join(numbers[:10], ","),
	} {
		require.NotContains(t, strings.ToLower(out.String()), strings.ToLower(key))
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tenant := range []string{"a", "0", "acme", "a_b_", strings.Repeat("z", 40)} {
		name := blob.Name(tenant, refID)
		require.NoError(t, blob.CheckName(name))
		require.LessOrEqual(t, len(name), blob.MaxName)
		require.NoError(t, blob.CheckListing(tenant+"/", name))
		require.NoError(t, blob.CheckListing(tenant+"/01/", ""))
	}
	require.NoError(t, blob.CheckListing("", ""))
	for _, name := range []string{blob.Name("", refID), blob.Name("acme", ""), blob.Name("acme", "0"), blob.Name("a/b", refID), blob.Name("acme", refID+"/")} {
		require.ErrorIs(t, blob.CheckName(name), blob.ErrInvalid, name)
	}
}

// A reference that parses has one spelling.
func FuzzParseRef(f *testing.F) {
	f.Add(refText)
	f.Add("blob1..")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := blob.ParseRef(s)
		if err != nil {
			require.ErrorIs(t, err, blob.ErrInvalid)
			return
		}
		require.Equal(t, s, r.Text())
		require.NoError(t, blob.CheckName(blob.Name("acme", r.ID())))
	})
}

// A name that passes leads nowhere else.
func FuzzCheckName(f *testing.F) {
	f.Add(blob.Name("acme", refID), "acme/")
	f.Add("../../etc/passwd", "..")
	f.Fuzz(func(t *testing.T, name, prefix string) {
		if blob.CheckName(name) == nil {
			parts := strings.Split(name, "/")
			require.Len(t, parts, 3)
			require.Equal(t, name, blob.Name(parts[0], parts[2]))
			require.NotContains(t, name, ".")
		}
		if blob.CheckListing(prefix, "") == nil {
			require.NotContains(t, prefix, ".")
			require.False(t, strings.HasPrefix(prefix, "/"))
		}
	})
}
