package s3blob

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/parleyhq/parley/pkg/blob"
)

// CheckPlace says whether bucket and prefix can hold blobs: a bucket's name by
// S3's rules, a prefix of at most 500 characters of parts split by slashes, each
// of letters, digits, `-`, `_`, `.` and neither `.` nor `..`.
func CheckPlace(bucket, prefix string) error {
	if err := s3utils.CheckValidBucketNameStrict(bucket); err != nil {
		return fmt.Errorf("bucket %.100q: %w", bucket, err)
	}
	if prefix == "" {
		return nil
	}
	// Keys hold 1024 bytes.
	if len(prefix) > 500 {
		return fmt.Errorf("prefix of %d characters, at most 500", len(prefix))
	}
	for part := range strings.SplitSeq(prefix, "/") {
		plain := strings.IndexFunc(part, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
		}) < 0
		if part == "" || part == "." || part == ".." || !plain {
			return fmt.Errorf("prefix %.100q: want parts of letters, digits, - _ . between single slashes", prefix)
		}
	}
	return nil
}

// classify brings an error of the client into the port's terms; nil stays nil.
// ended is why the caller's context ended, if it did. Whatever does not say that
// it lasts may be over next time, so that it is ErrUnavailable.
func classify(ended error, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ended != nil {
		return fmt.Errorf("%s: %w", doing, ended)
	}
	class := blob.ErrUnavailable
	if answer, ok := errors.AsType[minio.ErrorResponse](err); ok {
		class = classOf(answer)
		if answer.Code != "" && !strings.Contains(answer.Error(), answer.Code) {
			doing += ": " + answer.Code
		}
	}
	// As text: a timeout of our own is context.DeadlineExceeded too, and would
	// pass for the caller's.
	return fmt.Errorf("%s: %w: %s", doing, class, err.Error())
}

// classOf tells the codes of S3 apart (Amazon S3 API Reference, Error Responses).
func classOf(answer minio.ErrorResponse) error {
	switch answer.Code {
	case minio.NoSuchKey:
		return blob.ErrNotFound
	case minio.EntityTooLarge:
		return blob.ErrTooLarge
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AccountProblem", "AllAccessDisabled":
		return blob.ErrDenied
	}
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		return blob.ErrDenied
	}
	return blob.ErrUnavailable
}
