package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeMachine has programs that only say their version, and an apt-get that
// does what a test says.
type fakeMachine struct {
	machine
	t    *testing.T
	root string
	// said is what apt-get was called with, a line a call; what it answers
	// stands in answers by the same line, nil being success.
	said    []string
	answers map[string][]error
	done    func(call string) // of a call that succeeded
}

func newFakeMachine(t *testing.T) *fakeMachine {
	t.Helper()
	root := t.TempDir()
	f := &fakeMachine{t: t, root: root, answers: map[string][]error{}, done: func(string) {}}
	f.machine = machine{
		path:    "/nowhere:relative",
		folders: []string{filepath.Join(root, "lib/*/bin"), filepath.Join(root, "pgsql-*/bin")},
		aptGet:  "apt-get", aptFolder: root,
		clusterConfig: filepath.Join(root, "createcluster.conf"),
	}
	f.run = func(ctx context.Context, env []string, name string, args ...string) (string, error) {
		if name != "apt-get" {
			// Not the file itself: what another test forks might have it open still.
			return run(ctx, env, "/bin/sh", append([]string{name}, args...)...)
		}
		require.Contains(t, env, "DEBIAN_FRONTEND=noninteractive")
		call := args[len(args)-1]
		f.said = append(f.said, call)
		if answers := f.answers[call]; len(answers) > 0 {
			f.answers[call] = answers[1:]
			if answers[0] != nil {
				return "apt's own words", answers[0]
			}
		}
		f.done(call)
		return "", nil
	}
	return f
}

// add puts programs into a folder below the root and returns it.
func (f *fakeMachine) add(version, folder string) string {
	f.t.Helper()
	dir := filepath.Join(f.root, folder)
	require.NoError(f.t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		require.NoError(f.t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func TestFind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given func(f *fakeMachine) (want string)
		fails string
	}{
		"the newest of where packages put them, as numbers": {given: func(f *fakeMachine) string {
			f.add("15.18 (Debian 15.18-0+deb12u1)", "lib/15/bin")
			f.add("14.1", "lib/9/bin")
			return f.add("100beta1", "pgsql-100/bin")
		}},
		"the path before what is newer": {given: func(f *fakeMachine) string {
			f.add("18.0", "lib/18/bin")
			dir := f.add("13.4", "mine")
			f.path = "/nowhere:" + dir
			return dir
		}},
		"behind a link in the path": {given: func(f *fakeMachine) string {
			dir := f.add("16.0", "elsewhere")
			links := filepath.Join(f.root, "links")
			require.NoError(t, os.Mkdir(links, 0o755))
			require.NoError(t, os.Symlink(filepath.Join(dir, "initdb"), filepath.Join(links, "initdb")))
			f.path = links
			resolved, err := filepath.EvalSymlinks(dir)
			require.NoError(t, err)
			return resolved
		}},
		"too old in the path": {given: func(f *fakeMachine) string {
			f.path = f.add("12.22", "mine")
			return f.add("15.1", "lib/15/bin")
		}},
		"clients only": {given: func(f *fakeMachine) string {
			dir := f.add("17.0", "lib/17/bin")
			require.NoError(t, os.Remove(filepath.Join(dir, "postgres")))
			return f.add("15.1", "lib/15/bin")
		}},
		"not to be run": {given: func(f *fakeMachine) string {
			dir := f.add("17.0", "lib/17/bin")
			require.NoError(t, os.Chmod(filepath.Join(dir, "pg_ctl"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(f.add("18", "lib/18/bin"), "postgres"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(f.add("19", "lib/19/bin"), "postgres"), []byte("#!/bin/sh\necho 19\n"), 0o755))
			return f.add("15.1", "lib/15/bin")
		}},
		"nothing":      {fails: "neither in PATH nor in"},
		"only too old": {given: func(f *fakeMachine) string { f.add("12.22", "lib/12/bin"); return "" }, fails: "lib/12/bin has PostgreSQL 12)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeMachine(t)
			var want string
			if c.given != nil {
				want = c.given(f)
			}
			got, err := provide(t.Context(), f.machine, false)
			require.Equal(t, want, got)
			require.Empty(t, f.said)
			if c.fails == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.fails)
			require.ErrorContains(t, err, fmt.Sprintf("Install PostgreSQL %d or newer (Debian: apt-get install postgresql; macOS: brew install postgresql), or let %s name", MinVersion, URLVariable))
		})
	}
}

func TestInstall(t *testing.T) {
	t.Parallel()
	errApt := errors.New("exit status 100")
	const before = "# as it was\nssl = on\n"
	for name, c := range map[string]struct {
		given func(f *fakeMachine)
		said  string
		fails string
	}{
		"at once": {said: "postgresql-common postgresql"},
		"after an update": {
			given: func(f *fakeMachine) { f.answers["postgresql-common"] = []error{errApt} },
			said:  "postgresql-common update postgresql-common postgresql",
		},
		"after an update in between": {
			given: func(f *fakeMachine) { f.answers["postgresql"] = []error{errApt} },
			said:  "postgresql-common postgresql update postgresql",
		},
		"no lists": {
			given: func(f *fakeMachine) {
				f.answers["postgresql-common"] = []error{errApt}
				f.answers["update"] = []error{errApt}
			},
			said:  "postgresql-common update",
			fails: "apt-get update, to install postgresql-common: exit status 100\napt's own words",
		},
		"no package": {
			given: func(f *fakeMachine) { f.answers["postgresql"] = []error{errApt, errApt} },
			said:  "postgresql-common postgresql update postgresql",
			fails: "apt-get install postgresql: exit status 100\napt's own words",
		},
		"a package that is too old": {
			given: func(f *fakeMachine) { f.done = func(string) { f.add("11.22", "lib/11/bin") } },
			said:  "postgresql-common postgresql",
			fails: "lib/11/bin has PostgreSQL 11",
		},
		"nothing to say about clusters": {
			given: func(f *fakeMachine) { require.NoError(t, os.Remove(f.clusterConfig)) },
			said:  "postgresql-common",
			fails: "keep Debian's package from creating a cluster",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeMachine(t)
			f.machine.root = true
			require.NoError(t, os.WriteFile(f.clusterConfig, []byte(before), 0o640))
			dir := filepath.Join(f.root, "lib/15/bin")
			f.done = func(call string) {
				config, err := os.ReadFile(f.clusterConfig)
				switch call {
				case "postgresql":
					require.NoError(t, err)
					require.True(t, strings.HasPrefix(string(config), before), "all that was there")
					require.True(t, strings.HasSuffix(string(config), "\ncreate_main_cluster = false\n"), "the last line counts")
					f.add("15.18", "lib/15/bin")
				case "postgresql-common":
					require.NotContains(t, string(config), "create_main_cluster")
				}
			}
			if c.given != nil {
				c.given(f)
			}
			got, err := provide(t.Context(), f.machine, true)
			require.Equal(t, c.said, strings.Join(f.said, " "))
			if c.fails == "" {
				require.NoError(t, err)
				require.Equal(t, dir, got)
			} else {
				require.ErrorContains(t, err, c.fails)
				require.ErrorContains(t, err, "Install PostgreSQL")
			}
			if config, err := os.ReadFile(f.clusterConfig); !errors.Is(err, os.ErrNotExist) {
				require.NoError(t, err)
				require.Equal(t, before, string(config), "restored")
				info, err := os.Stat(f.clusterConfig)
				require.NoError(t, err)
				require.Equal(t, os.FileMode(0o640), info.Mode())
			}
		})
	}
}

func TestInstallOnlyWhereWeMay(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(f *fakeMachine) (wanted bool){
		"not root":   func(*fakeMachine) bool { return true },
		"no apt-get": func(f *fakeMachine) bool { f.machine.root, f.aptGet = true, ""; return true },
		"not wanted": func(f *fakeMachine) bool { f.machine.root = true; return false },
		"there already": func(f *fakeMachine) bool {
			f.machine.root = true
			f.add("15.1", "lib/15/bin")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeMachine(t)
			wanted := given(f)
			_, err := provide(t.Context(), f.machine, wanted)
			require.Equal(t, name == "there already", err == nil, err)
			require.Empty(t, f.said)
		})
	}
}

// Test binaries run at once: the second waits for the first and finds what that
// has installed.
func TestInstallOnce(t *testing.T) {
	t.Parallel()
	f := newFakeMachine(t)
	f.machine.root = true
	first, err := lockFolder(t.Context(), f.aptFolder)
	require.NoError(t, err)
	type result struct {
		dir string
		err error
	}
	second := make(chan result, 1)
	go func() {
		dir, err := provide(context.WithoutCancel(t.Context()), f.machine, true)
		second <- result{dir, err}
	}()
	patience, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = lockFolder(patience, f.aptFolder)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, second)
	dir := f.add("15.1", "lib/15/bin")
	require.NoError(t, first.Close())
	got := <-second
	require.NoError(t, got.err)
	require.Equal(t, dir, got.dir)
	require.Empty(t, f.said)
}
