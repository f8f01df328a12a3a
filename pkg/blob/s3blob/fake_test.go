package s3blob_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	accessKey = "parley-test"
	secretKey = "parley-test-secret"
	bucket    = "blobs"
)

// server is an S3 of one process: what the driver uses of the API, path style,
// with signatures (version 4) and digests checked and contents on disk.
type server struct {
	*httptest.Server
	dir string

	mu      sync.Mutex
	buckets map[string]bool
	objects map[string]object // by bucket/key
	uploads map[string]map[int]string
	next    int
	// requests that were let through to the API, as `METHOD operation`.
	requests []string
	// fault may answer in place of the API: it returns true where it did.
	fault func(w http.ResponseWriter, r *http.Request, operation string) bool
}

type object struct {
	file     string
	size     int64
	etag     string
	modified time.Time
}

func newServer(t testing.TB, start func(http.Handler) *httptest.Server) *server {
	t.Helper()
	s := &server{
		dir:     t.TempDir(),
		buckets: map[string]bool{bucket: true},
		objects: map[string]object{},
		uploads: map[string]map[int]string{},
	}
	s.Server = start(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) setFault(f func(w http.ResponseWriter, r *http.Request, operation string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *server) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *server) openUploads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.uploads)
}

func operationOf(r *http.Request, key string) string {
	q := r.URL.Query()
	switch {
	case key == "" && q.Has("list-type"):
		return "list"
	case key == "":
		return "bucket"
	case q.Has("uploads"):
		return "create-upload"
	case q.Has("partNumber"):
		return "part"
	case q.Has("uploadId"):
		return "upload"
	default:
		return "object"
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	inBucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	operation := r.Method + " " + operationOf(r, key)
	s.mu.Lock()
	fault := s.fault
	s.requests = append(s.requests, operation)
	known := s.buckets[inBucket]
	s.mu.Unlock()
	if fault != nil && fault(w, r, operation) {
		return
	}
	if code := authenticate(r); code != "" {
		refuse(w, http.StatusForbidden, code)
		return
	}
	if !known && operation != "PUT bucket" {
		refuse(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	at := inBucket + "/" + key
	q := r.URL.Query()
	switch operation {
	case "HEAD bucket":
	case "PUT bucket":
		s.mu.Lock()
		s.buckets[inBucket] = true
		s.mu.Unlock()
	case "GET list":
		s.list(w, inBucket, q)
	case "PUT object":
		if o, ok := s.receive(w, r); ok {
			s.keep(at, o)
			w.Header().Set("ETag", o.etag)
		}
	case "GET object":
		s.get(w, at)
	case "DELETE object":
		s.mu.Lock()
		delete(s.objects, at)
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case "POST create-upload":
		s.mu.Lock()
		s.next++
		id := strconv.Itoa(s.next)
		s.uploads[id] = map[int]string{}
		s.mu.Unlock()
		answer(w, struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			UploadID string   `xml:"UploadId"`
		}{UploadID: id})
	case "PUT part":
		s.part(w, r, q)
	case "POST upload":
		s.complete(w, r, at, q.Get("uploadId"))
	case "DELETE upload":
		s.mu.Lock()
		delete(s.uploads, q.Get("uploadId"))
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

func (s *server) keep(at string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[at] = o
}

// receive reads a body into a file and checks its digest.
func (s *server) receive(w http.ResponseWriter, r *http.Request) (object, bool) {
	f, err := os.CreateTemp(s.dir, "body")
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return object{}, false
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		refuse(w, http.StatusBadRequest, "IncompleteBody")
		return object{}, false
	}
	if hex.EncodeToString(sum.Sum(nil)) != r.Header.Get("X-Amz-Content-Sha256") {
		refuse(w, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
		return object{}, false
	}
	return object{file: f.Name(), size: n, etag: `"` + hex.EncodeToString(sum.Sum(nil)) + `"`, modified: time.Now().UTC()}, true
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (s *server) get(w http.ResponseWriter, at string) {
	s.mu.Lock()
	o, ok := s.objects[at]
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	f, err := os.Open(o.file)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("ETag", o.etag)
	w.Header().Set("Last-Modified", o.modified.Format(http.TimeFormat))
	w.Header().Set("Content-Length", strconv.FormatInt(o.size, 10))
	// A client that goes away is none of our business.
	_, _ = io.Copy(w, f)
}

func (s *server) part(w http.ResponseWriter, r *http.Request, q url.Values) {
	o, ok := s.receive(w, r)
	if !ok {
		return
	}
	number, err := strconv.Atoi(q.Get("partNumber"))
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := s.uploads[q.Get("uploadId")]
	if err != nil || parts == nil {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	parts[number] = o.file
	w.Header().Set("ETag", o.etag)
}

func (s *server) complete(w http.ResponseWriter, r *http.Request, at, id string) {
	var request struct {
		Parts []struct {
			PartNumber int
		} `xml:"Part"`
	}
	err := xml.NewDecoder(r.Body).Decode(&request)
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := s.uploads[id]
	if err != nil || parts == nil || len(request.Parts) != len(parts) {
		refuse(w, http.StatusBadRequest, "InvalidPart")
		return
	}
	whole, err := os.Create(filepath.Join(s.dir, "upload"+id))
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	defer func() { _ = whole.Close() }()
	var total int64
	for i, p := range request.Parts {
		f, err := os.Open(parts[p.PartNumber])
		if err != nil {
			refuse(w, http.StatusBadRequest, "InvalidPart")
			return
		}
		n, err := io.Copy(whole, f)
		if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil || n < 5<<20 && i < len(request.Parts)-1 {
			refuse(w, http.StatusBadRequest, "EntityTooSmall")
			return
		}
		total += n
	}
	delete(s.uploads, id)
	s.objects[at] = object{file: whole.Name(), size: total, etag: fmt.Sprintf(`"%s-%d"`, id, len(parts)), modified: time.Now().UTC()}
	answer(w, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket  string
		ETag    string
	}{Bucket: bucket, ETag: s.objects[at].etag})
}

func (s *server) list(w http.ResponseWriter, inBucket string, q url.Values) {
	type entry struct {
		Key          string
		LastModified string
		ETag         string
		Size         int64
	}
	result := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []entry
	}{}
	most, err := strconv.Atoi(q.Get("max-keys"))
	if err != nil || most < 1 {
		most = 1000
	}
	after := max(q.Get("start-after"), q.Get("continuation-token"))
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for at := range s.objects {
		if key, ok := strings.CutPrefix(at, inBucket+"/"); ok && strings.HasPrefix(key, q.Get("prefix")) && key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if len(result.Contents) == most {
			result.IsTruncated = true
			result.NextContinuationToken = result.Contents[most-1].Key
			break
		}
		o := s.objects[inBucket+"/"+key]
		result.Contents = append(result.Contents, entry{key, o.modified.Format("2006-01-02T15:04:05.000Z"), o.etag, o.size})
	}
	answer(w, result)
}

func answer(w http.ResponseWriter, v any) {
	b, err := xml.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = w.Write(b)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s from the test</Message></Error>", code, code)
}

// authenticate checks the signature of a request (AWS Signature Version 4:
// Authenticating Requests, Using the Authorization Header). It answers with the
// code of the error.
func authenticate(r *http.Request) string {
	fields := map[string]string{}
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "AccessDenied"
	}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	key, scope, _ := strings.Cut(fields["Credential"], "/")
	if key != accessKey {
		return "InvalidAccessKeyId"
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"),
		headers.String(), fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256"),
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n")
	signing := []byte("AWS4" + secretKey)
	for part := range strings.SplitSeq(scope, "/") {
		signing = mac(signing, part)
	}
	if !bytes.Equal([]byte(hex.EncodeToString(mac(signing, toSign))), []byte(fields["Signature"])) {
		return "SignatureDoesNotMatch"
	}
	return ""
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// aborted makes a handler end the connection in the middle.
func aborted(t testing.TB, w http.ResponseWriter) {
	t.Helper()
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := hijacker.Hijack()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
