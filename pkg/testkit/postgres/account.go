package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom a cluster's processes run as.
type account struct {
	uid, gid uint32
	// other says that it is not ourselves.
	other bool
}

// serverAccount is ourselves, or where we are root somebody else: initdb and
// postgres refuse to be root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("look up the system user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("look up the system user %s: %w", name, err)
		}
		return account{uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and there is neither a system user postgres nor nobody: add one, or run the tests as another user")
}

// credential is what a process is given to become the account.
func (a account) credential() *syscall.Credential {
	if !a.other {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// temporaryFolder is where the account's folders go: the usual one, unless the
// account can't reach it.
func (a account) temporaryFolder() (string, error) {
	usual := os.TempDir()
	if !a.other {
		return usual, nil
	}
	for _, dir := range []string{usual, "/tmp", "/var/tmp"} {
		if reachable(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no folder for temporary files that the system users other than root can reach: let TMPDIR name one, now %s", usual)
}

// reachable reports whether everybody may go down to a folder.
func reachable(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
