// Package process runs the parley binary as a process of its own, for tests
// that must kill it and for measurements from outside.
//
// The binary is the one that PARLEY_BIN names, else it is built once per test
// binary. Every process that is started ends with its test.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startDeadline is how long a process may take to serve; generous, for a
// machine that runs other tests meanwhile.
const startDeadline = 60 * time.Second

// Process is a running `parley serve`.
type Process struct {
	// Addresses says where it serves.
	Addresses Addresses
	// Started is how long it took from the start of the process to its ready
	// file.
	Started time.Duration

	cmd    *exec.Cmd
	ready  string // its ready file
	begun  time.Time
	output *tail
	ended  chan struct{}
	err    error // why it ended; set before ended is closed
}

// Addresses is what the ready file says.
type Addresses struct {
	GRPC  string `json:"grpc"`
	HTTP  string `json:"http"`
	SMTP  string `json:"smtp"`
	Admin string `json:"admin"`
	NATS  string `json:"nats"`
	// EventStore is where EventStoreDB's protocol is spoken.
	EventStore string `json:"eventstore"`
}

// Start runs `parley serve` over a data directory, on free ports, with more
// flags behind, and returns once it serves.
func Start(tb testing.TB, dataDir string, flags ...string) *Process {
	tb.Helper()
	p, err := Try(tb, dataDir, flags...)
	require.NoError(tb, err)
	return p
}

// Try is Start for a process that may fail to come up.
func Try(tb testing.TB, dataDir string, flags ...string) (*Process, error) {
	tb.Helper()
	p, err := Begin(tb, dataDir, flags...)
	if err != nil {
		return nil, err
	}
	if err := p.Await(); err != nil {
		return nil, err
	}
	return p, nil
}

// Begin is Try for a process that may be killed before it serves: it returns
// at once. Its addresses are known once Await has returned.
func Begin(tb testing.TB, dataDir string, flags ...string) (*Process, error) {
	tb.Helper()
	p, err := begin(tb, dataDir, flags...)
	if err == nil {
		tb.Cleanup(p.Kill)
	}
	return p, err
}

// begin is Begin for whoever ends the process himself.
func begin(tb testing.TB, dataDir string, flags ...string) (*Process, error) {
	tb.Helper()
	const anyPort = "127.0.0.1:0"
	p := &Process{ready: filepath.Join(tb.TempDir(), "ready.json"), output: &tail{limit: 64 << 10}, ended: make(chan struct{})}
	args := append([]string{
		"serve", "--data-dir", dataDir, "--ready-file", p.ready,
		"--grpc-listen", anyPort, "--http-listen", anyPort, "--smtp-listen", anyPort, "--admin-listen", anyPort, "--nats-listen", anyPort,
	}, flags...)
	p.cmd = exec.Command(Binary(tb), args...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.begun = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start parley: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Await returns once the process serves, or with why it does not. One that
// does not come up in time is killed.
func (p *Process) Await() error {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(startDeadline)
	defer deadline.Stop()
	for {
		content, err := os.ReadFile(p.ready)
		if err == nil && json.Unmarshal(content, &p.Addresses) == nil {
			p.Started = time.Since(p.begun)
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("parley serve ended before it served: %w\n%s", p.err, p.output)
		case <-deadline.C:
			p.Kill()
			return fmt.Errorf("parley serve did not come up within %s\n%s", startDeadline, p.output)
		case <-ticker.C:
		}
	}
}

// Ended is closed once the process has ended, however it did.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process at once, as kill -9 does, and waits until it is gone.
func (p *Process) Kill() {
	// An error says that it is gone already.
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Stop ends the process as an operator does and returns what it ended with.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal parley: %w", err)
	}
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("parley did not stop: %w\n%s", ctx.Err(), p.output)
	}
}

// CPU is the processor time that the process took from its start to its end;
// none as long as it runs.
func (p *Process) CPU() time.Duration {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	default:
		return 0
	}
}

// Output is the end of what the process wrote.
func (p *Process) Output() string { return p.output.String() }

// Memory is the process's resident memory in bytes, now and at its peak.
func (p *Process) Memory() (resident, peak int64, err error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of parley: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		name, rest, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "VmHWM" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the memory of parley: %w", err)
		}
		if name == "VmRSS" {
			resident = kib << 10
		} else {
			peak = kib << 10
		}
	}
	return resident, peak, nil
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "parley-bin-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the binary: %w", err)
	}
	path := filepath.Join(dir, "parley")
	if output, err := exec.Command("go", "build", "-o", path, "github.com/parleyhq/parley/services/parley").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build parley: %w\n%s", err, output)
	}
	return path, nil
})

// Binary is the path of the binary under test.
func Binary(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv("PARLEY_BIN"); path != "" {
		return path
	}
	path, err := build()
	require.NoError(tb, err)
	return path
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
