package pebbleview

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleyhq/parley/pkg/view"
)

// What a store's folder holds.
const (
	formatFile = "VIEWS"
	formatTemp = "VIEWS.tmp"
	lockFile   = "LOCK"
	dbDir      = "db"
)

// format is the version of the whole layout. A store of a newer one is not touched.
const format = 1

// folderFormat is what VIEWS says.
type folderFormat struct {
	Kind   string `json:"kind"`
	Format int    `json:"format"`
}

const folderKind = "parley views"

// openFolder makes the folder if it is not there, locks it, and checks what it holds.
func openFolder(fsys vfs.FS, dir string) (io.Closer, error) {
	if dir == "" {
		return nil, fmt.Errorf("no folder is named: %w", view.ErrInvalid)
	}
	if err := makeFolder(fsys, dir); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(fsys.PathJoin(dir, lockFile))
	if err != nil {
		if isLocked(err) {
			err = fmt.Errorf("%w: %w", view.ErrInUse, err)
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := checkFormat(fsys, dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// makeFolder makes a folder where there is none, and its parents, so that they
// survive a crash.
func makeFolder(fsys vfs.FS, dir string) error {
	_, err := fsys.Stat(dir)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for folder: %w", err)
	}
	parent := fsys.PathDir(dir)
	if parent != dir && parent != "" && parent != "." {
		if err := makeFolder(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return syncFolder(fsys, parent)
}

func syncFolder(fsys vfs.FS, dir string) error {
	folder, err := fsys.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// isLocked says whether a lock failed because somebody has it: Pebble's file
// systems report another process as EAGAIN or EACCES, this one in words only.
func isLocked(err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno == syscall.EAGAIN || errno == syscall.EACCES
	}
	return !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist)
}

// checkFormat reads VIEWS, or writes it into a folder that has none.
func checkFormat(fsys vfs.FS, dir string) error {
	f, err := fsys.Open(fsys.PathJoin(dir, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return writeFormat(fsys, dir)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", formatFile, err)
	}
	// What is longer is none of ours.
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read %s: %w", formatFile, err)
	}
	return parseFormat(data)
}

func parseFormat(data []byte) error {
	var found folderFormat
	if err := json.Unmarshal(data, &found); err != nil || found.Kind != folderKind || found.Format < 1 {
		return fmt.Errorf("%s is not Parley's: %w", formatFile, view.ErrCorrupt)
	}
	if found.Format > format {
		return fmt.Errorf("format %d, this version knows up to %d: %w", found.Format, format, view.ErrNewerFormat)
	}
	return nil
}

// writeFormat puts VIEWS in place, whole or not at all.
func writeFormat(fsys vfs.FS, dir string) error {
	data, err := json.Marshal(folderFormat{Kind: folderKind, Format: format})
	if err != nil {
		return fmt.Errorf("write %s: %w", formatFile, err)
	}
	temp := fsys.PathJoin(dir, formatTemp)
	f, err := fsys.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", formatFile, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", formatFile, err)
	}
	if err := fsys.Rename(temp, fsys.PathJoin(dir, formatFile)); err != nil {
		return fmt.Errorf("write %s: %w", formatFile, err)
	}
	return syncFolder(fsys, dir)
}
