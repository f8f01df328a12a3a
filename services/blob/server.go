package blob

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	blobv1 "github.com/parleyhq/parley/proto/gen/parley/blob/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Server is the BlobService. Its methods may be called concurrently.
type Server struct {
	blobv1.UnimplementedBlobServiceServer

	vault Vault
}

// Vault is what the server needs of the blobs. *blob.Vault is one.
type Vault interface {
	// Open reads a blob of a tenant.
	Open(ctx context.Context, tenant string, ref blob.Ref) (*blob.Reader, error)
}

// NewServer makes a server over a vault, which it does not close.
func NewServer(vault Vault) *Server { return &Server{vault: vault} }

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { blobv1.RegisterBlobServiceServer(r, s) }

// partBytes is the size of a part.
const partBytes = 256 << 10

// ReadBlob sends a blob in parts.
func (s *Server) ReadBlob(req *blobv1.ReadBlobRequest, stream grpc.ServerStreamingServer[blobv1.ReadBlobResponse]) (err error) {
	ctx := stream.Context()
	who, ok := tenant.From(ctx)
	if !ok {
		return rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "the call names no tenant")
	}
	ref, err := blob.ParseRef(req.GetBlob())
	if err != nil {
		return rpcerr.InvalidField("blob", "is no reference of a blob")
	}
	content, err := s.vault.Open(ctx, who.Tenant, ref)
	if err != nil {
		return failed(err)
	}
	defer func() {
		if closeErr := content.Close(); err == nil && closeErr != nil {
			err = failed(closeErr)
		}
	}()
	size := content.Size()
	part := make([]byte, min(int64(partBytes), max(size, 1)))
	for first := true; ; first = false {
		n, err := io.ReadFull(content, part)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return failed(err)
		}
		if n > 0 || first {
			answer := &blobv1.ReadBlobResponse{Data: part[:n]}
			if first {
				answer.SizeBytes = size
			}
			if err := stream.Send(answer); err != nil {
				return fmt.Errorf("send a part of blob %s: %w", ref, err)
			}
		}
		if end {
			return nil
		}
	}
}

// failed is the error as it may leave the server.
func failed(err error) error {
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return rpcerr.New(codes.NotFound, errorv1.Reason_REASON_BLOB_NOT_FOUND, "no blob has this reference", rpcerr.WithCause(err))
	case errors.Is(err, blob.ErrCorrupt):
		return rpcerr.New(codes.DataLoss, errorv1.Reason_REASON_INTERNAL, "the blob is damaged; the server's log has the rest", rpcerr.WithCause(err))
	case errors.Is(err, blob.ErrUnavailable), errors.Is(err, blob.ErrClosed):
		return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, "the store of blobs cannot be reached", rpcerr.WithCause(err))
	default:
		return rpcerr.FromError(err)
	}
}
