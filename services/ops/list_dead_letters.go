package ops

import (
	"context"
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

const (
	deadLettersPurpose = "ops.dead_letters"
	defaultPage        = 100
	largestPage        = view.MaxLimit
)

// ListDeadLetters lists dead letters. All pages are of the generation that the
// first one was of: a switch in between mixes nothing.
func (s *Server) ListDeadLetters(ctx context.Context, req *opsv1.ListDeadLettersRequest) (*opsv1.ListDeadLettersResponse, error) {
	p, err := s.begin(ctx, req.GetGeneration().GetProjection())
	if err != nil {
		return nil, err
	}
	query, err := deadLetterQuery(req)
	if err != nil {
		return nil, err
	}
	fingerprint, err := token.FingerprintOf("", req)
	if err != nil {
		return nil, rpcerr.FromError(err)
	}
	var ns view.Namespace
	if req.GetPageToken() == "" {
		ns, err = p.pinned(ctx, "generation", req.GetGeneration())
	} else {
		ns, query.Cursor, err = parsePage(p.Name(), fingerprint, req.GetPageToken())
	}
	if err != nil {
		return nil, err
	}
	page, err := p.DeadLetters(ctx, ns, query)
	if err != nil {
		return nil, rpcerr.FromError(fmt.Errorf("dead letters of %s: %w", ns, err))
	}
	answer := &opsv1.ListDeadLettersResponse{DeadLetters: page.DeadLetters}
	if page.Next != nil {
		if answer.NextPageToken, err = token.Page(deadLettersPurpose, fingerprint, placeOf(ns, page.Next)); err != nil {
			return nil, rpcerr.FromError(err)
		}
	}
	return answer, nil
}

func deadLetterQuery(req *opsv1.ListDeadLettersRequest) (projection.DeadLetterQuery, error) {
	q := projection.DeadLetterQuery{Tenant: req.GetTenant(), CustomerID: req.GetCustomerId(), States: req.GetStates(), Limit: defaultPage}
	if n := int(req.GetPageSize()); n > 0 {
		q.Limit = min(n, largestPage)
	}
	if q.Tenant != "" && !event.ValidTenant(q.Tenant) {
		return q, rpcerr.InvalidField("tenant", "is no tenant's name")
	}
	if q.CustomerID == "" {
		return q, nil
	}
	if q.Tenant == "" {
		return q, rpcerr.InvalidField("tenant", "must be given with a customer_id: ids are a tenant's own")
	}
	if err := (view.Key{ID: q.CustomerID}).Validate(); err != nil {
		return q, rpcerr.InvalidField("customer_id", "is no id")
	}
	return q, nil
}

// placeSize is the size of a generation's name before the list's own cursor.
const placeSize = 4 + 4

// placeOf is where a list goes on: of which generation, and behind what.
func placeOf(ns view.Namespace, cursor []byte) []byte {
	place := make([]byte, 0, placeSize+len(cursor))
	place = binary.BigEndian.AppendUint32(place, ns.Version)
	place = binary.BigEndian.AppendUint32(place, ns.Generation)
	return append(place, cursor...)
}

// parsePage reads a page token of a request. The generation in it need not be
// one that there is, nor the cursor one of the list.
func parsePage(projectionName string, request token.Fingerprint, pageToken string) (view.Namespace, []byte, error) {
	ns := view.Namespace{Projection: projectionName}
	place, err := token.ParsePage(deadLettersPurpose, request, pageToken)
	if err == nil && len(place) < placeSize {
		err = fmt.Errorf("page token for %s: %d bytes: %w", deadLettersPurpose, len(place), token.ErrInvalid)
	}
	if err != nil {
		return ns, nil, rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
			"page_token was not given out for this request: repeat the one that gave it, or begin anew without one", rpcerr.WithCause(err))
	}
	ns.Version = binary.BigEndian.Uint32(place)
	ns.Generation = binary.BigEndian.Uint32(place[4:])
	if ns.Version == 0 || ns.Generation == 0 {
		return ns, nil, rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, "page_token names no generation")
	}
	return ns, place[placeSize:], nil
}
