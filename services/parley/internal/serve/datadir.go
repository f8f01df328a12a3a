package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// dataDir is the directory in which the embedded engines of one process keep
// everything:
//
//	FORMAT     what this is, and its format
//	LOCK       held while a process uses it; the process' id
//	secret     the key of the profiles' ids, unless it is configured
//	secret-id  which secret the log was written with
//	blob-secret  what the names of blobs are derived from, unless it is configured
//	log/ nats/ recorder/ views/ blobs/
//
// Everything but log, secret and blobs can be computed again; nats holds what
// was acknowledged to senders and is not in the log yet. Without blob-secret
// blobs stay readable, and only the sameness of new and old ones is lost.
type dataDir struct {
	path string
	lock *os.File
}

const (
	formatFile   = "FORMAT"
	lockFile     = "LOCK"
	secretFile   = "secret"
	secretIDFile = "secret-id"
	// blobSecretFile is made like secretFile, and anew where it is lost.
	blobSecretFile = "blob-secret"

	formatName = "parley-data "
	// format of the directory that this build writes.
	format = 1

	dirMode  = 0o750
	fileMode = 0o600
	// secretSize in bytes of a secret that is made here.
	secretSize = 32
)

// DataDirError is an error about a data directory. Its text names the flag of
// `parley serve`; Err says what is wrong and what to do.
type DataDirError struct {
	Path string
	Err  error
}

func (e *DataDirError) Error() string { return "--data-dir " + e.Path + ": " + e.Err.Error() }
func (e *DataDirError) Unwrap() error { return e.Err }

func dataDirError(path, format string, args ...any) error {
	return &DataDirError{Path: path, Err: fmt.Errorf(format, args...)}
}

// openDataDir makes the directory where there is none and locks it.
func openDataDir(path string) (_ *dataDir, err error) {
	if err := os.MkdirAll(path, dirMode); err != nil {
		return nil, dataDirError(path, "cannot be made: %w; choose another one", reasonOf(err))
	}
	if err := checkFormat(path); err != nil {
		return nil, err
	}
	d := &dataDir{path: path}
	d.lock, err = os.OpenFile(d.file(lockFile), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, dataDirError(path, "cannot be written: %w; choose another one", reasonOf(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.lock.Close())
		}
	}()
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, dataDirError(path, "cannot be locked: %w", err)
		}
		owner := "another parley"
		if id, readErr := io.ReadAll(io.LimitReader(d.lock, 32)); readErr == nil && len(bytes.TrimSpace(id)) > 0 {
			owner += " (process " + string(bytes.TrimSpace(id)) + ")"
		}
		return nil, dataDirError(path, "in use by %s: %w; stop that one, or choose another directory", owner, eventstore.ErrInUse)
	}
	if err := d.lock.Truncate(0); err != nil {
		return nil, dataDirError(path, "cannot be written: %w", reasonOf(err))
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, dataDirError(path, "cannot be written: %w", reasonOf(err))
	}
	if err := writeOnce(d.file(formatFile), []byte(formatName+strconv.Itoa(format)+"\n")); err != nil {
		return nil, dataDirError(path, "cannot be written: %w", reasonOf(err))
	}
	return d, nil
}

// checkFormat refuses a directory that is none of ours, or of a newer version,
// before anything in it is touched.
func checkFormat(path string) error {
	text, err := os.ReadFile(filepath.Join(path, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(path)
		if err != nil {
			return dataDirError(path, "cannot be read: %w; choose another one", reasonOf(err))
		}
		for _, e := range entries {
			// A start that was cut off right at its beginning leaves the first
			// two, a fresh file system the third.
			if name := e.Name(); name != lockFile && !strings.HasPrefix(name, formatFile) && name != "lost+found" {
				return dataDirError(path, "holds %q and is no data directory of parley; choose an empty or a new one", name)
			}
		}
		return nil
	}
	if err != nil {
		return dataDirError(path, "cannot be read: %w; choose another one", reasonOf(err))
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(string(text)), formatName)
	n, err := strconv.Atoi(number)
	switch {
	case !ok || err != nil || n < 1:
		return dataDirError(path, "its file %s is damaged: %w; restore the directory from a backup, or choose another one", formatFile, eventstore.ErrCorrupt)
	case n > format:
		return dataDirError(path, "%w (format %d, this one knows up to %d); run that version, or choose another directory", eventstore.ErrNewerFormat, n, format)
	}
	return nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// close unlocks the directory.
func (d *dataDir) close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock %s: %w", d.path, err)
	}
	return nil
}

// secret is the key of the profiles' ids: the configured one, else the one
// that is kept here, made where there is none yet. One that the log was not
// written with would tear every customer apart, so it is refused.
func (d *dataDir) secret(configured config.Secret, random io.Reader) ([]byte, error) {
	key := []byte(configured.Reveal())
	if len(key) == 0 {
		var err error
		if key, err = d.keptSecret(random); err != nil {
			return nil, err
		}
	}
	digest := sha256.Sum256(append([]byte("parley secret id\x00"), key...))
	id := []byte(hex.EncodeToString(digest[:16]) + "\n")
	if err := writeOnce(d.file(secretIDFile), id); err != nil {
		return nil, dataDirError(d.path, "write %s: %w", secretIDFile, reasonOf(err))
	}
	kept, err := os.ReadFile(d.file(secretIDFile))
	if err != nil {
		return nil, dataDirError(d.path, "read %s: %w", secretIDFile, reasonOf(err))
	}
	if !bytes.Equal(kept, id) {
		return nil, errors.New("--profile-secret: what is in --data-dir " + d.path + " was written with another secret; give that one")
	}
	return key, nil
}

func (d *dataDir) keptSecret(random io.Reader) ([]byte, error) {
	text, err := os.ReadFile(d.file(secretFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, idErr := os.Stat(d.file(secretIDFile)); idErr == nil {
			return nil, dataDirError(d.path, "its file %s is missing; restore it from a backup, or give --profile-secret if it was configured before", secretFile)
		}
		return d.makeSecret(secretFile, random)
	}
	return d.readSecret(secretFile, text, err)
}

// blobSecret is what the names of blobs are derived from: the configured one,
// else the one that is kept here.
func (d *dataDir) blobSecret(configured config.Secret, random io.Reader) ([]byte, error) {
	if configured != "" {
		return []byte(configured.Reveal()), nil
	}
	text, err := os.ReadFile(d.file(blobSecretFile))
	if errors.Is(err, fs.ErrNotExist) {
		return d.makeSecret(blobSecretFile, random)
	}
	return d.readSecret(blobSecretFile, text, err)
}

func (d *dataDir) makeSecret(name string, random io.Reader) ([]byte, error) {
	key := make([]byte, secretSize)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("make a secret: %w", err)
	}
	text := []byte(hex.EncodeToString(key) + "\n")
	return d.readSecret(name, text, writeOnce(d.file(name), text))
}

// readSecret reads what a file of a secret holds.
func (d *dataDir) readSecret(name string, text []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, dataDirError(d.path, "its file %s: %w", name, reasonOf(err))
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != secretSize {
		return nil, dataDirError(d.path, "its file %s is damaged: %w; restore it from a backup", name, eventstore.ErrCorrupt)
	}
	return key, nil
}

// explain brings an error of an engine into the form that names the flag.
func (d *dataDir) explain(what string, err error) error {
	switch {
	case errors.Is(err, eventstore.ErrInUse), errors.Is(err, view.ErrInUse), errors.Is(err, bus.ErrInUse):
		return dataDirError(d.path, "%s in use by another process: %w; stop that one, or choose another directory", what, err)
	case errors.Is(err, eventstore.ErrNewerFormat), errors.Is(err, view.ErrNewerFormat):
		return dataDirError(d.path, "%s: %w; run that version, or choose another directory", what, err)
	case errors.Is(err, eventstore.ErrFull), errors.Is(err, view.ErrFull), errors.Is(err, syscall.ENOSPC):
		return dataDirError(d.path, "%s: %w; make room on the disk", what, err)
	default:
		return dataDirError(d.path, "open the %s: %w", what, err)
	}
}

// reasonOf is a file error without the path, which the message has already.
func reasonOf(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// writeOnce writes a file where there is none, whole or not at all, so that it
// survives a power cut.
func writeOnce(path string, content []byte) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeAtomically(path, content, fileMode)
}

// writeAtomically puts a file in place whole or not at all.
func writeAtomically(path string, content []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}
