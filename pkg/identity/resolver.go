package identity

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/parleyhq/parley/pkg/identity/recent"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Resolver turns identifiers into profiles by the tenant's rules and secret. May
// be used concurrently.
type Resolver struct {
	secret []byte

	rules   sync.RWMutex // guards the two below
	common  *ruleSet
	tenants map[string]*ruleSet

	mu      sync.Mutex // guards the two below
	hasher  *hasher
	numbers *recent.Map[spelling, number]
}

// ruleSet is rules and what is looked up in them. It stays as it is.
type ruleSet struct {
	Rules
	roles  map[string]struct{}
	shared map[value]struct{}
}

type value struct{ kind, normal string }

// spelling of a phone number and the region that it is read in.
type spelling struct{ region, text string }

// number is what a spelling stands for: parsing one costs more than everything
// else that is done to an event.
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

// NewResolver checks the rules, which are those of every tenant without rules of its own.
// The secret is the tenants' common one; every tenant's profile ids differ all
// the same.
func NewResolver(rules Rules, secret []byte) (*Resolver, error) {
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("%w: the secret has %d bytes, must have at least %d", errRules, len(secret), MinSecretBytes)
	}
	common, err := newRuleSet(rules)
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		secret:  bytes.Clone(secret),
		common:  common,
		tenants: map[string]*ruleSet{},
		numbers: recent.New[spelling, number](rememberedNumbers),
	}
	r.hasher = newHasher(r.secret)
	return r, nil
}

func newRuleSet(rules Rules) (*ruleSet, error) {
	if err := rules.Validate(); err != nil {
		return nil, err
	}
	set := &ruleSet{Rules: rules, roles: map[string]struct{}{}, shared: map[value]struct{}{}}
	for _, part := range rules.SharedLocalParts {
		set.roles[strings.ToLower(part)] = struct{}{}
	}
	for kind, values := range rules.SharedValues {
		for _, v := range values {
			normal, err := Normalize(kind, v, rules.DefaultRegion)
			if err != nil {
				return nil, fmt.Errorf("%w: shared value: %w", errRules, err)
			}
			set.shared[value{kind, normal}] = struct{}{}
		}
	}
	return set, nil
}

func (r *Resolver) of(tenant string) *ruleSet {
	r.rules.RLock()
	defer r.rules.RUnlock()
	if set, ok := r.tenants[tenant]; ok {
		return set
	}
	return r.common
}

// Rules of a tenant. They stay as they are.
func (r *Resolver) Rules(tenant string) *Rules { return &r.of(tenant).Rules }

// Defaults are the rules of every tenant without rules of its own. They stay as
// they are.
func (r *Resolver) Defaults() *Rules { return &r.common.Rules }

// SetRules gives a tenant rules of its own.
func (r *Resolver) SetRules(tenant string, rules Rules) error {
	set, err := newRuleSet(rules)
	if err != nil {
		return err
	}
	r.rules.Lock()
	r.tenants[tenant] = set
	r.rules.Unlock()
	return nil
}

// ForgetRules takes every tenant's own rules away.
func (r *Resolver) ForgetRules() {
	r.rules.Lock()
	clear(r.tenants)
	r.rules.Unlock()
}

// Lookup says which profile an identifier is, or wraps ErrMalformed,
// ErrPlaceholder or ErrWithheld where it identifies nobody. It says nothing of whether anybody
// was ever seen with it.
func (r *Resolver) Lookup(tenant, kind, value string) (Resolved, error) {
	return r.lookup(r.of(tenant), tenant, kind, value)
}

// LookupClaim says which profile stands for those who claimed an identifier
// without being believed. It links with nothing.
func (r *Resolver) LookupClaim(tenant, kind, value string) (Resolved, error) {
	got, err := r.lookup(r.of(tenant), tenant, kind, value)
	if err != nil {
		return Resolved{}, err
	}
	got.ProfileID = r.profileID(tenant, claimed+kind, got.Value)
	got.Strength = strengthShared
	return got, nil
}

// claimed begins the kind that claims are hashed under. No kind has a star.
const claimed = "*"

func (r *Resolver) lookup(set *ruleSet, tenant, kind, text string) (Resolved, error) {
	normal, err := r.normalize(set, kind, text)
	if err != nil {
		return Resolved{}, err
	}
	return Resolved{Kind: kind, Value: normal, Strength: set.strength(kind, normal), ProfileID: r.profileID(tenant, kind, normal)}, nil
}

func (r *Resolver) profileID(tenant, kind, normal string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hasher.profileID(tenant, kind, normal)
}

func (r *Resolver) normalize(set *ruleSet, kind, text string) (string, error) {
	if kind != KindPhone {
		return Normalize(kind, text, set.DefaultRegion)
	}
	k := spelling{set.DefaultRegion, text}
	r.mu.Lock()
	n, ok := r.numbers.Get(k)
	r.mu.Unlock()
	if ok {
		return n.normal, n.err
	}
	n.normal, n.err = Normalize(kind, text, set.DefaultRegion)
	if len(text) <= MaxValueBytes {
		k.text = strings.Clone(text)
		r.mu.Lock()
		r.numbers.Put(k, n)
		r.mu.Unlock()
	}
	return n.normal, n.err
}

func (s *ruleSet) strength(kind, normal string) eventv1.IdentifierStrength {
	if kind == KindEmail {
		if _, role := s.roles[roleOf(normal)]; role {
			return strengthShared
		}
	}
	if len(s.shared) > 0 {
		if _, yes := s.shared[value{kind, normal}]; yes {
			return strengthShared
		}
	}
	return s.Kind(kind).Strength
}

// Blocked are the identifiers that the rules of a tenant, as they would be with these, block by their
// value, in no particular order.
func (r *Resolver) Blocked(tenant string, rules Rules) ([]Resolved, error) {
	set, err := newRuleSet(rules)
	if err != nil {
		return nil, err
	}
	var out []Resolved
	for v := range set.shared {
		out = append(out, Resolved{Kind: v.kind, Value: v.normal, Strength: strengthShared, ProfileID: r.profileID(tenant, v.kind, v.normal)})
	}
	slices.SortFunc(out, func(a, b Resolved) int { return strings.Compare(a.ProfileID, b.ProfileID) })
	return out, nil
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
	set := r.of(ev.GetTenant())
	ids := ev.GetIdentifiers()
	kept := ids[:0]
	for _, id := range ids {
		got, err := r.lookup(set, ev.GetTenant(), id.GetKind(), id.GetValue())
		if err != nil {
			dropped = append(dropped, Dropped{Kind: id.GetKind(), Err: err})
			continue
		}
		if id.GetAssurance() == eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED {
			got.ProfileID = r.profileID(ev.GetTenant(), claimed+got.Kind, got.Value)
			got.Strength = strengthShared
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
	ev.ProfileId, ev.ProfileKind = "", ""
	if s := set.strongest(kept); s != nil {
		ev.ProfileId, ev.ProfileKind = s.GetProfileId(), s.GetKind()
	}
	return dropped
}

// strongest is the customer's identifier that names him most surely: by
// strength, then by the rank of its kind, then the first; nil where none is the customer's.
// The identifiers have been stamped. One that is shared is better than none:
// what it was used for stays visible with it. What nobody could check comes behind all that a
// source vouches for, and a claim comes last.
func (s *ruleSet) strongest(ids []*eventv1.Identifier) *eventv1.Identifier {
	var best *eventv1.Identifier
	for _, id := range ids {
		if isCustomers(id) && (best == nil || s.stronger(id, best)) {
			best = id
		}
	}
	return best
}

func (s *ruleSet) stronger(a, b *eventv1.Identifier) bool {
	return cmp.Or(
		cmp.Compare(b.GetAssurance(), a.GetAssurance()),
		cmp.Compare(a.GetStrength(), b.GetStrength()),
		cmp.Compare(s.Kind(b.GetKind()).Rank, s.Kind(a.GetKind()).Rank),
	) > 0
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
