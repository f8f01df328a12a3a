package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// provide finds the folder with PostgreSQL's programs, after installing them
// where that is needed, wanted and possible.
func provide(ctx context.Context, m machine, install bool) (string, error) {
	dir, err := m.find(ctx)
	if err == nil {
		return dir, nil
	}
	if install && m.root && m.aptGet != "" {
		if dir, err = m.install(ctx); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w\nInstall PostgreSQL %d or newer (Debian: apt-get install postgresql; macOS: brew install postgresql), or let %s name a running server as postgres://user:password@host:port/database, with a role that may create databases; a test that stops and starts its server needs the former", err, MinVersion, URLVariable)
}

// machine is where programs are looked for and installed.
type machine struct {
	path    string   // of folders, as in the environment
	folders []string // patterns of where packages put them
	root    bool     // may install
	aptGet  string   // empty where there is none
	// run runs a program with more environment and returns what it wrote.
	run func(ctx context.Context, env []string, name string, args ...string) (string, error)

	aptFolder     string // locked while installing
	clusterConfig string // what Debian's package reads before it creates a cluster
}

func thisMachine() machine {
	// No path says that there is none.
	aptGet, _ := exec.LookPath("apt-get")
	return machine{
		path: os.Getenv("PATH"),
		folders: []string{
			"/usr/lib/postgresql/*/bin",                      // Debian
			"/usr/pgsql-*/bin",                               // Red Hat, PostgreSQL's own packages
			"/usr/lib/postgresql*/bin",                       // SUSE
			"/usr/libexec/postgresql*",                       // Alpine
			"/usr/local/pgsql/bin",                           // from source
			"/opt/homebrew/opt/postgresql*/bin",              // Homebrew, Apple's processors
			"/usr/local/opt/postgresql*/bin",                 // Homebrew, Intel's
			"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin", // Homebrew, Linux
			"/opt/local/lib/postgresql*/bin",                 // MacPorts
			"/Applications/Postgres.app/Contents/Versions/*/bin",
			"/Library/PostgreSQL/*/bin", // EDB's installer
		},
		root:          os.Geteuid() == 0,
		aptGet:        aptGet,
		run:           run,
		aptFolder:     "/etc/apt",
		clusterConfig: "/etc/postgresql-common/createcluster.conf",
	}
}

// run ends an overdue program by asking first: an apt-get that is killed leaves
// packages half installed.
func run(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// find looks for a folder with PostgreSQL's programs: in the path, else the
// newest of where packages put them.
func (m machine) find(ctx context.Context) (string, error) {
	var tooOld []string
	usable := func(dir string) (major int, ok bool) {
		major, err := m.version(ctx, dir)
		if err != nil {
			return 0, false
		}
		if major < MinVersion {
			tooOld = append(tooOld, fmt.Sprintf("%s has PostgreSQL %d", dir, major))
			return 0, false
		}
		return major, true
	}
	for _, dir := range filepath.SplitList(m.path) {
		// A link in the path: the programs look for each other beside themselves.
		initdb, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		if err != nil {
			continue
		}
		if dir := filepath.Dir(initdb); filepath.IsAbs(dir) {
			if _, ok := usable(dir); ok {
				return dir, nil
			}
		}
	}
	newest, found := 0, ""
	for _, pattern := range m.folders {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for PostgreSQL in %s: %w", pattern, err)
		}
		for _, dir := range dirs {
			if major, ok := usable(dir); ok && major > newest {
				newest, found = major, dir
			}
		}
	}
	if found == "" {
		err := fmt.Errorf("its programs (initdb, pg_ctl, postgres) are neither in PATH nor in %s", strings.Join(m.folders, ", "))
		if len(tooOld) > 0 {
			slices.Sort(tooOld)
			err = fmt.Errorf("%w (%s)", err, strings.Join(slices.Compact(tooOld), ", "))
		}
		return "", err
	}
	return found, nil
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// version is the major version of the PostgreSQL in a folder that has all the
// programs we need.
func (m machine) version(ctx context.Context, dir string) (int, error) {
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return 0, err
		}
		if info.IsDir() || info.Mode().Perm()&0o111 == 0 {
			return 0, fmt.Errorf("%s is no program", filepath.Join(dir, name))
		}
	}
	out, err := m.run(ctx, nil, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return 0, err
	}
	match := versionPattern.FindStringSubmatch(out)
	if match == nil {
		return 0, errors.New("no version in " + strconv.Quote(out))
	}
	return strconv.Atoi(match[1])
}
