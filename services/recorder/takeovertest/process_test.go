package takeovertest

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// process is a recorder as a process of its own. It ends with its test, also
// when it is stopped; and when the test's own process is killed: its standard
// input ends, and a stopped one is by then in a process group without a parent,
// which the kernel hangs up and continues.
type process struct {
	t        *testing.T
	settings settings
	cmd      *exec.Cmd
	stdin    io.Closer
	output   *tail
	ended    chan struct{}
	err      error // set before ended is closed
}

func start(t *testing.T, s settings) *process {
	t.Helper()
	encoded, err := json.Marshal(s)
	require.NoError(t, err)
	p := &process{t: t, settings: s, output: &tail{limit: 1 << 20}, ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(encoded))
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s (%s) wrote at last:\n%s", s.Name, p.cmd.ProcessState, p.output)
		}
	})
	return p
}

func (p *process) name() string { return p.settings.Name }

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s), "%s: %v", p.name(), s)
}

func (p *process) pause() { p.signal(syscall.SIGSTOP) }
func (p *process) goOn()  { p.signal(syscall.SIGCONT) }

// kill ends it at once, stopped or not, and waits until it is gone.
func (p *process) kill() {
	// An error says that it is gone already.
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.stdin.Close()
}

// stop ends it in good order.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	timer := newDeadline()
	defer timer.Stop()
	select {
	case <-p.ended:
		require.NoError(p.t, p.err, "%s:\n%s", p.name(), p.output)
	case <-timer.C:
		require.Fail(p.t, "it does not stop", "%s:\n%s", p.name(), p.output)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	buf   bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - t.limit; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
