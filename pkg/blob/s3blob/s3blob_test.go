package s3blob_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/blobtest"
	"github.com/parleyhq/parley/pkg/blob/bloburl"
	"github.com/parleyhq/parley/pkg/blob/s3blob"
	"github.com/parleyhq/parley/pkg/config"
)

func options(s *server) s3blob.Options {
	return s3blob.Options{
		Endpoint: s.Listener.Addr().String(), PlainHTTP: true, Bucket: bucket,
		AccessKey: accessKey, SecretKey: secretKey, PathStyle: true,
	}
}

func open(t testing.TB, opts s3blob.Options) *s3blob.Store {
	t.Helper()
	s, err := s3blob.Open(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

var name = blob.Name("acme", strings.Repeat("ab", 20))

func put(t testing.TB, s blob.Store, size int) error {
	t.Helper()
	return s.Put(t.Context(), name, bytes.NewReader(make([]byte, size)), int64(size))
}

func TestConformance(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		opts := options(newServer(t, httptest.NewServer))
		// Pages and parts as small as they may be, so that there are several.
		opts.ListPage, opts.PartBytes = 3, 5<<20
		return open(t, opts)
	})
}

// Many tenants below a prefix of one bucket, over TLS, with what others keep there.
func TestConformanceOfOneBucket(t *testing.T) {
	s := newServer(t, httptest.NewTLSServer)
	s.keep(bucket+"/some/where/else.txt", object{})
	s.keep(bucket+"/some/where/acme/ab/"+strings.Repeat("ab", 20)+".bak", object{})
	s.keep(bucket+"/else/acme/ab/"+strings.Repeat("ab", 20), object{})
	authorities := x509.NewCertPool()
	authorities.AddCert(s.Certificate())
	blobtest.Run(t, func(t *testing.T) blob.Store {
		opts := options(s)
		opts.PlainHTTP, opts.Prefix = false, "some/where"
		opts.TLS = &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}
		return open(t, opts)
	})
}

// A real server: its location in the environment, as bloburl takes it, and the
// credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
func TestConformanceOfRealServer(t *testing.T) {
	location := os.Getenv("PARLEY_S3_TEST_LOCATION")
	if location == "" {
		t.Skip("PARLEY_S3_TEST_LOCATION names no server")
	}
	blobtest.Run(t, func(t *testing.T) blob.Store {
		s, err := bloburl.Open(t.Context(), location, bloburl.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*s3blob.Options){
		"no bucket":           func(o *s3blob.Options) { o.Bucket = "" },
		"bucket with a slash": func(o *s3blob.Options) { o.Bucket = "a/b" },
		"bucket in capitals":  func(o *s3blob.Options) { o.Bucket = "Blobs" },
		"endpoint a URL":      func(o *s3blob.Options) { o.Endpoint = "http://localhost:9000" },
		"endpoint of spaces":  func(o *s3blob.Options) { o.Endpoint = "not a host" },
		"half a credential":   func(o *s3blob.Options) { o.SecretKey = "" },
		"small parts":         func(o *s3blob.Options) { o.PartBytes = 5<<20 - 1 },
		"large parts":         func(o *s3blob.Options) { o.PartBytes = 5<<30 + 1 },
		"no attempt":          func(o *s3blob.Options) { o.Attempts = -1 },
		"large pages":         func(o *s3blob.Options) { o.ListPage = 1001 },
		"prefix up":           func(o *s3blob.Options) { o.Prefix = "a/../b" },
		"prefix with slash":   func(o *s3blob.Options) { o.Prefix = "a/" },
		"prefix with space":   func(o *s3blob.Options) { o.Prefix = "a b" },
		"prefix too long":     func(o *s3blob.Options) { o.Prefix = strings.Repeat("a", 501) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			opts := s3blob.Options{Endpoint: "localhost:9000", Bucket: bucket, AccessKey: accessKey, SecretKey: secretKey}
			change(&opts)
			_, err := s3blob.Open(t.Context(), opts)
			require.ErrorIs(t, err, blob.ErrInvalid)
			require.NotContains(t, err.Error(), secretKey)
		})
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	s := newServer(t, httptest.NewServer)
	opts := options(s)
	opts.Bucket = "others"
	store := open(t, opts)
	require.Empty(t, s.seen(), "unless asked it speaks to nobody")
	for what, err := range map[string]error{"put": put(t, store, 1), "put parts": put(t, store, 9<<20), "delete": store.Delete(t.Context(), name)} {
		require.ErrorIs(t, err, blob.ErrUnavailable, what)
		require.ErrorContains(t, err, "NoSuchBucket", what)
	}
	_, _, err := store.Open(t.Context(), name)
	require.ErrorIs(t, err, blob.ErrUnavailable)
	require.NotErrorIs(t, err, blob.ErrNotFound, "the blob may well be there once the bucket is")

	opts.CheckBucket = true
	_, err = s3blob.Open(t.Context(), opts)
	require.ErrorIs(t, err, blob.ErrNotFound)
	require.ErrorContains(t, err, "bucket others")

	opts.CreateBucket = true
	for range 2 {
		require.NoError(t, put(t, open(t, opts), 1))
	}
	opts.CreateBucket = false
	open(t, opts)
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s := newServer(t, httptest.NewServer)
	require.NoError(t, put(t, open(t, options(s)), 1))
	for what, change := range map[string]func(*s3blob.Options){
		"access key": func(o *s3blob.Options) { o.AccessKey = "somebody" },
		"secret key": func(o *s3blob.Options) { o.SecretKey = "something else" },
	} {
		opts := options(s)
		change(&opts)
		store := open(t, opts)
		require.ErrorIs(t, put(t, store, 1), blob.ErrDenied, what)
		require.ErrorIs(t, put(t, store, 9<<20), blob.ErrDenied, what)
		require.ErrorIs(t, store.Delete(t.Context(), name), blob.ErrDenied, what)
		_, _, err := store.Open(t.Context(), name)
		require.ErrorIs(t, err, blob.ErrDenied, what)
		for _, err := range store.List(t.Context(), "", "") {
			require.ErrorIs(t, err, blob.ErrDenied, what)
		}
		opts.CheckBucket = true
		_, err = s3blob.Open(t.Context(), opts)
		require.ErrorIs(t, err, blob.ErrDenied, what)
		require.NotContains(t, err.Error(), "something else")
	}
}

func TestCredentialsOfTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	opts := options(newServer(t, httptest.NewServer))
	opts.AccessKey, opts.SecretKey = "", config.Secret("")
	require.NoError(t, put(t, open(t, opts), 1))
}

// busy answers so many requests of an operation with an error.
func busy(times int32, status int, code string, operations ...string) func(http.ResponseWriter, *http.Request, string) bool {
	var left atomic.Int32
	left.Store(times)
	return func(w http.ResponseWriter, _ *http.Request, operation string) bool {
		if !strings.Contains(strings.Join(operations, ","), operation) || left.Add(-1) < 0 {
			return false
		}
		refuse(w, status, code)
		return true
	}
}

func TestBusyServer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		operation string
		size      int
	}{
		{"PUT object", 1}, {"PUT object", 0}, {"PUT object", 5 << 20},
		{"POST create-upload", 9 << 20}, {"PUT part", 9 << 20}, {"POST upload", 9 << 20},
	} {
		t.Run(tc.operation+" "+strconv.Itoa(tc.size), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, httptest.NewServer)
			opts := options(s)
			opts.Attempts = 3
			store := open(t, opts)
			s.setFault(busy(2, http.StatusServiceUnavailable, "SlowDown", tc.operation))
			require.NoError(t, put(t, store, tc.size), "it tries again")
			r, size, err := store.Open(t.Context(), name)
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			require.EqualValues(t, tc.size, size)
			require.True(t, bytes.Equal(make([]byte, tc.size), got))

			require.NoError(t, store.Delete(t.Context(), name))
			for _, status := range []int{http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusBadGateway} {
				s.setFault(busy(1000, status, "SlowDown", tc.operation))
				require.ErrorIs(t, put(t, store, tc.size), blob.ErrUnavailable)
			}
			s.setFault(nil)
			_, _, err = store.Open(t.Context(), name)
			require.ErrorIs(t, err, blob.ErrNotFound, "nothing was kept")
			require.Zero(t, s.openUploads(), "no parts are left")
		})
	}
}

func TestBusyServerReading(t *testing.T) {
	t.Parallel()
	s := newServer(t, httptest.NewServer)
	opts := options(s)
	opts.ListPage, opts.Attempts = 1, 3
	store := open(t, opts)
	require.NoError(t, put(t, store, 1))
	operations := []string{"GET object", "DELETE object", "GET list"}
	s.setFault(busy(1000, http.StatusServiceUnavailable, "SlowDown", operations...))
	_, _, err := store.Open(t.Context(), name)
	require.ErrorIs(t, err, blob.ErrUnavailable)
	require.ErrorIs(t, store.Delete(t.Context(), name), blob.ErrUnavailable)
	for _, err := range store.List(t.Context(), "", "") {
		require.ErrorIs(t, err, blob.ErrUnavailable)
	}
	for _, operation := range operations {
		s.setFault(busy(2, http.StatusServiceUnavailable, "SlowDown", operation))
		for _, err := range store.List(t.Context(), "", "") {
			require.NoError(t, err)
		}
		r, _, err := store.Open(t.Context(), name)
		require.NoError(t, err)
		require.NoError(t, r.Close())
	}
	require.NoError(t, store.Delete(t.Context(), name))
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	opts := s3blob.Options{Endpoint: address, PlainHTTP: true, Bucket: bucket, AccessKey: accessKey, SecretKey: secretKey, Attempts: 2}
	store := open(t, opts)
	require.ErrorIs(t, put(t, store, 1), blob.ErrUnavailable)
	require.ErrorIs(t, put(t, store, 9<<20), blob.ErrUnavailable)
	require.ErrorIs(t, store.Delete(t.Context(), name), blob.ErrUnavailable)
	_, _, err = store.Open(t.Context(), name)
	require.ErrorIs(t, err, blob.ErrUnavailable)
	for _, err := range store.List(t.Context(), "", "") {
		require.ErrorIs(t, err, blob.ErrUnavailable)
	}
	opts.CreateBucket = true
	_, err = s3blob.Open(t.Context(), opts)
	require.ErrorIs(t, err, blob.ErrUnavailable)
}

func TestUploadInterrupted(t *testing.T) {
	t.Parallel()
	for what, size := range map[string]int{"PUT object": 5 << 20, "PUT part": 17 << 20} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, httptest.NewServer)
			store := open(t, options(s))
			cut := func(times int32) func(http.ResponseWriter, *http.Request, string) bool {
				var left atomic.Int32
				left.Store(times)
				return func(w http.ResponseWriter, r *http.Request, operation string) bool {
					if operation != what || left.Add(-1) < 0 {
						return false
					}
					// Some of the body is taken, then the line is cut.
					_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
					aborted(t, w)
					return true
				}
			}
			s.setFault(cut(1000))
			require.ErrorIs(t, put(t, store, size), blob.ErrUnavailable)
			s.setFault(nil)
			_, _, err := store.Open(t.Context(), name)
			require.ErrorIs(t, err, blob.ErrNotFound)
			require.Zero(t, s.openUploads())

			s.setFault(cut(1))
			require.NoError(t, put(t, store, size), "one cut is got over")
		})
	}
}

func TestDownloadInterrupted(t *testing.T) {
	t.Parallel()
	s := newServer(t, httptest.NewServer)
	store := open(t, options(s))
	v, err := blob.NewVault(store, []byte("a secret of enough bytes"), blob.Options{})
	require.NoError(t, err)
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	ref, err := v.Put(t.Context(), "acme", bytes.NewReader(content))
	require.NoError(t, err)

	s.setFault(func(w http.ResponseWriter, _ *http.Request, operation string) bool {
		if operation != "GET object" {
			return false
		}
		// Half of what was announced, ending on a chunk's border or not.
		w.Header().Set("Content-Length", "1000521")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		for at, o := range s.objects {
			if strings.HasSuffix(at, ref.ID()) {
				b, err := os.ReadFile(o.file)
				if err == nil {
					_, _ = w.Write(b[:700_000])
				}
			}
		}
		return true
	})
	r, err := v.Open(t.Context(), "acme", ref)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.ErrorIs(t, err, blob.ErrUnavailable)
	require.NotErrorIs(t, err, blob.ErrCorrupt, "a line that was cut damages nothing")
	require.True(t, bytes.HasPrefix(content, got))
	require.NoError(t, r.Close())

	s.setFault(nil)
	r, err = v.Open(t.Context(), "acme", ref)
	require.NoError(t, err)
	got, err = io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	require.NoError(t, r.Close())
}

// A server that does not answer is left when the caller wants no more.
func TestDeadline(t *testing.T) {
	t.Parallel()
	s := newServer(t, httptest.NewServer)
	store := open(t, options(s))
	asked := make(chan struct{}, 100)
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	s.setFault(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		// The body first: only then the server notices that the client went.
		_ = drain(r.Body)
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-ended:
		}
		return true
	})
	for what, call := range map[string]func(context.Context) error{
		"put":       func(ctx context.Context) error { return store.Put(ctx, name, strings.NewReader("x"), 1) },
		"put parts": func(ctx context.Context) error { return store.Put(ctx, name, zeros(9<<20), 9<<20) },
		"delete":    func(ctx context.Context) error { return store.Delete(ctx, name) },
		"open":      func(ctx context.Context) error { _, _, err := store.Open(ctx, name); return err },
		"list": func(ctx context.Context) error {
			for _, err := range store.List(ctx, "", "") {
				return err
			}
			return nil
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		require.ErrorIs(t, call(ctx), context.Canceled, what)
		cancel()
	}
}

func zeros(n int) io.Reader { return bytes.NewReader(make([]byte, n)) }

func TestTooLarge(t *testing.T) {
	t.Parallel()
	s := newServer(t, httptest.NewServer)
	store := open(t, options(s))
	require.ErrorIs(t, store.Put(t.Context(), name, zeros(1), 1<<62), blob.ErrTooLarge)
	require.ErrorIs(t, store.Put(t.Context(), name, zeros(1), 8<<20*10_000+1), blob.ErrTooLarge)
	require.Empty(t, s.seen())
	s.setFault(busy(1, http.StatusBadRequest, "EntityTooLarge", "PUT object"))
	require.ErrorIs(t, put(t, store, 1), blob.ErrTooLarge)
}

// What the server was given is what it says it got.
func TestDamageOnTheWay(t *testing.T) {
	t.Parallel()
	s := newServer(t, httptest.NewServer)
	store := open(t, options(s))
	s.setFault(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		b, err := io.ReadAll(r.Body)
		if err == nil && len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		return false
	})
	require.ErrorIs(t, put(t, store, 10_000), blob.ErrUnavailable)
	require.Error(t, put(t, store, 9<<20))
	s.setFault(nil)
	_, _, err := store.Open(t.Context(), name)
	require.ErrorIs(t, err, blob.ErrNotFound)
}
