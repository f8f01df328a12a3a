package customer

import (
	"cmp"
	"strings"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// How much of each kind one customer's document keeps, so that it stays
// below gRPC's usual 4 MiB whatever is sent. Each list keeps the first of a
// total order that depends only on what never changes of an entry (its name,
// its kind and value; for what one event brings, anything of that event):
// what any part of the events drops, the whole drops too, and what the whole
// keeps, no part has dropped. An order by "last seen" would break the law of
// the fold, because an entry could come back without its past.
const (
	maxIdentifiers  = 1000
	maxTraits       = 320 // values are up to 8 KiB
	maxChannels     = 64
	maxRecent       = 20
	maxLinks        = 256
	maxConsents     = 128
	maxAffiliations = 128 // entries before Finish: up to three an organisation
	maxOrdersKept   = 256 // amounts kept by order id, see orders.go
)

// identifierClass ranks kinds of identifiers: which are kept first, and which
// come first of equal strength. An open kind is a handle of a provider or a
// tenant's own one.
func identifierClass(kind string) int {
	switch kind {
	case "user_id":
		return 0
	case "email":
		return 1
	case "phone":
		return 2
	case "anonymous_id":
		return 5
	default:
		if strings.HasPrefix(kind, "handle:") {
			return 3
		}
		return 4
	}
}

// compareIdentifiers is the order by which identifiers are kept, and in which
// they are combined.
func compareIdentifiers(a, b *customerv1.CustomerIdentifier) int {
	if a.GetKind() != b.GetKind() {
		return cmp.Or(
			cmp.Compare(identifierClass(a.GetKind()), identifierClass(b.GetKind())),
			cmp.Compare(a.GetKind(), b.GetKind()),
		)
	}
	return cmp.Compare(a.GetValue(), b.GetValue())
}
