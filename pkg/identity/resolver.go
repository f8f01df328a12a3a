package identity

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/parleyhq/parley/pkg/identity/recent"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Resolver turns identifiers into profiles by the rules and the tenant's
// secret. May be used concurrently.
type Resolver struct {
	rules  Rules
	secret []byte
	roles  map[string]struct{}
	shared map[shared]struct{}

	mu      sync.Mutex
	hasher  *hasher
	numbers *recent.Map[string, number]
}

type shared struct{ kind, value string }

// number is what a spelling of a phone number stands for: parsing one costs
// more than everything else that is done to an event.
type number struct {
	normal string
	err    error
}

const rememberedNumbers = 8 << 10

// Resolved is an identifier that identifies: its normal value, how surely it
// names one person, and the profile that it is.
type Resolved struct {
	Kind      string
	Value     string
	Strength  eventv1.IdentifierStrength
	ProfileID string
}

// NewResolver checks the rules. The secret is the tenants' common one; every
// tenant's profile ids differ all the same.
func NewResolver(rules Rules, secret []byte) (*Resolver, error) {
	if err := rules.Validate(); err != nil {
		return nil, err
	}
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("%w: the secret has %d bytes, must have at least %d", errRules, len(secret), MinSecretBytes)
	}
	r := &Resolver{
		rules:   rules,
		secret:  bytes.Clone(secret),
		roles:   map[string]struct{}{},
		shared:  map[shared]struct{}{},
		numbers: recent.New[string, number](rememberedNumbers),
	}
	r.hasher = newHasher(r.secret)
	for _, part := range rules.SharedLocalParts {
		r.roles[part] = struct{}{}
	}
	for kind, values := range rules.SharedValues {
		for _, v := range values {
			normal, err := Normalize(kind, v, rules.DefaultRegion)
			if err != nil {
				return nil, fmt.Errorf("%w: shared value: %w", errRules, err)
			}
			r.shared[shared{kind, normal}] = struct{}{}
		}
	}
	return r, nil
}

// Rules are those that the resolver was made with.
func (r *Resolver) Rules() *Rules { return &r.rules }

// Lookup says which profile an identifier is, or wraps ErrMalformed,
// ErrPlaceholder or ErrWithheld where it identifies nobody. It says nothing of whether anybody
// was ever seen with it.
func (r *Resolver) Lookup(tenant, kind, value string) (Resolved, error) {
	normal, err := r.normalize(kind, value)
	if err != nil {
		return Resolved{}, err
	}
	r.mu.Lock()
	id := r.hasher.profileID(tenant, kind, normal)
	r.mu.Unlock()
	return Resolved{Kind: kind, Value: normal, Strength: r.strength(kind, normal), ProfileID: id}, nil
}

func (r *Resolver) normalize(kind, value string) (string, error) {
	if kind != KindPhone {
		return Normalize(kind, value, r.rules.DefaultRegion)
	}
	r.mu.Lock()
	n, ok := r.numbers.Get(value)
	r.mu.Unlock()
	if ok {
		return n.normal, n.err
	}
	n.normal, n.err = Normalize(kind, value, r.rules.DefaultRegion)
	if len(value) <= MaxValueBytes {
		r.mu.Lock()
		r.numbers.Put(strings.Clone(value), n)
		r.mu.Unlock()
	}
	return n.normal, n.err
}

func (r *Resolver) strength(kind, normal string) eventv1.IdentifierStrength {
	if kind == KindEmail {
		if _, role := r.roles[roleOf(normal)]; role {
			return strengthShared
		}
	}
	if len(r.shared) > 0 {
		if _, yes := r.shared[shared{kind, normal}]; yes {
			return strengthShared
		}
	}
	return r.rules.Kind(kind).Strength
}

// Dropped is an identifier that identifies nobody, and why.
type Dropped struct {
	Kind string
	Err  error
}

// Stamp normalises the event's identifiers in place, sets their strengths and
// profiles and the event's own profile, and takes out repetitions and those
// that identify nobody; the latter are returned. Stamping twice is stamping
// once.
func (r *Resolver) Stamp(ev *eventv1.Event) []Dropped {
	var dropped []Dropped
	ids := ev.GetIdentifiers()
	kept := ids[:0]
	for _, id := range ids {
		got, err := r.Lookup(ev.GetTenant(), id.GetKind(), id.GetValue())
		if err != nil {
			dropped = append(dropped, Dropped{Kind: id.GetKind(), Err: err})
			continue
		}
		again := slices.ContainsFunc(kept, func(k *eventv1.Identifier) bool {
			return k.GetProfileId() == got.ProfileID && k.GetRole() == id.GetRole()
		})
		if again {
			continue
		}
		id.Value, id.Strength, id.ProfileId = got.Value, got.Strength, got.ProfileID
		kept = append(kept, id)
	}
	clear(ids[len(kept):])
	ev.Identifiers = kept
	ev.ProfileId = ""
	if s := r.Strongest(kept); s != nil {
		ev.ProfileId = s.GetProfileId()
	}
	return dropped
}

// Strongest is the customer's identifier that names him most surely: by
// strength, then by the rank of its kind, then the first; nil where none is the customer's.
// The identifiers have been stamped. One that is shared is better than none:
// what it was used for stays visible with it.
func (r *Resolver) Strongest(ids []*eventv1.Identifier) *eventv1.Identifier {
	var best *eventv1.Identifier
	for _, id := range ids {
		if !isCustomers(id) {
			continue
		}
		if best == nil || id.GetStrength() > best.GetStrength() ||
			id.GetStrength() == best.GetStrength() && r.rules.Kind(id.GetKind()).Rank < r.rules.Kind(best.GetKind()).Rank {
			best = id
		}
	}
	return best
}

func isCustomers(id *eventv1.Identifier) bool {
	switch id.GetRole() {
	case eventv1.IdentifierRole_IDENTIFIER_ROLE_UNSPECIFIED, eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER:
		return id.GetProfileId() != ""
	case eventv1.IdentifierRole_IDENTIFIER_ROLE_AGENT, eventv1.IdentifierRole_IDENTIFIER_ROLE_COMPANY, eventv1.IdentifierRole_IDENTIFIER_ROLE_OTHER:
		return false
	default:
		return false
	}
}
