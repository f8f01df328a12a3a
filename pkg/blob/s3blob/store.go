package s3blob

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/config"
)

// Options of a store.
type Options struct {
	// Endpoint is host or host:port of the server. Defaults to s3.amazonaws.com.
	Endpoint string
	// Region of the bucket. Defaults to us-east-1.
	Region string
	// Bucket that holds the objects.
	Bucket string
	// Prefix of all keys, without a slash at its ends. Defaults to none.
	Prefix string
	// AccessKey and SecretKey are the credentials. Default to those of the
	// environment (AWS_ACCESS_KEY_ID, …), else of the machine's or the pod's role.
	AccessKey string
	SecretKey config.Secret
	// PlainHTTP speaks without TLS. The contents are encrypted anyway; names and
	// sizes are seen.
	PlainHTTP bool
	// TLS defaults to the system's authorities and TLS 1.2 or later.
	TLS *tls.Config
	// PathStyle puts the bucket into the path instead of the host's name.
	// Defaults to false: by the host's name at Amazon, Google and Alibaba, in
	// the path elsewhere.
	PathStyle bool
	// CheckBucket makes Open fail where the bucket is not there; CreateBucket
	// makes it there instead. Both default to false: Open speaks to nobody.
	CheckBucket  bool
	CreateBucket bool
	// PartBytes is the size of the parts of large objects and what a Put holds in
	// memory at most, 5 MiB to 5 GiB. Defaults to 8 MiB. Objects of over 10,000
	// parts are blob.ErrTooLarge.
	PartBytes int64
	// Attempts a request, at least 1. Defaults to 4.
	Attempts int
	// ListPage is how many objects a request of a listing asks for, 1 to 1000.
	// Defaults to 1000.
	ListPage int
}

const (
	minPart  = 5 << 20 // S3's own bounds of parts
	maxPart  = 5 << 30
	maxParts = 10_000

	defaultEndpoint = "s3.amazonaws.com"
	defaultRegion   = "us-east-1"
	defaultPart     = 8 << 20
	defaultAttempts = 4
	maxListPage     = 1000

	// How long the server may take for each step, so that one that hangs is
	// noticed; how long a body may take is the caller's context.
	dialTimeout   = 10 * time.Second
	tlsTimeout    = 10 * time.Second
	headerTimeout = 30 * time.Second
	idleTimeout   = 90 * time.Second
	idlePerHost   = 16
)

// Store is a bucket of blobs. See blob.Store.
type Store struct {
	client    minio.Core
	transport *http.Transport
	opts      Options
	prefix    string // of keys, with its slash
	closed    atomic.Bool
}

var _ blob.Store = (*Store)(nil)

// Open makes a store over a bucket. Wrong options are blob.ErrInvalid; a bucket
// that is asked for and is not there, or cannot be made, has its own error.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, fmt.Errorf("open blobs in S3: %w: %w", blob.ErrInvalid, err)
	}
	s := &Store{opts: opts, transport: transport(opts.TLS)}
	if opts.Prefix != "" {
		s.prefix = opts.Prefix + "/"
	}
	lookup := minio.BucketLookupAuto
	if opts.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(opts.Endpoint, &minio.Options{
		Creds:        opts.credentials(),
		Secure:       !opts.PlainHTTP,
		Transport:    s.transport,
		Region:       opts.Region,
		BucketLookup: lookup,
		MaxRetries:   1, // see try
	})
	if err != nil {
		return nil, fmt.Errorf("open blobs at %s: %w: %w", opts.Endpoint, blob.ErrInvalid, err)
	}
	s.client = minio.Core{Client: client}
	if err := s.prepareBucket(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// complete checks the options and fills in the defaults.
func (o Options) complete() (Options, error) {
	if o.Endpoint == "" {
		o.Endpoint = defaultEndpoint
	}
	if o.Region == "" {
		o.Region = defaultRegion
	}
	if o.PartBytes == 0 {
		o.PartBytes = defaultPart
	}
	if o.Attempts == 0 {
		o.Attempts = defaultAttempts
	}
	if o.ListPage == 0 {
		o.ListPage = maxListPage
	}
	var errs []error
	if err := CheckPlace(o.Bucket, o.Prefix); err != nil {
		errs = append(errs, err)
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		errs = append(errs, errors.New("want access key and secret key, or neither"))
	}
	if o.PartBytes < minPart || o.PartBytes > maxPart {
		errs = append(errs, fmt.Errorf("parts of %d bytes, want %d to %d", o.PartBytes, minPart, maxPart))
	}
	if o.Attempts < 1 {
		errs = append(errs, fmt.Errorf("%d attempts, want at least 1", o.Attempts))
	}
	if o.ListPage < 1 || o.ListPage > maxListPage {
		errs = append(errs, fmt.Errorf("pages of %d objects, want 1 to %d", o.ListPage, maxListPage))
	}
	return o, errors.Join(errs...)
}

func (o Options) credentials() *credentials.Credentials {
	if o.AccessKey != "" {
		return credentials.NewStaticV4(o.AccessKey, o.SecretKey.Reveal(), "")
	}
	return credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.IAM{}})
}

func transport(conf *tls.Config) *http.Transport {
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConnsPerHost:   idlePerHost,
		// An object is what it is.
		DisableCompression: true,
	}
}

func (s *Store) prepareBucket(ctx context.Context) error {
	if !s.opts.CheckBucket && !s.opts.CreateBucket {
		return nil
	}
	var there bool
	err := s.try(ctx, func() (err error) {
		there, err = s.client.BucketExists(ctx, s.opts.Bucket)
		return err
	})
	if err != nil {
		return classify(ctx.Err(), "look for bucket "+s.opts.Bucket, err)
	}
	if there {
		return nil
	}
	if !s.opts.CreateBucket {
		return fmt.Errorf("bucket %s at %s: %w", s.opts.Bucket, s.opts.Endpoint, blob.ErrNotFound)
	}
	err = s.try(ctx, func() error {
		return s.client.MakeBucket(ctx, s.opts.Bucket, minio.MakeBucketOptions{Region: s.opts.Region})
	})
	if minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
		// Another process was faster.
		return nil
	}
	return classify(ctx.Err(), "make bucket "+s.opts.Bucket, err)
}

// Close is blob.Store's.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.transport.CloseIdleConnections()
	return nil
}

// check says whether a call may begin.
func (s *Store) check(ctx context.Context, name string) error {
	if s.closed.Load() {
		return blob.ErrClosed
	}
	return errors.Join(blob.CheckName(name), ctx.Err())
}

// Open is blob.Store's.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := s.check(ctx, name); err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	var body io.ReadCloser
	var info minio.ObjectInfo
	err := s.try(ctx, func() (err error) {
		body, info, _, err = s.client.GetObject(ctx, s.opts.Bucket, s.prefix+name, minio.GetObjectOptions{})
		return err
	})
	if err != nil {
		return nil, 0, classify(ctx.Err(), "open blob "+name, err)
	}
	return &object{ended: ctx.Err, name: name, body: body}, info.Size, nil
}

// object is one being read.
type object struct {
	ended func() error // why the context ended, nil while it goes on
	name  string
	body  io.ReadCloser
}

func (o *object) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	if err != nil && err != io.EOF {
		return n, classify(o.ended(), "read blob "+o.name, err)
	}
	return n, err
}

func (o *object) Close() error { return classify(o.ended(), "close blob "+o.name, o.body.Close()) }

// Delete is blob.Store's.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.check(ctx, name); err != nil {
		return fmt.Errorf("delete blob: %w", err)
	}
	err := s.try(ctx, func() error {
		return s.client.RemoveObject(ctx, s.opts.Bucket, s.prefix+name, minio.RemoveObjectOptions{})
	})
	err = classify(ctx.Err(), "delete blob "+name, err)
	// Some servers answer so, where S3 says that all is well.
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	return err
}

// List is blob.Store's. It holds one page in memory.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		err := blob.CheckListing(prefix, after)
		if s.closed.Load() {
			err = blob.ErrClosed
		}
		if err != nil {
			yield(blob.Info{}, fmt.Errorf("list blobs: %w", err))
			return
		}
		enough := false
		err = s.try(ctx, func() (err error) {
			after, enough, err = s.list(ctx, prefix, after, yield)
			return err
		})
		// The client ends a listing without a word when the context ends.
		if err = errors.Join(ctx.Err(), err); err != nil && !enough {
			yield(blob.Info{}, classify(ctx.Err(), "list blobs", err))
		}
	}
}

// list gives what comes after, and answers with the last of it, so that the
// next attempt goes on behind it, and whether nobody wants more.
func (s *Store) list(ctx context.Context, prefix, after string, yield func(blob.Info, error) bool) (string, bool, error) {
	opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, MaxKeys: s.opts.ListPage}
	if after != "" {
		opts.StartAfter = s.prefix + after
	}
	for o := range s.client.ListObjectsIter(ctx, s.opts.Bucket, opts) {
		if o.Err != nil {
			return after, false, o.Err
		}
		name, ok := strings.CutPrefix(o.Key, s.prefix)
		// Others may keep things beside; not every server knows StartAfter.
		if !ok || blob.CheckName(name) != nil || name <= after {
			continue
		}
		if !yield(blob.Info{Name: name, Size: o.Size, Modified: o.LastModified}, nil) {
			return after, true, nil
		}
		after = name
	}
	return after, false, nil
}
