package s3blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/parleyhq/parley/pkg/blob"
)

// Put is blob.Store's.
func (s *Store) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	if err := s.check(ctx, name); err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	if size > s.opts.PartBytes*maxParts {
		return fmt.Errorf("put blob %s: %d bytes: %w", name, size, blob.ErrTooLarge)
	}
	src := blob.NewContent(ctx, content, size)
	err := src.Err()
	switch {
	case err != nil:
	case size <= s.opts.PartBytes:
		err = s.putWhole(ctx, s.prefix+name, src, size)
	default:
		err = s.putParts(ctx, s.prefix+name, src, size)
	}
	if src.Err() != nil {
		return fmt.Errorf("put blob %s: %w", name, src.Err())
	}
	return classify(ctx.Err(), "put blob "+name, err)
}

// putWhole writes an object by one request.
func (s *Store) putWhole(ctx context.Context, key string, src *blob.Content, size int64) error {
	p, err := readPart(src, size)
	if err != nil {
		return err
	}
	return s.try(ctx, func() error {
		_, err := s.client.PutObject(ctx, s.opts.Bucket, key, p.reader(), size, "", p.digest, minio.PutObjectOptions{DisableContentSha256: true})
		return err
	})
}

// abortTimeout bounds how long a failed upload tries to leave nothing behind,
// also where the caller's context has ended.
const abortTimeout = 30 * time.Second

// putParts writes an object in parts, one after the other.
func (s *Store) putParts(ctx context.Context, key string, src *blob.Content, size int64) (err error) {
	var upload string
	if err := s.try(ctx, func() (err error) {
		upload, err = s.client.NewMultipartUpload(ctx, s.opts.Bucket, key, minio.PutObjectOptions{})
		return err
	}); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		// What this leaves behind the bucket's lifecycle rule removes; the first
		// error says more.
		_ = s.try(ctx, func() error { return s.client.AbortMultipartUpload(ctx, s.opts.Bucket, key, upload) })
	}()
	var parts []minio.CompletePart
	for left := size; left > 0; left -= s.opts.PartBytes {
		part, err := s.putPart(ctx, key, upload, len(parts)+1, src, min(left, s.opts.PartBytes))
		if err != nil {
			return err
		}
		parts = append(parts, part)
	}
	return s.try(ctx, func() error {
		_, err := s.client.CompleteMultipartUpload(ctx, s.opts.Bucket, key, upload, parts, minio.PutObjectOptions{})
		return err
	})
}

func (s *Store) putPart(ctx context.Context, key, upload string, number int, src *blob.Content, size int64) (minio.CompletePart, error) {
	p, err := readPart(src, size)
	if err != nil {
		return minio.CompletePart{}, err
	}
	var answer minio.ObjectPart
	err = s.try(ctx, func() (err error) {
		answer, err = s.client.PutObjectPart(ctx, s.opts.Bucket, key, upload, number, p.reader(), size,
			minio.PutObjectPartOptions{Sha256Hex: p.digest, DisableContentSha256: true})
		return err
	})
	return minio.CompletePart{PartNumber: number, ETag: answer.ETag}, err
}

// part is what one request carries. It never changes: an attempt that failed
// may still be sending while the next one begins.
type part struct {
	content []byte
	digest  string // SHA-256 in hexadecimal
}

func readPart(src *blob.Content, size int64) (part, error) {
	content := make([]byte, size)
	if _, err := io.ReadFull(src, content); err != nil {
		return part{}, err
	}
	// The end of an empty content was not looked at yet.
	if size == 0 {
		if _, err := src.Read(nil); err != nil && !errors.Is(err, io.EOF) {
			return part{}, err
		}
	}
	// ReadFull hides an error that comes with the last byte.
	if err := src.Err(); err != nil {
		return part{}, err
	}
	sum := sha256.Sum256(content)
	return part{content: content, digest: hex.EncodeToString(sum[:])}, nil
}

// reader is a new one for every attempt.
func (p part) reader() io.Reader { return bytes.NewReader(p.content) }
