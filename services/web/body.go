package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

const (
	// gzipSlack is by how much gzip may lengthen what cannot be compressed:
	// header, trailer and five bytes a block.
	gzipSlack = 4 << 10
	// maxKept is the largest buffer that is kept for the next body.
	maxKept = 1 << 20
)

var (
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	gunzips = sync.Pool{New: func() any { return new(gzip.Reader) }}
)

// body is a request's body; release it when nothing uses the bytes any more.
type body struct {
	// raw is the body as it came, text what it says, unpacked.
	raw, text     []byte
	rawBuf, unzip *bytes.Buffer
}

func (b *body) release() {
	for _, buf := range []*bytes.Buffer{b.rawBuf, b.unzip} {
		if buf != nil && buf.Cap() <= maxKept {
			buf.Reset()
			buffers.Put(buf)
		}
	}
	*b = body{}
}

func newBuffer() *bytes.Buffer {
	buf, ok := buffers.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	return buf
}

// readBody reads and unpacks a body within its bounds. What the headers say of
// type and encoding does not count: RudderStack's node client labels gzip as a
// form, proxies unpack and leave the label. Two bytes tell.
//
// The problem is nil for a body that is there; with a problem b.raw may be what
// came of it, for quarantine.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) (b body, p *problem) {
	if r.ContentLength > MaxBodyBytes+gzipSlack {
		return b, bodyTooLarge()
	}
	b.rawBuf = newBuffer()
	_, err := b.rawBuf.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBodyBytes+gzipSlack))
	if err != nil {
		return b, unreadable(err)
	}
	// While the batch is handed on, the server goes on listening for the
	// client to leave; the deadline would look like that. It stays where a
	// body was not read to its end, which the server tries before it goes on.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a connection that is gone needs none
	b.raw = b.rawBuf.Bytes()
	b.text = b.raw
	if isGzip(b.raw) {
		b.unzip = newBuffer()
		if p := unpack(b.unzip, b.raw); p != nil {
			return b, p
		}
		b.text = b.unzip.Bytes()
	}
	if len(b.text) > MaxBodyBytes {
		return b, bodyTooLarge()
	}
	b.text = trimJSON(b.text)
	return b, nil
}

// limitReading gives the body its time. A writer without deadlines is one of a
// test. The deadline is the network's, which knows the wall clock only.
func (g *Gateway) limitReading(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.cfg.ReadTimeout))
}

func unreadable(err error) *problem {
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return bodyTooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem{status: http.StatusRequestTimeout, code: codeTimeout, message: "the body took too long"}
	}
	return &problem{status: http.StatusBadRequest, code: codeIncomplete, message: "the body ended early"}
}

func isGzip(b []byte) bool { return len(b) >= 2 && b[0] == 0x1f && b[1] == 0x8b }

// unpack unpacks at most one byte more than a body may have, whatever would follow.
func unpack(to *bytes.Buffer, packed []byte) *problem {
	z, ok := gunzips.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	defer gunzips.Put(z)
	err := z.Reset(bytes.NewReader(packed))
	if err == nil {
		_, err = to.ReadFrom(io.LimitReader(z, MaxBodyBytes+1))
	}
	if err != nil {
		return &problem{status: http.StatusBadRequest, code: codeInvalidGzip, message: "the body is not whole gzip", quarantine: true}
	}
	if to.Len() > MaxBodyBytes {
		return bodyTooLarge()
	}
	return nil
}

// trimJSON takes away space around a value, and the byte order mark that some clients begin with.
func trimJSON(b []byte) []byte {
	return bytes.Trim(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), " \t\r\n")
}

// writeKeyOf is the write key in a request's head: Basic with the key as user,
// Bearer, or the query, which is all that sendBeacon can say beside a body.
func writeKeyOf(r *http.Request) (writeKey string, said bool) {
	if user, _, ok := r.BasicAuth(); ok && user != "" {
		return user, true
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		if token = strings.TrimSpace(token); token != "" {
			return token, true
		}
	}
	if !strings.Contains(r.URL.RawQuery, "riteKey") {
		return "", false
	}
	writeKey = r.URL.Query().Get("writeKey")
	return writeKey, writeKey != ""
}

// cleanHeader makes a header's value fit for an event: it may be any bytes.
func cleanHeader(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
