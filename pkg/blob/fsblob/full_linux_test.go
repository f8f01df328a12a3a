package fsblob_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/fsblob"
)

func init() { roles["full"] = fill }

const diskBytes = 2 << 20

// fill mounts a small disk, fills it with blobs and makes room again.
func fill(dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
		fmt.Println("cannot mount:", err)
		return nil
	}
	s, err := fsblob.Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	content := make([]byte, 300_000)
	var kept []string
	for i := range 100 {
		n, _ := numbered(i)
		if err = s.Put(ctx, n, bytes.NewReader(content), int64(len(content))); err != nil {
			break
		}
		kept = append(kept, n)
	}
	fmt.Println("full:", err)
	entries, listErr := os.ReadDir(filepath.Join(dir, ".tmp"))
	if listErr != nil {
		return listErr
	}
	fmt.Println("left:", len(entries))
	count := 0
	for info, err := range s.List(ctx, "", "") {
		if err != nil || info.Size != int64(len(content)) {
			return fmt.Errorf("listing: %s of %d bytes: %w", info.Name, info.Size, err)
		}
		count++
	}
	fmt.Println("kept and seen:", len(kept) > 0 && count == len(kept))
	if err := s.Delete(ctx, kept[0]); err != nil {
		return err
	}
	n, _ := numbered(1000)
	fmt.Println("room again:", s.Put(ctx, n, bytes.NewReader(content), int64(len(content))))
	return nil
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=full", dirEnv+"="+t.TempDir())
	// A mount of its own, as a user of its own where we are not root.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || strings.Contains(string(out), "cannot mount") {
		t.Skipf("no small disk can be mounted here: %v %s", err, out)
	}
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "full: put blob ")
	require.Contains(t, string(out), blob.ErrUnavailable.Error())
	require.Contains(t, string(out), syscall.ENOSPC.Error())
	require.Contains(t, string(out), "left: 0\n")
	require.Contains(t, string(out), "kept and seen: true\n")
	require.Contains(t, string(out), "room again: <nil>\n")
}
