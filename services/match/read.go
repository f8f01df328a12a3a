package match

import (
	"context"
	"sync"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/eventstore"
)

// read is what one call reads by, or one part of a job: whose it is, and the
// generation that served when it began, from which all comes that it uses.
type read struct {
	consistency.Read[*Reader]

	models *models
}

// begin is what a call does first: it waits for what the token asks for. Say then
// whom the call is about.
func (s *Server) begin(ctx context.Context, tenantName, consistencyToken string) (*read, error) {
	begun, err := s.reads.Begin(ctx, tenantName, consistencyToken)
	return &read{Read: begun, models: s.models}, err
}

// now is a read of what there is now, up to position at least, which was waited
// for already; 0 for whatever there is.
func (s *Server) now(tenantName string, position eventstore.Position) *read {
	return &read{Read: s.reads.At(tenantName, position), models: s.models}
}

// models are those that were read last, the newest by tenant: they are large,
// and follow from the event that brought them whichever generation has it.
type models struct {
	mu    sync.Mutex
	known map[string]*fitted
}

func (m *models) get(tenantName string) *fitted {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[tenantName]
}

func (m *models) put(tenantName string, f *fitted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[tenantName] = f
}
