package blob

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/minio/sio"
)

// Vault encrypts blobs before a store keeps them. Its methods may be called
// concurrently. It owns nothing: the caller closes the store.
type Vault struct {
	store    Store
	root     []byte // what every key and id is derived from
	maxBytes int64
}

// Options of a vault.
type Options struct {
	// MaxBytes is the largest content that Put takes. Defaults to 64 MiB. What
	// is kept already stays readable whatever its size.
	MaxBytes int64
}

const (
	// MinSecret is the least number of bytes of a vault's secret.
	MinSecret = 16
	// DefaultMaxBytes of a content: twice what mail servers commonly take.
	DefaultMaxBytes = 64 << 20

	// contentFormat is the first encrypted byte: the format of what follows. It
	// also keeps an empty content apart from an object that lost everything,
	// which DARE cannot.
	contentFormat = 1
	// hashBuffer is how much of a content is hashed at a time, in bytes.
	hashBuffer = 64 << 10
)

// NewVault makes a vault over a store. The secret, at least MinSecret bytes, is
// the same for all tenants and in all processes; see the package about what
// depends on it.
func NewVault(store Store, secret []byte, opts Options) (*Vault, error) {
	if len(secret) < MinSecret {
		return nil, fmt.Errorf("blob vault: secret of %d bytes, want at least %d: %w", len(secret), MinSecret, ErrInvalid)
	}
	if opts.MaxBytes < 0 {
		return nil, fmt.Errorf("blob vault: at most %d bytes a blob: %w", opts.MaxBytes, ErrInvalid)
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	root, err := hkdf.Extract(sha256.New, secret, []byte("parley blob v1"))
	if err != nil {
		return nil, fmt.Errorf("blob vault: derive from the secret: %w", err)
	}
	return &Vault{store: store, root: root, maxBytes: opts.MaxBytes}, nil
}

// MaxBytes is the largest content that Put takes, for whoever reads one in.
func (v *Vault) MaxBytes() int64 { return v.maxBytes }

// Put keeps the content, from its beginning to its end, and gives the
// reference to it: always the same for the same tenant and content. It reads
// the content twice, so that nothing has to be held in memory, and fails with
// ErrInvalid where it changed between; ErrTooLarge where it has over MaxBytes.
// Errors of the store come through.
func (v *Vault) Put(ctx context.Context, tenant string, content io.ReadSeeker) (Ref, error) {
	if !validTenant(tenant) {
		return Ref{}, fmt.Errorf("put blob of tenant %.100q: %w", tenant, ErrInvalid)
	}
	size, digest, err := v.measure(ctx, content)
	if err != nil {
		return Ref{}, fmt.Errorf("put blob of tenant %s: %w", tenant, err)
	}
	ref, err := v.derive(tenant, digest)
	if err != nil {
		return Ref{}, fmt.Errorf("put blob of tenant %s: %w", tenant, err)
	}
	if err := v.write(ctx, tenant, ref, content, size, digest); err != nil {
		return Ref{}, fmt.Errorf("put %s of tenant %s: %w", ref, tenant, err)
	}
	return ref, nil
}

// measure reads the content once.
func (v *Vault) measure(ctx context.Context, content io.ReadSeeker) (int64, digest, error) {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return 0, digest{}, fmt.Errorf("rewind content: %w", err)
	}
	h := sha256.New()
	// One byte beyond the bound tells that there are too many.
	src := io.LimitReader(contextReader{ctx.Err, content}, v.maxBytes+1)
	size, err := io.CopyBuffer(h, src, make([]byte, hashBuffer))
	if err != nil {
		return 0, digest{}, err
	}
	if size > v.maxBytes {
		return 0, digest{}, fmt.Errorf("over %d bytes: %w", v.maxBytes, ErrTooLarge)
	}
	return size, digest(h.Sum(nil)), nil
}

type digest [sha256.Size]byte

// derive makes key and id of a content (RFC 5869). A tenant holds no NUL and
// the digest has one length, so that no two inputs run together.
func (v *Vault) derive(tenant string, d digest) (Ref, error) {
	about := "\x00" + tenant + "\x00" + string(d[:])
	k, err := hkdf.Expand(sha256.New, v.root, "key"+about, len(key{}))
	if err != nil {
		return Ref{}, fmt.Errorf("derive key: %w", err)
	}
	id, err := hkdf.Expand(sha256.New, v.root, "id"+about, idDigits/2)
	if err != nil {
		return Ref{}, fmt.Errorf("derive id: %w", err)
	}
	return newRef([idDigits / 2]byte(id), key(k)), nil
}

func (v *Vault) write(ctx context.Context, tenant string, ref Ref, content io.ReadSeeker, size int64, d digest) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewind content: %w", err)
	}
	// Exactly as much as was measured, and the same: what the key was not made
	// for must not be encrypted with it. An error of the content is never
	// io.ErrUnexpectedEOF itself here, which DARE would take for the end.
	same := &sameReader{src: NewContent(ctx, content, size), hash: sha256.New(), want: d}
	encrypted, err := sio.EncryptReader(io.MultiReader(bytes.NewReader([]byte{contentFormat}), same), dare(ref))
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	stored, err := sio.EncryptedSize(uint64(size) + 1)
	if err != nil {
		return fmt.Errorf("encrypt %d bytes: %w", size, ErrTooLarge)
	}
	return v.store.Put(ctx, Name(tenant, ref.id), encrypted, int64(stored))
}

// dare is how blobs are encrypted: nothing of it is left to the machine.
func dare(ref Ref) sio.Config {
	k := ref.key.reveal()
	return sio.Config{
		MinVersion:   sio.Version20,
		MaxVersion:   sio.Version20,
		CipherSuites: []byte{sio.AES_256_GCM},
		Key:          k[:],
		Nonce:        new([12]byte),
	}
}

// sameReader fails at the end where the content is another than was measured.
type sameReader struct {
	src  io.Reader
	hash hash.Hash
	want digest
}

func (r *sameReader) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	r.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && digest(r.hash.Sum(nil)) != r.want {
		return n, fmt.Errorf("content changed while it was read: %w", ErrInvalid)
	}
	return n, err
}

// Open gives the content of a blob. It fails with ErrNotFound where there is
// none, with ErrCorrupt where its beginning shows that it is not the one meant,
// and with the store's errors. The caller closes the reader; the context covers
// the reading too.
func (v *Vault) Open(ctx context.Context, tenant string, ref Ref) (*Reader, error) {
	if !validTenant(tenant) || ref.IsZero() {
		return nil, fmt.Errorf("open %s of tenant %.100q: %w", ref, tenant, ErrInvalid)
	}
	r, err := v.open(ctx, tenant, ref)
	if err != nil {
		return nil, fmt.Errorf("open %s of tenant %s: %w", ref, tenant, err)
	}
	return r, nil
}

func (v *Vault) open(ctx context.Context, tenant string, ref Ref) (_ *Reader, err error) {
	object, stored, err := v.store.Open(ctx, Name(tenant, ref.id))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, object.Close())
		}
	}()
	size, err := sio.DecryptedSize(uint64(max(stored, 0)))
	if err != nil || size == 0 {
		return nil, fmt.Errorf("object of %d bytes: %w", stored, ErrCorrupt)
	}
	r := &Reader{ref: ref, object: object, size: int64(size) - 1}
	if r.plain, err = sio.DecryptReader(objectReader{r}, dare(ref)); err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	// Reading the format opens the first chunk: the key is tried here.
	var format [1]byte
	if _, err := io.ReadFull(r.plain, format[:]); err != nil {
		return nil, r.classify(err)
	}
	if format[0] != contentFormat {
		return nil, fmt.Errorf("format %d, this version knows %d: %w", format[0], contentFormat, ErrCorrupt)
	}
	return r, nil
}
