package identity

import (
	"errors"
	"fmt"
	"strings"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Rules say how identifiers are read and when they link. They are plain data,
// fixed for the life of whoever got them: the same rules on the same log give
// the same graph.
type Rules struct {
	// DefaultRegion is the region (ISO 3166-1 alpha-2) in which a phone number
	// without a country code is read. Empty: such a number identifies nobody.
	DefaultRegion string
	// Kinds by name. An entry that ends with ':' stands for all kinds that
	// begin with it, for example `handle:`.
	Kinds map[string]Kind
	// OtherKinds is for every kind that Kinds does not name.
	OtherKinds Kind
	// SharedLocalParts of e-mail addresses name a role, not a person, at every
	// domain, for example `info`. Lower case.
	SharedLocalParts []string
	// SharedValues are identifiers known to be shared, by kind, for example the
	// number of a switchboard. They are normalised when the rules are taken.
	SharedValues map[string][]string
	// MaxCustomerProfiles is how many profiles links may bring together into
	// one customer. 1 to 10,000, the bound of CustomersMerged.
	MaxCustomerProfiles int
	// LinkProbability is how probable a model must hold two customers for one
	// person to have them linked without being asked. 0.5 to 1; 0 for never.
	LinkProbability float64
}

// Kind is what the rules say about one kind of identifier.
type Kind struct {
	// Strength is how surely it names one person; WEAK or more.
	Strength eventv1.IdentifierStrength
	// Rank among kinds of the same strength; the lowest comes first.
	Rank int
	// Limit is how many of the kind one customer may have; at least 1.
	Limit int
	// SharedAbove is how many different unique identifiers one of the kind may be
	// seen with; with more it counts as shared and links nobody. 1 to 100; of
	// no meaning for a kind that is itself unique.
	SharedAbove int
}

// The kinds that are more than an opaque value.
const (
	KindUserID       = "user_id"
	KindEmail        = "email"
	KindPhone        = "phone"
	KindAnonymousID  = "anonymous_id"
	KindHandlePrefix = "handle:"
)

// Short names for the strengths.
const (
	strengthShared = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_SHARED
	strengthWeak   = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_WEAK
	strengthStrong = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_STRONG
	strengthUnique = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_UNIQUE
)

const (
	maxCustomerProfiles = 10_000
	maxSharedAbove      = 100
)

// DefaultRules are the rules of a tenant that has none of its own.
func DefaultRules() Rules {
	return Rules{
		DefaultRegion: "US",
		Kinds: map[string]Kind{
			KindUserID:       {Strength: strengthUnique, Rank: 0, Limit: 1, SharedAbove: sharedAbove},
			KindEmail:        {Strength: strengthStrong, Rank: 1, Limit: 20, SharedAbove: sharedAbove},
			KindPhone:        {Strength: strengthStrong, Rank: 2, Limit: 20, SharedAbove: sharedAbove},
			KindHandlePrefix: {Strength: strengthStrong, Rank: 3, Limit: 20, SharedAbove: sharedAbove},
			// A browser that forgets its cookie gets a new one each visit.
			KindAnonymousID: {Strength: strengthWeak, Rank: 4, Limit: 500, SharedAbove: sharedAbove},
		},
		OtherKinds:          Kind{Strength: strengthWeak, Rank: 5, Limit: 20, SharedAbove: sharedAbove},
		SharedLocalParts:    strings.Fields(roleLocalParts),
		MaxCustomerProfiles: maxCustomerProfiles,
	}
}

// sharedAbove is what a household and its accounts stay under, and the browser
// of a shop floor or the mailbox of a department do not.
const sharedAbove = 5

// roleLocalParts: RFC 2142 and what companies use beside it, in the languages
// that its users write in.
const roleLocalParts = `
abuse accounting accounts admin administrator billing booking bookings buchhaltung career careers compliance
contact contacto customercare customerservice datenschutz do-not-reply donotreply einkauf empfang enquiries
finance hello helpdesk hostmaster hr info inquiries invoice invoices jobs kontakt kundenservice legal mailer-daemon
mail marketing media newsletter no-reply no_reply noc noreply notifications office orders partner postmaster press
presse privacy purchasing rechnung rechnungen reception recruiting reservation reservations returns root sales
security service shop staff subscribe support team tech unsubscribe usenet verkauf vertrieb webmaster zentrale`

// errRules is wrapped by every complaint about rules.
var errRules = errors.New("identity rules")

// Validate says what is wrong with the rules.
func (r *Rules) Validate() error {
	if r.MaxCustomerProfiles < 1 || r.MaxCustomerProfiles > maxCustomerProfiles {
		return fmt.Errorf("%w: MaxCustomerProfiles is %d, must be 1 to %d", errRules, r.MaxCustomerProfiles, maxCustomerProfiles)
	}
	if n := len(r.DefaultRegion); n != 0 && n != 2 {
		return fmt.Errorf("%w: DefaultRegion %q is no ISO 3166-1 alpha-2 code", errRules, r.DefaultRegion)
	}
	if p := r.LinkProbability; p != 0 && !(p >= 0.5 && p <= 1) {
		return fmt.Errorf("%w: LinkProbability is %v, must be 0.5 to 1, or 0 for never", errRules, p)
	}
	for name, k := range r.Kinds {
		if err := k.validate(name); err != nil {
			return err
		}
	}
	return r.OtherKinds.validate("OtherKinds")
}

func (k Kind) validate(name string) error {
	if k.Strength < strengthWeak || k.Strength > strengthUnique {
		return fmt.Errorf("%w: %s: strength %s, must be WEAK, STRONG or UNIQUE", errRules, name, k.Strength)
	}
	if k.Limit < 1 || k.Limit > maxCustomerProfiles {
		return fmt.Errorf("%w: %s: limit %d, must be 1 to %d", errRules, name, k.Limit, maxCustomerProfiles)
	}
	if k.SharedAbove < 1 || k.SharedAbove > maxSharedAbove {
		return fmt.Errorf("%w: %s: shared above %d, must be 1 to %d", errRules, name, k.SharedAbove, maxSharedAbove)
	}
	return nil
}

// Kind is what the rules say about a kind.
func (r *Rules) Kind(kind string) Kind {
	if k, ok := r.Kinds[kind]; ok {
		return k
	}
	if i := strings.IndexByte(kind, ':'); i >= 0 {
		if k, ok := r.Kinds[kind[:i+1]]; ok {
			return k
		}
	}
	return r.OtherKinds
}
