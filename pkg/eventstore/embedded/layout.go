package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// What a store's folder holds.
const (
	storeFile   = "STORE"
	storeTemp   = "STORE.tmp"
	lockFile    = "LOCK"
	ballastFile = "BALLAST"
	probeFile   = "PROBE"
	logDir      = "log"
)

// format is the version of the whole layout. A store of a newer one is not
// touched.
const format = 1

// identity is what STORE says.
type identity struct {
	Kind    string    `json:"kind"`
	Format  int       `json:"format"`
	LogID   uuid.UUID `json:"log_id"`
	Created time.Time `json:"created"`
	// Ready says that log/ was made: from then on it must be there.
	Ready bool `json:"ready"`
}

const identityKind = "parley event store"

// folder is a store's folder, locked.
type folder struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
}

// openFolder makes the folder if it is not there, and locks it.
func openFolder(fs vfs.FS, dir string) (*folder, error) {
	if dir == "" {
		return nil, fmt.Errorf("open event store: no folder is named: %w", eventstore.ErrInvalid)
	}
	if fs == nil {
		fs = vfs.Default
	}
	if fs == vfs.Default {
		// Locks go by name, and a folder has many.
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("open event store in %s: %w", dir, err)
		}
		dir = abs
	}
	if err := makeFolder(fs, dir); err != nil {
		return nil, fmt.Errorf("open event store in %s: %w", dir, err)
	}
	if fs == vfs.Default {
		resolved, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return nil, fmt.Errorf("open event store in %s: %w", dir, err)
		}
		dir = resolved
	}
	lock, err := fs.Lock(fs.PathJoin(dir, lockFile))
	if err == nil {
		return &folder{fs: fs, dir: dir, lock: lock}, nil
	}
	// The file could not be made; any other error is that of locking it.
	if pathError := (*os.PathError)(nil); errors.As(err, &pathError) {
		return nil, fmt.Errorf("lock event store in %s: %w", dir, err)
	}
	return nil, fmt.Errorf("event store in %s is open elsewhere; one process at a time can have it: %w (%w)",
		dir, eventstore.ErrInUse, err)
}

// makeFolder makes a folder and all above it so that they survive a power cut.
func makeFolder(fs vfs.FS, dir string) error {
	var missing []string
	for d := dir; ; {
		if _, err := fs.Stat(d); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look for %s: %w", d, err)
		}
		missing = append(missing, d)
		parent := fs.PathDir(d)
		if parent == d || parent == "" {
			break
		}
		d = parent
	}
	if err := fs.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for _, d := range slices.Backward(missing) {
		if err := syncDir(fs, fs.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

// identify reads who the store is. An empty folder becomes a new store; any
// other that is none is refused.
func (f *folder) identify(now func() time.Time, newID func() (uuid.UUID, error)) (identity, error) {
	names, err := f.fs.List(f.dir)
	if err != nil {
		return identity{}, fmt.Errorf("list %s: %w", f.dir, err)
	}
	if slices.Contains(names, storeFile) {
		return f.readIdentity()
	}
	slices.Sort(names)
	for _, name := range names {
		switch name {
		case lockFile, storeTemp, ballastFile, probeFile:
		case logDir:
			return identity{}, fmt.Errorf("%s holds a log but its file %s is gone: %w", f.dir, storeFile, eventstore.ErrCorrupt)
		default:
			return identity{}, fmt.Errorf("%s is not an event store and not empty (it holds %q); name an empty folder for a new one: %w",
				f.dir, name, eventstore.ErrInvalid)
		}
	}
	id, err := newID()
	if err != nil {
		return identity{}, fmt.Errorf("draw an id for the log: %w", err)
	}
	who := identity{Kind: identityKind, Format: format, LogID: id, Created: now().UTC()}
	return who, f.writeIdentity(who)
}

func (f *folder) readIdentity() (identity, error) {
	name := f.fs.PathJoin(f.dir, storeFile)
	text, err := readFile(f.fs, name)
	if err != nil {
		return identity{}, err
	}
	return decodeIdentity(name, text)
}

func decodeIdentity(name string, text []byte) (identity, error) {
	var who identity
	if err := json.Unmarshal(text, &who); err != nil {
		return identity{}, fmt.Errorf("%s: %w: %w", name, eventstore.ErrCorrupt, err)
	}
	switch {
	case who.Kind != identityKind:
		return identity{}, fmt.Errorf("%s: its kind is %q, not %q: %w", name, who.Kind, identityKind, eventstore.ErrCorrupt)
	case who.Format > format:
		return identity{}, fmt.Errorf("%s: format %d, this version knows up to %d; run the version that wrote it or a newer one: %w",
			name, who.Format, format, eventstore.ErrNewerFormat)
	case who.Format < 1 || who.LogID == uuid.Nil:
		return identity{}, fmt.Errorf("%s: no format or no log id: %w", name, eventstore.ErrCorrupt)
	}
	return who, nil
}

func (f *folder) writeIdentity(who identity) (err error) {
	text, err := json.Marshal(who)
	if err != nil {
		return fmt.Errorf("write %s: %w", storeFile, err)
	}
	temp := f.fs.PathJoin(f.dir, storeTemp)
	file, err := f.fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", temp, err)
	}
	if _, err = file.Write(append(text, '\n')); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", temp, err)
	}
	if err := f.fs.Rename(temp, f.fs.PathJoin(f.dir, storeFile)); err != nil {
		return fmt.Errorf("rename %s: %w", temp, err)
	}
	return syncDir(f.fs, f.dir)
}

func (f *folder) close() error {
	if err := f.lock.Close(); err != nil {
		return fmt.Errorf("unlock %s: %w", f.dir, err)
	}
	return nil
}

func readFile(fs vfs.FS, name string) (text []byte, err error) {
	file, err := fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// STORE is some hundred bytes; whatever is larger is something else.
	const most = 64 << 10
	text, err = io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return text, nil
}

func syncDir(fs vfs.FS, dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// isNewerPebble recognises Pebble's refusal of a newer format, which has no
// type of its own.
func isNewerPebble(err error) bool {
	return strings.Contains(err.Error(), "unknown format major version")
}
