package postgres

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAbandoned(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	at := func(age time.Duration) string { return strconv.FormatInt(now.Add(-age).Unix(), 36) }
	for name, want := range map[string]bool{
		namePrefix + at(25*time.Hour) + "_abcdefgh_1": true,
		namePrefix + at(23*time.Hour) + "_abcdefgh_1": false,
		namePrefix + at(-time.Hour) + "_abcdefgh_1":   false,
		namePrefix + at(25*time.Hour):                 false,
		namePrefix + "my_own":                         true,
		namePrefix + "-!_1":                           false,
		namePrefix:                                    false,
	} {
		require.Equal(t, want, abandoned(name, now), name)
	}
}

func TestServerAccount(t *testing.T) {
	t.Parallel()
	a, err := serverAccount()
	require.NoError(t, err)
	require.NotZero(t, a.uid, "PostgreSQL refuses to run as root")
	require.Equal(t, os.Geteuid() == 0, a.other)
	require.Equal(t, a.other, a.credential() != nil)
	dir, err := a.temporaryFolder()
	require.NoError(t, err)
	require.DirExists(t, dir)
}

func TestReachable(t *testing.T) {
	t.Parallel()
	require.True(t, reachable("/"))
	require.True(t, reachable("/tmp"))
	require.False(t, reachable("/tmp/no-such-folder"))
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o755))
	require.False(t, reachable(file))
	closed := filepath.Join(dir, "closed")
	below := filepath.Join(closed, "below")
	require.NoError(t, os.MkdirAll(below, 0o755))
	require.NoError(t, os.Chmod(closed, 0o700))
	require.False(t, reachable(below))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(below, link))
	require.False(t, reachable(link))
}

// With TMPDIR where only root can go, clusters go elsewhere.
func TestTemporaryFolderOfAnother(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	t.Setenv("TMPDIR", closed)
	dir, err := account{uid: 1, other: true}.temporaryFolder()
	require.NoError(t, err)
	require.Contains(t, []string{"/tmp", "/var/tmp"}, dir)
	dir, err = account{uid: 1}.temporaryFolder()
	require.NoError(t, err)
	require.Equal(t, closed, dir)
}

func TestSweepLeavesWhatItMust(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	us := account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	old := time.Now().Add(-time.Hour)
	folder := func(name string) string {
		dir := filepath.Join(parent, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
		require.NoError(t, os.Chtimes(dir, old, old))
		return dir
	}
	stale := folder(folderPrefix + "stale")
	crashed := folder(folderPrefix + "crashed")
	// A server's number that is another process's by now: ours.
	require.NoError(t, os.WriteFile(filepath.Join(crashed, "data", "postmaster.pid"), []byte(strconv.Itoa(os.Getpid())+"\n/data\n"), 0o600))
	require.NoError(t, os.Chtimes(crashed, old, old))
	kept := map[string]string{
		"another program's": folder("other-" + folderPrefix + "1"),
		"owned":             folder(folderPrefix + "owned"),
		"young":             folder(folderPrefix + "young"),
	}
	now := time.Now()
	require.NoError(t, os.Chtimes(kept["young"], now, now))
	owner, err := lockFolder(t.Context(), kept["owned"])
	require.NoError(t, err)
	defer func() { require.NoError(t, owner.Close()) }()
	if os.Geteuid() == 0 {
		kept["another user's"] = folder(folderPrefix + "foreign")
		require.NoError(t, os.Chown(kept["another user's"], 12345, 12345))
	}
	target := folder("target")
	kept["behind a link"] = target
	require.NoError(t, os.Symlink(target, filepath.Join(parent, folderPrefix+"link")))

	sweep(parent, us)
	require.NoDirExists(t, stale)
	if runtime.GOOS == "linux" {
		require.NoDirExists(t, crashed)
	} else {
		require.DirExists(t, crashed, "the process might be its server")
	}
	for what, dir := range kept {
		require.DirExists(t, filepath.Join(dir, "data"), what)
	}
}

func TestReservedPort(t *testing.T) {
	t.Parallel()
	p, err := reservePort()
	require.NoError(t, err)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number))
	require.Equal(t, "postgres://someone@"+address+"/db?sslmode=disable", p.url("someone", "db"))
	_, err = net.Dial("tcp", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	// A server that sets SO_REUSEADDR, as Go's does too, takes it again and again.
	for range 3 {
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	if runtime.GOOS == "linux" {
		require.ErrorIs(t, bind(t, p.number), syscall.EADDRINUSE, "it is kept")
	}
	require.NoError(t, p.close())
	require.NoError(t, p.close(), "twice is once")
}

// bind takes a port as the kernel does for whoever asks for any free one:
// without SO_REUSEADDR.
func bind(t *testing.T, port int) error {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Close(fd)) }()
	return syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

func TestSupervisorThatIsGone(t *testing.T) {
	t.Parallel()
	binaries, err := provide(t.Context(), thisMachine(), false)
	require.NoError(t, err)
	a, err := serverAccount()
	require.NoError(t, err)
	s, err := supervise(binaries, a)
	require.NoError(t, err)
	require.ErrorContains(t, s.do("no such word"), "exit code 1")
	require.NoError(t, s.cmd.Process.Kill())
	err = errors.Join(s.do("start"), s.do("start"))
	require.ErrorContains(t, err, "start PostgreSQL: its supervisor does not answer")
	require.ErrorContains(t, s.close(), "signal: killed")
	require.NoDirExists(t, s.folder)
}

// Whoever dies waiting for an answer is cleaned up after like anybody else.
func TestOwnerDiesWaiting(t *testing.T) {
	t.Parallel()
	binaries, err := provide(t.Context(), thisMachine(), false)
	require.NoError(t, err)
	a, err := serverAccount()
	require.NoError(t, err)
	s, err := supervise(binaries, a)
	require.NoError(t, err)
	_, err = s.words.WriteString("init\nstart\n")
	require.NoError(t, err)
	require.NoError(t, s.answers.Close())
	require.NoError(t, s.words.Close())
	require.NoError(t, s.cmd.Wait())
	require.NoDirExists(t, s.folder)
	require.NoError(t, s.lock.Close())
}
