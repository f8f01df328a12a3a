package serve_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

func TestDataDirInUse(t *testing.T) {
	t.Parallel()
	s := embeddedSettings(t)
	_, stop := run(t, s)
	err := fails(t, s)
	require.ErrorIs(t, err, eventstore.ErrInUse)
	require.ErrorContains(t, err, "--data-dir "+s.Storage.DataDir+": in use by another parley (process ")
	require.ErrorContains(t, err, "stop that one, or choose another directory")
	require.NoError(t, stop())
	_, stop = run(t, s)
	require.NoError(t, stop())
}

func TestDataDirThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, dir string)
		is      error
		want    string
	}{
		"newer format": {func(t *testing.T, dir string) { t.Helper(); put(t, dir, "FORMAT", "parley-data 2\n") }, eventstore.ErrNewerFormat, "written by a newer version (format 2, this one knows up to 1); run that version"},
		"damaged":      {func(t *testing.T, dir string) { t.Helper(); put(t, dir, "FORMAT", "\x00\x01") }, eventstore.ErrCorrupt, "its file FORMAT is damaged"},
		"zero":         {func(t *testing.T, dir string) { t.Helper(); put(t, dir, "FORMAT", "parley-data 0") }, eventstore.ErrCorrupt, "damaged"},
		"foreign":      {func(t *testing.T, dir string) { t.Helper(); put(t, dir, "holiday.jpg", "x") }, nil, `holds "holiday.jpg" and is no data directory of parley`},
		"a file":       {func(t *testing.T, dir string) { t.Helper(); require.NoError(t, os.WriteFile(dir, nil, 0o600)) }, nil, "cannot be made: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := embeddedSettings(t)
			tc.prepare(t, s.Storage.DataDir)
			err := fails(t, s)
			require.ErrorContains(t, err, "--data-dir "+s.Storage.DataDir+": ")
			require.ErrorContains(t, err, tc.want)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
		})
	}
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

func TestDataDirOnAFreshFileSystem(t *testing.T) {
	t.Parallel()
	s := embeddedSettings(t)
	require.NoError(t, os.MkdirAll(filepath.Join(s.Storage.DataDir, "lost+found"), 0o700))
	_, stop := run(t, s)
	require.NoError(t, stop())
}

// TestSecret: profile ids hang on the secret, so a wrong one is refused.
func TestSecret(t *testing.T) {
	t.Parallel()
	s := embeddedSettings(t)
	_, stop := run(t, s)
	require.NoError(t, stop())
	secret := filepath.Join(s.Storage.DataDir, "secret")
	info, err := os.Stat(secret)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	other := s
	other.Storage.ProfileSecret = "another secret of mine"
	require.ErrorContains(t, fails(t, other), "--profile-secret: what is in --data-dir "+s.Storage.DataDir+" was written with another secret")

	kept, err := os.ReadFile(secret)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(secret, []byte("rubbish"), 0o600))
	require.ErrorContains(t, fails(t, s), "its file secret is damaged")
	require.NoError(t, os.Remove(secret))
	require.ErrorContains(t, fails(t, s), "its file secret is missing; restore it")
	require.NoError(t, os.WriteFile(secret, kept, 0o600))
	_, stop = run(t, s)
	require.NoError(t, stop())
}

func TestConfiguredSecretIsKeptNowhere(t *testing.T) {
	t.Parallel()
	s := embeddedSettings(t)
	s.Storage.ProfileSecret = "a secret of my own"
	_, stop := run(t, s)
	require.NoError(t, stop())
	require.NoFileExists(t, filepath.Join(s.Storage.DataDir, "secret"))
	require.NoError(t, filepath.WalkDir(s.Storage.DataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NotContains(t, string(content), "a secret of my own", path)
		return err
	}))
	unset := s
	unset.Storage.ProfileSecret = ""
	require.ErrorContains(t, fails(t, unset), "give --profile-secret if it was configured before")
}
