package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Content is how drivers read what Put was given, so that all of them treat a
// wrong size, a context that ended and a failing reader alike: it gives exactly
// the bytes that were announced and then io.EOF, or fails. An error comes at the
// latest with the last byte. A driver asks Err before it makes the object seen:
// io.ReadFull, for one, hides an error that comes with enough bytes.
type Content struct {
	ended func() error // why the context ended, nil while it goes on
	src   io.Reader
	left  int64
	err   error
}

// maxEmptyReads is how often a reader may give nothing before it counts as broken.
const maxEmptyReads = 100

// NewContent reads size bytes of src, until the context ends.
func NewContent(ctx context.Context, src io.Reader, size int64) *Content {
	c := &Content{ended: ctx.Err, src: src, left: size}
	if size < 0 {
		c.err = fmt.Errorf("content of %d bytes: %w", size, ErrInvalid)
	}
	return c
}

// Err is what the content failed with, nil where it did not: it tells the
// content's errors from those of the store.
func (c *Content) Err() error { return c.err }

// Read is io.Reader's.
func (c *Content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		// Only an empty content gets here unchecked; asking twice is harmless.
		if c.err = c.atEnd(); c.err != nil {
			return 0, c.err
		}
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), c.left)]
	n, err := c.read(p)
	c.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && c.left > 0:
		c.err = fmt.Errorf("content ends %d bytes early: %w", c.left, ErrInvalid)
	case err != nil && !errors.Is(err, io.EOF):
		c.err = err
	case c.left == 0 && n > 0:
		c.err = c.atEnd()
	}
	return n, c.err
}

// atEnd says whether nothing follows.
func (c *Content) atEnd() error {
	var one [1]byte
	for range maxEmptyReads {
		n, err := c.read(one[:])
		if n > 0 {
			return fmt.Errorf("content goes on behind its end: %w", ErrInvalid)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("read content: %w", io.ErrNoProgress)
}

func (c *Content) read(p []byte) (int, error) { return readFrom(c.ended, c.src, p) }

// readFrom reads unless the context has ended. Its errors are io.EOF itself or
// are wrapped: io.ErrUnexpectedEOF itself would pass for an end further on.
func readFrom(ended func() error, src io.Reader, p []byte) (int, error) {
	if err := ended(); err != nil {
		return 0, err
	}
	n, err := src.Read(p)
	if err != nil && err != io.EOF {
		return n, fmt.Errorf("read content: %w", err)
	}
	return n, err
}

// contextReader reads until the context ends.
type contextReader struct {
	ended func() error
	src   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) { return readFrom(r.ended, r.src, p) }
