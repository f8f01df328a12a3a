package postgres

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// folderPrefix begins the name of every cluster's folder.
const folderPrefix = "parley-postgres-"

const (
	// youngest is the age under which a folder may not be locked yet by whoever
	// made it.
	youngest = time.Minute
	// orphanDeadline is how long a server without an owner may take to end.
	orphanDeadline = 10 * time.Second
)

// sweep removes the folders of clusters whose processes are gone: nobody holds
// their lock, neither the process that made them nor their supervisor. What
// can't be removed is the next run's business.
func sweep(parent string, a account) {
	folders, err := filepath.Glob(filepath.Join(parent, folderPrefix+"*"))
	if err != nil {
		return
	}
	for _, folder := range folders {
		info, err := os.Lstat(folder)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < youngest {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || (stat.Uid != a.uid && int(stat.Uid) != os.Geteuid()) {
			continue
		}
		sweepFolder(folder)
	}
}

func sweepFolder(folder string) {
	lock, err := os.Open(folder)
	if err != nil {
		return
	}
	defer func() { _ = lock.Close() }()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	if endOrphan(filepath.Join(folder, "data")) {
		_ = os.RemoveAll(folder)
	}
}

// endOrphan ends a server that has lost its supervisor, and reports whether
// nothing runs on the data any more.
func endOrphan(data string) bool {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return os.IsNotExist(err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return true
	}
	if runtime.GOOS != "linux" {
		// The number may be another process's by now: leave it all.
		return syscall.Kill(pid, 0) == syscall.ESRCH
	}
	if !runsOn(pid, data) {
		return true
	}
	if syscall.Kill(pid, syscall.SIGQUIT) != nil {
		return false
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(orphanDeadline); time.Now().Before(deadline); <-ticker.C {
		if !runsOn(pid, data) {
			return true
		}
	}
	return false
}

// runsOn reports whether a process works in a folder, as a server does in that
// of its data.
func runsOn(pid int, data string) bool {
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	if err != nil {
		return false
	}
	resolved, err := filepath.EvalSymlinks(data)
	return err == nil && cwd == resolved
}
