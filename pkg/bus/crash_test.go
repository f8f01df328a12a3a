package bus_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
)

// crashDirEnv makes the test binary the process that is killed.
const crashDirEnv = "BUS_TEST_CRASH_DIR"

// crashChild publishes 10 events, handles the first 3 batches and is killed
// by itself between handling the fourth and acknowledging it.
func crashChild(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	b, err := bus.Open(context.Background(), bus.Config{Listen: "127.0.0.1:0", DataDir: dir}, quiet())
	if err != nil {
		fail(err)
	}
	for _, id := range numbers(0, 10) {
		if err := b.Publisher().Publish(context.Background(), "default", "web", batch(10, id)); err != nil {
			fail(err)
		}
	}
	calls := 0
	err = b.Consume(context.Background(), bus.ConsumeOptions{MaxMessages: 1}, func(context.Context, []bus.Message) error {
		if calls++; calls == 4 {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				fail(err)
			}
			select {}
		}
		return nil
	})
	fail(fmt.Errorf("survived: %w", err))
}

func TestKilledBetweenHandlingAndAcknowledging(t *testing.T) {
	t.Parallel()
	cfg := embedded(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashDirEnv+"="+cfg.DataDir)
	out, err := cmd.CombinedOutput()
	exit := &exec.ExitError{}
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), string(out))

	b := open(t, cfg)
	c := consume(t, b, bus.ConsumeOptions{}, nil)
	eventually(t, "the last one", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.seen) > 0 && c.seen[len(c.seen)-1] == "000009"
	})
	got := c.until(7)
	// What was acknowledged may come again, what was not must, and all in order.
	require.LessOrEqual(t, len(got), 10)
	require.Equal(t, numbers(10-len(got), len(got)), got)
	c.stop()
}
