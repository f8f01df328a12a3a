package bloburl

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/fsblob"
	"github.com/parleyhq/parley/pkg/blob/s3blob"
	"github.com/parleyhq/parley/pkg/config"
)

// Options are what does not stand in a location.
type Options struct {
	// Dir is the folder of the empty location.
	Dir string
	// AccessKey and SecretKey of S3. Default to what the environment or the
	// machine's role gives; see s3blob.Options.
	AccessKey string
	SecretKey config.Secret
}

// Open opens the store. A location that Check refuses is blob.ErrInvalid; the
// other errors are the drivers'. A bucket is looked for, so that a wrong setting
// fails at the start. The caller closes the store.
func Open(ctx context.Context, location string, opts Options) (blob.Store, error) {
	p, err := parse(location)
	if err != nil {
		return nil, err
	}
	if p.bucket == nil {
		if p.dir == "" {
			p.dir = opts.Dir
		}
		// Not the driver's result as it is: a nil store must be a nil interface.
		s, err := fsblob.Open(p.dir)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	p.bucket.AccessKey, p.bucket.SecretKey = opts.AccessKey, opts.SecretKey
	s, err := s3blob.Open(ctx, *p.bucket)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Check says what is wrong with a location, without opening it: blob.ErrInvalid.
func Check(location string) error {
	_, err := parse(location)
	return err
}

// place is a folder or a bucket.
type place struct {
	dir    string
	bucket *s3blob.Options
}

// maxLocation bounds what is looked at, in bytes.
const maxLocation = 4096

const forms = "want a folder, or s3://bucket/prefix?endpoint=…&region=…"

func parse(location string) (place, error) {
	fail := func(err error) (place, error) {
		return place{}, fmt.Errorf("location of blobs: %w: %w", blob.ErrInvalid, err)
	}
	if len(location) > maxLocation || strings.ContainsFunc(location, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fail(errors.New(forms))
	}
	scheme, _, isURL := strings.Cut(location, "://")
	if !isURL {
		// `s3:bucket` is a slip, not a folder.
		if strings.HasPrefix(location, "s3:") || strings.HasPrefix(location, "file:") {
			return fail(errors.New(forms))
		}
		return place{dir: location}, nil
	}
	u, err := url.Parse(location)
	if err != nil {
		// Its message repeats the location, which may hold a credential.
		return fail(errors.New("is no URL; " + forms))
	}
	if u.User != nil {
		return fail(errors.New("it is shown and logged; give credentials by their own settings"))
	}
	if u.Fragment != "" || u.Opaque != "" {
		return fail(errors.New(forms))
	}
	switch scheme {
	case "file":
		if u.Host != "" || u.RawQuery != "" || !path.IsAbs(u.Path) {
			return fail(errors.New("want file:///folder"))
		}
		return place{dir: u.Path}, nil
	case "s3":
		b, err := parseBucket(u)
		if err != nil {
			return fail(err)
		}
		return place{bucket: b}, nil
	default:
		return fail(fmt.Errorf("there are no blobs in %.20q; %s", scheme, forms))
	}
}

// parameters of s3 in a location.
const (
	paramEndpoint  = "endpoint"
	paramRegion    = "region"
	paramPathStyle = "path-style"
	paramCreate    = "create"
)

func parseBucket(u *url.URL) (*s3blob.Options, error) {
	o := &s3blob.Options{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), CheckBucket: true}
	if err := s3blob.CheckPlace(o.Bucket, o.Prefix); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("its parameters cannot be read")
	}
	known := []string{paramEndpoint, paramRegion, paramPathStyle, paramCreate}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no parameter %.50q; there are %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("parameter %s is there twice", name)
		}
	}
	if o.Region = query.Get(paramRegion); len(o.Region) > 63 || strings.Trim(o.Region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return nil, errors.New("region: want letters, digits, - and _")
	}
	if o.Endpoint, o.PlainHTTP, err = parseEndpoint(query.Get(paramEndpoint)); err != nil {
		return nil, err
	}
	for name, to := range map[string]*bool{paramPathStyle: &o.PathStyle, paramCreate: &o.CreateBucket} {
		if v := query.Get(name); v != "" {
			if *to, err = strconv.ParseBool(v); err != nil {
				return nil, fmt.Errorf("%s: want true or false", name)
			}
		}
	}
	return o, nil
}

// parseEndpoint reads `host`, `host:port` or a URL of them.
func parseEndpoint(s string) (host string, plain bool, err error) {
	if s == "" {
		return "", false, nil
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Hostname() == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false, errors.New("endpoint: want host, host:port or https://host:port")
	}
	return u.Host, u.Scheme == "http", nil
}
