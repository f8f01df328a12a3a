package fsblob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// temp is a file being written: locked for as long as it is open, so that
// sweep, here or in another process, leaves it alone.
type temp struct {
	*os.File
	name string // below the root
}

// Name is the name below the root.
func (t *temp) Name() string { return t.name }

// tempAttempts bounds the search for a free name: others are in use by
// processes of the same id on other machines.
const tempAttempts = 1000

// createTemp makes a new file in tmpDir.
func (s *Store) createTemp() (*temp, error) {
	for range tempAttempts {
		name := path.Join(tmpDir, fmt.Sprintf("%d-%d", os.Getpid(), s.seq.Add(1)))
		f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ours, err := lock(f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close(), s.root.Remove(name))
		}
		// Between making and locking it a sweep may have taken it for a left one.
		if ours {
			var there bool
			if there, err = linked(f); err == nil && there {
				return &temp{File: f, name: name}, nil
			}
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("no free name for a temporary file")
}

// sweepBatch is how many entries of a folder are read at a time.
const sweepBatch = 256

// sweep removes the files that nobody writes any more.
func (s *Store) sweep() error {
	dir, err := s.root.Open(tmpDir)
	if err != nil {
		return err
	}
	var errs []error
	for {
		entries, err := dir.ReadDir(sweepBatch)
		for _, e := range entries {
			if e.Type().IsRegular() {
				errs = append(errs, s.sweepOne(path.Join(tmpDir, e.Name())))
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				errs = append(errs, err)
			}
			return errors.Join(append(errs, dir.Close())...)
		}
	}
}

func (s *Store) sweepOne(name string) error {
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	left, err := lock(f)
	if err == nil && left {
		if err = s.root.Remove(name); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, f.Close())
}

// lock locks a file until it is closed. It answers false where somebody else has it.
func lock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// linked says whether a file still has a name.
func linked(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 0, nil
}
