package serve

import "github.com/parleyhq/parley/pkg/eventstore"

// Log is the log of a process under test.
func (r *Running) Log() eventstore.Store { return r.log }
