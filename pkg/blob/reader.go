package blob

import (
	"errors"
	"fmt"
	"io"

	"github.com/minio/sio"
)

// Reader gives the content of a blob. What it hands out is genuine, byte by
// byte, but only io.EOF says that nothing is missing at the end. Damage is
// ErrCorrupt; failures of the store come through. It is for one goroutine.
type Reader struct {
	ref    Ref
	object io.ReadCloser
	plain  io.Reader
	size   int64
	// objectErr is what the store failed with: the decryption only sees that the
	// object ends, and takes that for damage.
	objectErr error
	err       error // final
}

// Size of the content in bytes, as the object's size tells it.
func (r *Reader) Size() int64 { return r.size }

// Read is io.Reader's. After an error every further call gives the same.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.plain.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF) && r.objectErr == nil:
		r.err = io.EOF
	default:
		r.err = fmt.Errorf("read %s: %w", r.ref, r.classify(err))
	}
	return n, r.err
}

// Close frees the object.
func (r *Reader) Close() error { return r.object.Close() }

// classify tells damage from a store that failed.
func (r *Reader) classify(err error) error {
	if r.objectErr != nil {
		return r.objectErr
	}
	if _, ok := errors.AsType[sio.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("decrypt: %w", err)
}

// objectReader is the object as the decryption sees it.
type objectReader struct{ r *Reader }

func (o objectReader) Read(p []byte) (int, error) {
	n, err := o.r.object.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	// Never io.ErrUnexpectedEOF itself, which counts as the last chunk's end.
	o.r.objectErr = fmt.Errorf("object: %w", err)
	return n, o.r.objectErr
}
