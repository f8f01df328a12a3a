package cli

import (
	"context"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
)

// openEventStore opens an EventStoreDB by its URL.
func openEventStore(ctx context.Context, url string) (eventstore.Store, error) {
	store, err := esdb.Open(ctx, esdb.Config{URL: config.Secret(url)})
	if err != nil {
		return nil, err
	}
	return store, nil
}
