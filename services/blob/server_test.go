package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/fsblob"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	blobv1 "github.com/parleyhq/parley/proto/gen/parley/blob/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	service "github.com/parleyhq/parley/services/blob"
)

type house struct {
	t      *testing.T
	dir    string
	store  blob.Store
	vault  *blob.Vault
	client blobv1.BlobServiceClient
	tenant string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), tenant: "acme"}
	var err error
	h.store, err = fsblob.Open(h.dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.store.Close()) })
	h.vault, err = blob.NewVault(h.store, []byte("a secret of the tests, 32 bytes."), blob.Options{})
	require.NoError(t, err)
	s := grpc.NewServer(grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if h.tenant == "" {
			return next(srv, stream)
		}
		return next(srv, &inContext{stream, tenant.NewContext(stream.Context(), tenant.Identity{Tenant: h.tenant, Scopes: tenant.All})})
	}))
	service.NewServer(h.vault).Register(s)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		s.Stop()
		require.NoError(t, <-done)
	})
	h.client = blobv1.NewBlobServiceClient(conn)
	return h
}

type inContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *inContext) Context() context.Context { return s.ctx }

func (h *house) put(content []byte) blob.Ref {
	h.t.Helper()
	ref, err := h.vault.Put(h.t.Context(), "acme", bytes.NewReader(content))
	require.NoError(h.t, err)
	return ref
}

func (h *house) read(text string) ([]byte, int64, error) {
	stream, err := h.client.ReadBlob(h.t.Context(), &blobv1.ReadBlobRequest{Blob: text})
	if err != nil {
		return nil, 0, err
	}
	var whole []byte
	var size int64
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return whole, size, nil
		}
		if err != nil {
			return whole, size, err
		}
		size = max(size, part.GetSizeBytes())
		whole = append(whole, part.GetData()...)
	}
}

func requireReason(t *testing.T, err error, code codes.Code, reason errorv1.Reason) {
	t.Helper()
	e, ok := rpcerr.Parse(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, e.Code)
	require.Equal(t, reason, e.Reason)
}

func TestReadBlob(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 256 << 10, 256<<10 + 1, 3_000_000} {
		content := make([]byte, size)
		_, _ = r.Read(content)
		got, told, err := h.read(h.put(content).Text())
		require.NoError(t, err)
		require.EqualValues(t, size, told)
		require.True(t, bytes.Equal(content, got), "%d bytes", size)
	}
}

func TestReadBlobErrors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ref := h.put([]byte("a mail"))
	_, _, err := h.read("no reference")
	requireReason(t, err, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD)

	h.tenant = "other"
	_, _, err = h.read(ref.Text())
	requireReason(t, err, codes.NotFound, errorv1.Reason_REASON_BLOB_NOT_FOUND)
	h.tenant = ""
	_, _, err = h.read(ref.Text())
	requireReason(t, err, codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS)
	h.tenant = "acme"

	// Somebody changes the stored file.
	changed := 0
	require.NoError(t, filepath.WalkDir(h.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil || len(content) < 20 {
			return err
		}
		content[len(content)-1] ^= 1
		changed++
		return os.WriteFile(path, content, 0o600)
	}))
	require.Positive(t, changed)
	_, _, err = h.read(ref.Text())
	requireReason(t, err, codes.DataLoss, errorv1.Reason_REASON_INTERNAL)

	for info, err := range h.store.List(t.Context(), "", "") {
		require.NoError(t, err)
		require.NoError(t, h.store.Delete(t.Context(), info.Name))
	}
	_, _, err = h.read(ref.Text())
	requireReason(t, err, codes.NotFound, errorv1.Reason_REASON_BLOB_NOT_FOUND)
}
