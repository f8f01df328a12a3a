package fsblob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/parleyhq/parley/pkg/blob"
)

// List is blob.Store's. It holds the entries of one folder in memory: of a
// tenant's objects a 256th. Files that are no blobs are passed over.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if err := blob.CheckListing(prefix, after); err != nil {
			yield(blob.Info{}, fmt.Errorf("list blobs: %w", err))
			return
		}
		l := &listing{ended: ctx.Err, root: s.root.FS(), after: after, yield: yield}
		start := strings.TrimSuffix(prefix, "/")
		if start == "" {
			start = "."
		}
		err := l.walk(start)
		if err != nil && !errors.Is(err, errEnough) {
			yield(blob.Info{}, classify("list blobs", err))
		}
	}
}

type listing struct {
	ended func() error // why the context ended, nil while it goes on
	root  fs.FS
	after string
	yield func(blob.Info, error) bool
}

// errEnough ends a listing of which nobody wants more.
var errEnough = errors.New("enough")

// walk goes through a folder in the order of names. Within one folder, and
// since every character of a name sorts behind the slash also across them, that
// is the order of the bytes of whole names.
func (l *listing) walk(dir string) error {
	if err := l.ended(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(l.root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			within := name + "/"
			if blob.CheckListing(within, "") != nil || within < l.after && !strings.HasPrefix(l.after, within) {
				continue
			}
			err = l.walk(name)
		case e.Type().IsRegular() && name > l.after && blob.CheckName(name) == nil:
			err = l.give(name, e)
		default:
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) give(name string, e fs.DirEntry) error {
	if err := l.ended(); err != nil {
		return err
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !l.yield(blob.Info{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil) {
		return errEnough
	}
	return nil
}
