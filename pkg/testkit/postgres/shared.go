package postgres

import (
	"context"
	"fmt"
	"os"
	"sync"
)

// URLVariable is the environment variable with the URL of the server to use
// instead of a throw-away cluster.
const URLVariable = "PARLEY_TEST_POSTGRES"

// sharedServer is the server of Database, found or started by the first call.
// Every later call gets the same answer. It is never closed: a cluster goes
// with the process.
var sharedServer = sync.OnceValues(func() (*server, error) {
	ctx := context.Background()
	if external := os.Getenv(URLVariable); external != "" {
		return externalServer(ctx, external)
	}
	binaries, err := provide(ctx, thisMachine(), true)
	if err != nil {
		return nil, err
	}
	var o options
	MaxConnections(200)(&o)
	c, err := startCluster(ctx, binaries, o)
	if err != nil {
		return nil, err
	}
	return c.server, nil
})

// externalServer is the server that the environment names.
func externalServer(ctx context.Context, external string) (*server, error) {
	s, err := newServer(ctx, external, external, "")
	if err == nil {
		err = s.mayCreate(ctx)
	}
	if err == nil {
		err = s.dropAbandoned(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("the server that %s names: %w\nLet it name a running server as postgres://user:password@host:port/database, with a role that may create databases, or unset it to use a throw-away cluster", URLVariable, err)
	}
	return s, nil
}
