package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// installDeadline bounds everything that apt-get does, other processes' turns
// included.
const installDeadline = 6 * time.Minute

// install installs Debian's package and finds its programs. The machine is not
// changed beyond the package: no cluster is created, no server started.
func (m machine) install(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, installDeadline)
	defer cancel()
	// The test binaries of several packages run at once.
	lock, err := lockFolder(ctx, m.aptFolder)
	if err != nil {
		return "", fmt.Errorf("wait for another process to install PostgreSQL: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if dir, err := m.find(ctx); err == nil {
		return dir, nil
	}
	// It brings the configuration that keeps the server's package from creating
	// a cluster, and the system user.
	if err := m.aptInstall(ctx, "postgresql-common"); err != nil {
		return "", err
	}
	restore, err := preventCluster(m.clusterConfig)
	if err != nil {
		return "", fmt.Errorf("keep Debian's package from creating a cluster: %w", err)
	}
	err = m.aptInstall(ctx, "postgresql")
	if restoreErr := restore(); restoreErr != nil {
		err = errors.Join(err, fmt.Errorf("restore %s: %w", m.clusterConfig, restoreErr))
	}
	if err != nil {
		return "", err
	}
	return m.find(ctx)
}

// aptInstall installs one package, if need be after fetching new lists.
func (m machine) aptInstall(ctx context.Context, name string) error {
	env := []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	wait := []string{"-qq", "-o", "DPkg::Lock::Timeout=300"}
	install := slices.Concat(wait, []string{"install", "--yes", "--no-install-recommends", "--no-remove", name})
	if _, err := m.run(ctx, env, m.aptGet, install...); err == nil {
		return nil
	}
	out, err := m.run(ctx, env, m.aptGet, slices.Concat(wait, []string{"update"})...)
	if err != nil {
		return fmt.Errorf("apt-get update, to install %s: %w\n%s", name, err, out)
	}
	if out, err := m.run(ctx, env, m.aptGet, install...); err != nil {
		return fmt.Errorf("apt-get install %s: %w\n%s", name, err, out)
	}
	return nil
}

// preventCluster changes the configuration of postgresql-common for the moment
// until restore is called.
func preventCluster(config string) (restore func() error, err error) {
	// Adding to it and cutting it off again keeps owner and mode.
	info, err := os.Stat(config)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(config, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	restore = func() error { return os.Truncate(config, info.Size()) }
	_, err = f.WriteString("\n# A test is installing PostgreSQL; it removes this line afterwards.\ncreate_main_cluster = false\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, restore())
	}
	return restore, nil
}

// lockFolder waits until no other process holds a folder. Closing lets it go.
func lockFolder(ctx context.Context, folder string) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", folder, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-ticker.C:
		}
	}
}
