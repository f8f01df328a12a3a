package fsblob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/parleyhq/parley/pkg/blob"
)

// classify brings an error of the file system into the port's terms; nil stays
// nil. What is not known to last (no space, no descriptors, a failing or a
// read-only disk) may be over next time, so that it is ErrUnavailable.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	class := blob.ErrUnavailable
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, fs.ErrPermission):
		class = blob.ErrDenied
	case errors.Is(err, syscall.EFBIG):
		class = blob.ErrTooLarge
	case errors.Is(err, os.ErrClosed):
		class = blob.ErrClosed
	}
	return fmt.Errorf("%s: %w: %w", doing, class, err)
}
