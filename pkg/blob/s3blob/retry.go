package s3blob

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// The pause before the second attempt, and the longest one; each is shortened
	// at random by up to a half, so that clients do not come back together.
	firstPause = 200 * time.Millisecond
	maxPause   = 2 * time.Second
)

// try makes a request until it succeeds, fails for good or was made often
// enough. The client's own repetitions are switched off: it rewinds the body
// that the attempt before may still be sending.
func (s *Store) try(ctx context.Context, request func() error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := request()
		if err == nil || attempt >= s.opts.Attempts || !passes(ctx, err) {
			return err
		}
		if !wait(ctx, pause-time.Duration(rand.Int64N(int64(pause/2)))) {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

// wait answers false where the context ended before.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// passes says whether an error may be over in a moment.
func passes(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		_, wrongTLS := errors.AsType[*tls.CertificateVerificationError](err)
		return !wrongTLS
	}
	switch answer.Code {
	case "SlowDown", "RequestTimeout", "Throttling", "InternalError", "ServiceUnavailable",
		// What we sent was damaged or cut off on the way.
		minio.BadDigest, minio.IncompleteBody, minio.XAmzContentSHA256Mismatch:
		return true
	}
	return answer.StatusCode >= http.StatusInternalServerError && answer.StatusCode != http.StatusNotImplemented ||
		answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
}
