package fsblob_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/fsblob"
)

// The test binary is also the process that is killed, and the one whose disk is
// full: the environment says which.
const (
	roleEnv = "FSBLOB_TEST_ROLE"
	dirEnv  = "FSBLOB_TEST_DIR"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	default:
		end(roles[os.Getenv(roleEnv)](os.Getenv(dirEnv)))
	}
}

var roles = map[string]func(dir string) error{"writer": write}

func end(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func numbered(i int) (string, []byte) {
	return blob.Name("acme", fmt.Sprintf("%02x%038x", i%7, i)), bytes.Repeat([]byte{byte(i)}, 1000+i*1000)
}

// write puts blobs, says which are acknowledged, and hangs in the middle of one.
func write(dir string) error {
	s, err := fsblob.Open(dir)
	if err != nil {
		return err
	}
	for i := range 20 {
		n, content := numbered(i)
		if err := s.Put(context.Background(), n, bytes.NewReader(content), int64(len(content))); err != nil {
			return err
		}
		fmt.Println("kept", n)
	}
	// Again, in place of what is there: the old one must stay.
	n, content := numbered(3)
	return s.Put(context.Background(), n, io.MultiReader(bytes.NewReader(content[:2000]), hanging{}), int64(len(content)))
}

// hanging says so, and never comes back.
type hanging struct{}

func (hanging) Read([]byte) (int, error) {
	fmt.Println("hanging")
	select {}
}

func TestKilledWhileItWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=writer", dirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var kept []string
	lines := bufio.NewScanner(out)
	hung := false
	for !hung && lines.Scan() {
		n, ok := strings.CutPrefix(lines.Text(), "kept ")
		if ok {
			kept = append(kept, n)
		}
		hung = lines.Text() == "hanging"
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait(), "it was killed")
	require.True(t, hung)
	require.Len(t, kept, 20)
	require.Len(t, temporary(t, dir), 1)

	s := open(t, dir)
	require.Empty(t, temporary(t, dir), "opening removes what was half written")
	count := 0
	for info, err := range s.List(t.Context(), "", "") {
		require.NoError(t, err)
		require.Contains(t, kept, info.Name)
		count++
	}
	require.Equal(t, 20, count)
	for i := range 20 {
		n, want := numbered(i)
		r, _, err := s.Open(t.Context(), n)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.True(t, bytes.Equal(want, got), "blob %d", i)
	}
}
