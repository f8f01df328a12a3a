package postgres_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	osexec "os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/testkit/postgres"
)

// childEnv makes TestClusterGoesWithItsProcess the one in a process of its own, and says how that
// is to end.
const childEnv = "POSTGRES_TEST_CHILD"

// inChild is what TestClusterGoesWithItsProcess does in a child: it says what
// it has, waits until it is told to go on, and ends as it is told.
func inChild(t *testing.T, how string) {
	db := postgres.Database(t)
	exec(t, db.Connect(t), "CREATE TABLE t (i int)")
	folder, supervisor, err := postgres.SharedCluster()
	require.NoError(t, err)
	fmt.Printf("\nurl %s\nfolder %s\nsupervisor %s\n", db.URL(), folder, supervisor)
	_, err = io.ReadAll(os.Stdin)
	require.NoError(t, err)
	switch how {
	case "end":
	case "fail":
		t.FailNow()
	case "exit":
		os.Exit(7)
	case "panic":
		done := make(chan struct{})
		go func() { defer close(done); panic("as a test may") }()
		<-done
	default:
		select {}
	}
}

// child is a process with a database.
type child struct {
	t      *testing.T
	cmd    *osexec.Cmd
	input  io.Closer
	output *bufio.Reader

	address, database  string
	folder, supervisor string
}

func childCommand(t *testing.T, how string, env ...string) *osexec.Cmd {
	cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestClusterGoesWithItsProcess$", "-test.timeout="+(2*deadline).String())
	cmd.Env = append(append(os.Environ(), childEnv+"="+how), env...)
	// What is sent to the group is not for us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// startChild returns when the child has a database.
func startChild(t *testing.T, how string, env ...string) *child {
	t.Helper()
	c, err := tryChild(t, childCommand(t, how, env...))
	require.NoError(t, err)
	return c
}

// startHurriedChild is startChild for one that go test will end: in as short a
// time as the machine allows.
func startHurriedChild(t *testing.T) *child {
	t.Helper()
	for timeout := 2 * time.Second; ; timeout *= 2 {
		cmd := childCommand(t, "timeout")
		cmd.Args[len(cmd.Args)-1] = "-test.timeout=" + timeout.String()
		c, err := tryChild(t, cmd)
		if err == nil {
			return c
		}
		require.Less(t, timeout, 2*deadline, err)
		require.Equal(t, 2, c.wait())
	}
}

func tryChild(t *testing.T, cmd *osexec.Cmd) (*child, error) {
	t.Helper()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{t: t, cmd: cmd, input: in, output: bufio.NewReader(out)}
	for {
		line, err := c.output.ReadString('\n')
		if err != nil {
			return c, fmt.Errorf("what the child has: %w", err)
		}
		what, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch what {
		case "url":
			u, err := url.Parse(value)
			require.NoError(t, err)
			c.address, c.database = u.Host, strings.TrimPrefix(u.Path, "/")
		case "folder":
			c.folder = value
		case "supervisor":
			c.supervisor = value
			return c, nil
		}
	}
}

func (c *child) goOn() error      { return c.input.Close() }
func (c *child) kill() error      { return c.cmd.Process.Kill() }
func (c *child) killGroup() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

// interrupt does what a terminal does.
func (c *child) interrupt() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGINT) }

// wait returns the child's exit code, -1 after a signal.
func (c *child) wait() int {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.output)
	require.NoError(c.t, err)
	// The code says what there is to say.
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.ExitCode()
}

// clusterGoes waits until nothing is left of the child's cluster.
func (c *child) clusterGoes() {
	c.t.Helper()
	eventually(c.t, "nobody listens", func() bool { return refuses(c.address) })
	eventually(c.t, "no folder is left", func() bool {
		_, err := os.Stat(c.folder)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestClusterGoesWithItsProcess(t *testing.T) {
	t.Parallel()
	if how := os.Getenv(childEnv); how != "" {
		inChild(t, how)
		return
	}
	for how, ending := range map[string]struct {
		end  func(*child) error
		code int
	}{
		"end":        {(*child).goOn, 0},
		"fail":       {(*child).goOn, 1},
		"exit":       {(*child).goOn, 7},
		"panic":      {(*child).goOn, 2},
		"timeout":    {(*child).goOn, 2},
		"interrupt":  {(*child).interrupt, -1},
		"kill":       {(*child).kill, -1},
		"kill group": {(*child).killGroup, -1},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var c *child
			if how == "timeout" {
				c = startHurriedChild(t)
			} else {
				c = startChild(t, how)
			}
			require.DirExists(t, c.folder)
			require.False(t, refuses(c.address))
			require.NoError(t, ending.end(c))
			require.Equal(t, ending.code, c.wait())
			c.clusterGoes()
		})
	}
}

func TestSupervisorThatIsAskedToEnd(t *testing.T) {
	t.Parallel()
	c := startChild(t, "end")
	signal(t, c.supervisor, syscall.SIGTERM)
	c.clusterGoes()
	require.NoError(t, c.goOn())
	require.Equal(t, 1, c.wait(), "the test could not drop its database")
}

func TestOrphansAreSwept(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a server of ours from a process that got its number later")
	}
	c := startChild(t, "kill")
	age := func() {
		old := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(c.folder, old, old))
	}
	age()
	require.NoError(t, postgres.Sweep())
	require.DirExists(t, c.folder, "it has an owner")

	signal(t, c.supervisor, syscall.SIGKILL)
	require.NoError(t, postgres.Sweep())
	require.DirExists(t, c.folder, "it still has an owner")

	require.NoError(t, c.kill())
	require.Equal(t, -1, c.wait())
	require.False(t, refuses(c.address), "nobody is left to stop it")
	now := time.Now()
	require.NoError(t, os.Chtimes(c.folder, now, now))
	require.NoError(t, postgres.Sweep())
	require.DirExists(t, c.folder, "too young to be sure")
	age()
	// Other starts sweep too, and only one at a time.
	eventually(t, "it is removed", func() bool {
		swept := postgres.Sweep()
		_, err := os.Stat(c.folder)
		return swept == nil && errors.Is(err, os.ErrNotExist)
	})
	require.True(t, refuses(c.address))
}

func signal(t testing.TB, pid string, s syscall.Signal) {
	t.Helper()
	number, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(number, s))
}
