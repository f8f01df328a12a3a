package view

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/wire"
)

// GetDocument reads a document into a message of its type.
func GetDocument[M proto.Message](ctx context.Context, r Reader, collection string, key Key, into M) (M, error) {
	data, err := r.Get(ctx, collection, key)
	if err != nil {
		return into, fmt.Errorf("get %s of %s: %w", key.ID, collection, err)
	}
	if err := wire.Unmarshal(data, into); err != nil {
		return into, fmt.Errorf("get %s of %s: %w: %w", key.ID, collection, ErrCorrupt, err)
	}
	return into, nil
}
