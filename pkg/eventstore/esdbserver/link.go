package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// parseLink reads the data of a link, `revision@stream`. The stream is by its
// outside name.
func parseLink(data []byte) (revision eventstore.Revision, stream string, ok bool) {
	number, name, found := strings.Cut(string(data), "@")
	n, err := strconv.ParseInt(number, 10, 64)
	if !found || err != nil || n < 0 {
		return 0, "", false
	}
	return eventstore.Revision(n), name, true
}

// follow is the event that a link leads to; nil where it leads nowhere: to what
// was never, is deleted or not shown, or is not the tenant's.
func (s *Server) follow(ctx context.Context, link *eventstore.Record, tenant string) (*eventstore.Record, error) {
	revision, name, ok := parseLink(link.Data)
	if !ok {
		return nil, nil
	}
	stream := inside(name)
	if eventstore.ValidateStream(stream) != nil || !owns(tenant, name) {
		return nil, nil
	}
	w, err := s.window(ctx, stream)
	var refused *replyError
	if errors.Is(err, errNotFound) || errors.As(err, &refused) && refused.reason == reasonDeleted {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if revision < w.first || revision > w.head {
		return nil, nil
	}
	for r, err := range s.store.ReadStream(ctx, stream, eventstore.ReadStreamOptions{From: revision, Limit: 1}) {
		if err != nil {
			return nil, fmt.Errorf("follow the link at position %d: %w", link.Position, err)
		}
		if w.meta.expired(r, s.cfg.Now()) {
			return nil, nil
		}
		return r, nil
	}
	return nil, nil
}
