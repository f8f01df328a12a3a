package serve

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

// DataLog is the log of a data directory, opened without a server, for who
// copies it. While it is open no server can use the directory.
type DataLog struct {
	eventstore.Store
	dir *dataDir
}

// DataLogOptions say how a log is opened.
type DataLogOptions struct {
	// Create makes the directory, and the log in it, where there is none.
	Create bool
	// Logger gets what the store says. Required.
	Logger *slog.Logger
	// Now is the clock. Required.
	Now func() time.Time
}

// OpenDataLog opens the log of a data directory. What it refuses is a
// *DataDirError.
func OpenDataLog(path string, opts DataLogOptions) (*DataLog, error) {
	if !opts.Create {
		if err := holdsLog(path); err != nil {
			return nil, err
		}
	}
	dir, err := openDataDir(path)
	if err != nil {
		return nil, err
	}
	store, err := embedded.Open(dir.file(logFolder), embedded.Options{Logger: opts.Logger, Now: opts.Now})
	if err != nil {
		return nil, errors.Join(dir.explain("event store", err), dir.close())
	}
	return &DataLog{Store: store, dir: dir}, nil
}

// logFolder of a data directory has the embedded event store.
const logFolder = "log"

// holdsLog refuses what is no data directory with a log, before anything is made.
func holdsLog(path string) error {
	dir := dataDir{path: path}
	for _, name := range []string{formatFile, logFolder} {
		_, err := os.Stat(dir.file(name))
		if errors.Is(err, fs.ErrNotExist) {
			return dataDirError(path, "there is no log in it: %q is missing; name the data directory of a parley that keeps its log there", name)
		}
		if err != nil {
			return dataDirError(path, "cannot be read: %w", reasonOf(err))
		}
	}
	return nil
}

// AdoptSecrets brings along what a log cannot be served without: the secret of
// the profiles' ids, where it is kept in the other directory, and which one it is.
// It refuses where this directory has another one. The secret of the blobs'
// names comes too, where there is none.
func (l *DataLog) AdoptSecrets(from *DataLog) error {
	for _, name := range []string{secretFile, secretIDFile, blobSecretFile} {
		content, err := os.ReadFile(from.dir.file(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return dataDirError(from.dir.path, "its file %s: %w", name, reasonOf(err))
		}
		if err := writeOnce(l.dir.file(name), content); err != nil {
			return dataDirError(l.dir.path, "write %s: %w", name, reasonOf(err))
		}
		kept, err := os.ReadFile(l.dir.file(name))
		if err != nil {
			return dataDirError(l.dir.path, "its file %s: %w", name, reasonOf(err))
		}
		if name != blobSecretFile && !bytes.Equal(kept, content) {
			return dataDirError(l.dir.path, "its file %s is another one than that of %s: who is who would be lost; choose an empty or a new directory", name, from.dir.path)
		}
	}
	return nil
}

// Path of the directory.
func (l *DataLog) Path() string { return l.dir.path }

// Close closes the log and unlocks the directory.
func (l *DataLog) Close() error { return errors.Join(l.Store.Close(), l.dir.close()) }
