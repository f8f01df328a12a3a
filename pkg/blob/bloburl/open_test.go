package bloburl_test

import (
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/bloburl"
)

func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := blob.Name("acme", strings.Repeat("ab", 20))
	for _, location := range []string{"", filepath.Join(dir, "plain"), "file://" + filepath.Join(dir, "with a url")} {
		require.NoError(t, bloburl.Check(location))
		s, err := bloburl.Open(t.Context(), location, bloburl.Options{Dir: filepath.Join(dir, "default")})
		require.NoError(t, err)
		require.NoError(t, s.Put(t.Context(), name, strings.NewReader("x"), 1))
		r, _, err := s.Open(t.Context(), name)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, "x", string(b))
		require.NoError(t, r.Close())
		require.NoError(t, s.Close())
	}
	for _, made := range []string{"default", "plain", "with a url"} {
		_, err := os.Stat(filepath.Join(dir, made, name))
		require.NoError(t, err)
	}
	s, err := bloburl.Open(t.Context(), "", bloburl.Options{})
	require.ErrorIs(t, err, blob.ErrInvalid)
	require.Nil(t, s, "a failed open gives no store, not one that is nil inside")
}

func TestLocations(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"s3://blobs", "s3://blobs/", "s3://blobs/a/b/", "s3://blobs?region=eu-central-1",
		"s3://blobs/a?endpoint=localhost:9000", "s3://blobs?endpoint=http://127.0.0.1:9000/&path-style=true&create=1",
		"s3://blobs?endpoint=https%3A%2F%2Fs3.example.com", "relative/folder", "./s3", "a:b",
	} {
		require.NoError(t, bloburl.Check(good), good)
	}
	for what, bad := range map[string]string{
		"no bucket":           "s3://",
		"bucket in capitals":  "s3://Blobs",
		"bucket with a port":  "s3://blobs:80",
		"credentials":         "s3://key:hunter2@blobs",
		"one slash":           "s3:/blobs",
		"no slash":            "s3:blobs",
		"another scheme":      "gs://blobs",
		"http":                "https://blobs.example.com/x",
		"a misspelt name":     "s3://blobs?endpiont=x",
		"a parameter twice":   "s3://blobs?region=a&region=b",
		"region of a path":    "s3://blobs?region=a/b",
		"no truth":            "s3://blobs?create=maybe",
		"endpoint with path":  "s3://blobs?endpoint=https://host/path",
		"endpoint with query": "s3://blobs?endpoint=" + url.QueryEscape("https://host/?a=b"),
		"endpoint of ftp":     "s3://blobs?endpoint=ftp://host",
		"endpoint's secrets":  "s3://blobs?endpoint=https://key:hunter2@host",
		"endpoint of nothing": "s3://blobs?endpoint=https://",
		"a fragment":          "s3://blobs#x",
		"prefix up":           "s3://blobs/a/../b",
		"prefix of slashes":   "s3://blobs/a//b",
		"bad escape":          "s3://blobs/%zz",
		"bad escape after":    "s3://blobs?region=%zz",
		"relative file":       "file://folder/x",
		"file with query":     "file:///folder?x=1",
		"file without":        "file:folder",
		"control":             "s3://blobs/\n",
		"NUL":                 "folder\x00",
		"huge":                strings.Repeat("a", 5000),
	} {
		err := bloburl.Check(bad)
		require.ErrorIs(t, err, blob.ErrInvalid, what)
		require.NotContains(t, err.Error(), "hunter2", what)
		require.Less(t, len(err.Error()), 400, what)
		_, err = bloburl.Open(t.Context(), bad, bloburl.Options{})
		require.ErrorIs(t, err, blob.ErrInvalid, what)
	}
}

// A bucket that is asked for is looked for.
func TestBucketThatNobodyServes(t *testing.T) {
	t.Parallel()
	_, err := bloburl.Open(t.Context(), "s3://blobs?endpoint=http://127.0.0.1:1", bloburl.Options{AccessKey: "key", SecretKey: "secret of it"})
	require.ErrorIs(t, err, blob.ErrUnavailable)
	require.NotContains(t, err.Error(), "secret of it")
	_, err = bloburl.Open(t.Context(), "s3://blobs?endpoint=http://127.0.0.1:1", bloburl.Options{AccessKey: "key"})
	require.ErrorIs(t, err, blob.ErrInvalid)
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"", "/a", "s3://blobs/p?endpoint=http://h:1&region=r&path-style=true&create=true", "file:///x", "s3://k:s@b", "s3://[::1]/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := bloburl.Check(s); err != nil {
			require.ErrorIs(t, err, blob.ErrInvalid)
			require.Less(t, len(err.Error()), 2000)
		}
	})
}
