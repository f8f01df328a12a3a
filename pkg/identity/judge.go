package identity

import (
	"fmt"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// side is one of two components that may become one.
type side struct {
	size  int
	kinds []KindCount
	apart []Mark
}

func sideOf(c *Customer) side { return side{size: len(c.Members), kinds: c.Kinds, apart: c.Apart} }

// refusal is why two components stay two; its zero value is that they need not.
type refusal struct {
	rule   eventv1.LinkRefusal
	reason string
}

func (r refusal) refused() bool { return r.rule != eventv1.LinkRefusal_LINK_REFUSAL_UNSPECIFIED }

// judge says whether evidence may make one of two components. What is refused
// stays refused however much both grow: so only the earliest evidence about
// two profiles counts, and what comes last in the order can be judged against
// the components as they are.
func judge(rules *Rules, a, b side) refusal {
	if toldApart(a.apart, b.apart) {
		return refusal{eventv1.LinkRefusal_LINK_REFUSAL_DECIDED, "A person decided that they are two."}
	}
	if n, m := count(a.kinds, KindUserID), count(b.kinds, KindUserID); n > 0 && m > 0 && n+m > rules.Kind(KindUserID).Limit {
		return refusal{
			eventv1.LinkRefusal_LINK_REFUSAL_TWO_USER_IDS,
			"Each side has a user_id, and the two differ: they stay two customers.",
		}
	}
	for _, k := range b.kinds {
		n := count(a.kinds, k.Kind)
		if limit := rules.Kind(k.Kind).Limit; n > 0 && k.Count > 0 && n+k.Count > limit {
			return refusal{
				eventv1.LinkRefusal_LINK_REFUSAL_KIND_LIMIT,
				fmt.Sprintf("Together they would have %d identifiers of kind %s; one customer has at most %d.", n+k.Count, k.Kind, limit),
			}
		}
	}
	if together := a.size + b.size; together > rules.MaxCustomerProfiles {
		return refusal{
			eventv1.LinkRefusal_LINK_REFUSAL_KIND_LIMIT,
			fmt.Sprintf("Together they would have %d identifiers; one customer has at most %d.", together, rules.MaxCustomerProfiles),
		}
	}
	return refusal{}
}

// unite adds b's to a's. It does not change what either points to.
func unite(a, b side) side {
	u := side{size: a.size + b.size, apart: a.apart}
	u.kinds = append(make([]KindCount, 0, len(a.kinds)+len(b.kinds)), a.kinds...)
	for _, k := range b.kinds {
		u.kinds = addKind(u.kinds, k.Kind, k.Count)
	}
	if len(b.apart) > 0 {
		u.apart = append(make([]Mark, 0, len(a.apart)+len(b.apart)), a.apart...)
		for _, m := range b.apart {
			u.apart = addMark(u.apart, m)
		}
	}
	return u
}
