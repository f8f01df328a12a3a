package tenant

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Identity is on whose behalf a call is made, and what it may do.
type Identity struct {
	// Tenant is the wall that nothing of this call may cross.
	Tenant string
	// Source names where recorded interactions come from, a URI reference, for
	// example `shop`. Event ids from outside are unique within it.
	Source string
	// Scopes is what the credential allows.
	Scopes Scopes
	// Credential names the credential for logs and rate limits. It is no
	// secret. Empty for a call that needed none.
	Credential string
}

// Scopes is a set of what a credential allows.
type Scopes uint8

// The scopes. Ops includes neither of the others.
const (
	// Record allows to record interactions.
	Record Scopes = 1 << iota
	// Read allows to read customers and events.
	Read
	// Ops allows what operators do: projections, quarantine.
	Ops

	// None allows nothing.
	None Scopes = 0
	// All allows everything.
	All = Record | Read | Ops
)

// scopeNames is in the order of the bits.
var scopeNames = []struct {
	scope Scopes
	name  string
}{{Record, "record"}, {Read, "read"}, {Ops, "ops"}}

// Has says whether all of wanted is allowed.
func (s Scopes) Has(wanted Scopes) bool { return s&wanted == wanted }

// String is the names joined by commas; "none" for the empty set.
func (s Scopes) String() string {
	names := s.Names()
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}

// Names are the names of the scopes in the set, in a fixed order.
func (s Scopes) Names() []string {
	var names []string
	for _, n := range scopeNames {
		if s.Has(n.scope) {
			names = append(names, n.name)
		}
	}
	return names
}

// ParseScopes reads names as Names gives them; the order does not matter. An
// unknown name is an error that lists those there are.
func ParseScopes(names []string) (Scopes, error) {
	var set Scopes
	for _, name := range names {
		i := slices.IndexFunc(scopeNames, func(n struct {
			scope Scopes
			name  string
		},
		) bool {
			return n.name == strings.TrimSpace(name)
		})
		if i < 0 {
			return None, fmt.Errorf("scope %q is unknown; there are %s", name, strings.Join(All.Names(), ", "))
		}
		set |= scopeNames[i].scope
	}
	return set, nil
}

type contextKey struct{}

// NewContext returns a context that carries the identity.
func NewContext(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// From returns the identity that the context carries; false where it has none.
func From(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(contextKey{}).(Identity)
	return id, ok
}
