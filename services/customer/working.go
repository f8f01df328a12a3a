package customer

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/wire"
)

// A document has two forms. The working form is what folds and combines; the
// finished one is what people see, and what is stored. They differ in this:
//
//   - A trait taken away stands in the working form with the value `null`, so
//     that an older value that arrives later stays away.
//   - An organisation has up to three entries in the working form (affiliations.go).
//   - Amounts are kept by order in the working form (orders.go).
//   - What is derived (display name, preferred channel, the order of the
//     identifiers) is set by finishing.
//
// A finished document carries what its working form has beyond it in one field
// behind all others, workingField, which Customer does not declare: encoded, it
// is the tail of the document, and serving is cutting it off (see visible).
// Most documents have none: then both forms are the same.

// workingField is the field in which a stored document carries the rest of its
// working form: a Customer with the traits taken away, and orders and
// affiliations as they are in working form.
const workingField protowire.Number = 100

// spoiledField marks a document that could not be combined or finished, and
// says why. Everything that reads it fails, so that the projection halts at the
// customer's next event and no reader is told half of it.
const spoiledField protowire.Number = 101

// spoil marks a document as useless.
func spoil(doc *customerv1.Customer, err error) {
	mark := protowire.AppendTag(nil, spoiledField, protowire.BytesType)
	doc.ProtoReflect().SetUnknown(protowire.AppendString(mark, err.Error()))
}

// expandFor brings into working form what the event concerns.
func expandFor(doc *customerv1.Customer, ev *eventv1.Event) error {
	switch ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_TraitsUpdated, *eventv1.Payload_OrderCompleted,
		*eventv1.Payload_OrderRefunded, *eventv1.Payload_AffiliationAsserted:
		return expand(doc)
	default:
		if tail := doc.ProtoReflect().GetUnknown(); len(tail) > 0 {
			return checkTail(tail)
		}
		return nil
	}
}

// checkTail says whether a document's undeclared fields begin with the rest of
// its working form.
func checkTail(tail []byte) error {
	number, typ, n := protowire.ConsumeTag(tail)
	switch {
	case n >= 0 && number == workingField && typ == protowire.BytesType:
		return nil
	case n >= 0 && number == spoiledField && typ == protowire.BytesType:
		reason, _ := protowire.ConsumeBytes(tail[n:])
		return fmt.Errorf("customer document: %w: %s", errSpoiled, reason)
	default:
		return fmt.Errorf("customer document: field %d of wire type %d: %w", number, typ, errNotOurs)
	}
}

// expand brings a document into working form; one that is stays as it is.
func expand(doc *customerv1.Customer) error {
	tail := doc.ProtoReflect().GetUnknown()
	if len(tail) == 0 {
		return nil
	}
	if err := checkTail(tail); err != nil {
		return err
	}
	n := protowire.SizeTag(workingField)
	encoded, m := protowire.ConsumeBytes(tail[n:])
	if m < 0 || n+m != len(tail) {
		return fmt.Errorf("customer document: working form: %w", errNotOurs)
	}
	rest := &customerv1.Customer{}
	if err := wire.Unmarshal(encoded, rest); err != nil {
		return fmt.Errorf("customer document: working form: %w", err)
	}
	doc.ProtoReflect().SetUnknown(nil)
	doc.Traits = merge(doc.GetTraits(), rest.GetTraits(), compareTraits, first)
	if rest.GetAffiliations() != nil {
		doc.Affiliations = rest.GetAffiliations()
	}
	if rest.GetOrders() != nil {
		doc.Orders.Totals = rest.GetOrders().GetTotals()
		doc.Orders.Refunds = rest.GetOrders().GetRefunds()
	}
	return nil
}

// collapse brings a document into finished form; one that is stays as it is.
func collapse(doc *customerv1.Customer) error {
	if tail := doc.ProtoReflect().GetUnknown(); len(tail) > 0 {
		return checkTail(tail)
	}
	var rest customerv1.Customer
	if slices.ContainsFunc(doc.GetTraits(), isTakenAway) {
		live := make([]*customerv1.CustomerTrait, 0, len(doc.GetTraits()))
		for _, trait := range doc.GetTraits() {
			if isTakenAway(trait) {
				rest.Traits = append(rest.Traits, trait)
			} else {
				live = append(live, trait)
			}
		}
		doc.Traits = live
	}
	if hasParts(doc.GetAffiliations()) {
		rest.Affiliations = doc.GetAffiliations()
		doc.Affiliations = finishAffiliations(doc.GetAffiliations())
	}
	if o := doc.GetOrders(); !plainSums(o.GetTotals()) || !plainSums(o.GetRefunds()) {
		rest.Orders = &customerv1.OrderSummary{Totals: o.GetTotals(), Refunds: o.GetRefunds()}
		o.Totals, o.Refunds = finishOrders(o)
	}
	if rest.Traits == nil && rest.Affiliations == nil && rest.Orders == nil {
		return nil
	}
	tail := protowire.AppendTag(nil, workingField, protowire.BytesType)
	tail = protowire.AppendVarint(tail, uint64(wire.Size(&rest)))
	tail, err := wire.Append(tail, &rest)
	if err != nil {
		return fmt.Errorf("customer document: working form: %w", err)
	}
	doc.ProtoReflect().SetUnknown(tail)
	return nil
}

// visible is the part of a stored document that is served: all but the rest of
// the working form. Nothing is copied.
func visible(stored []byte) ([]byte, error) {
	for i := 0; i < len(stored); {
		number, _, n := protowire.ConsumeField(stored[i:])
		if n < 0 {
			return nil, fmt.Errorf("customer document of %d bytes, at %d: %w", len(stored), i, protowire.ParseError(n))
		}
		if number >= workingField {
			return stored[:i:i], checkTail(stored[i:])
		}
		i += n
	}
	return stored, nil
}

// decodeVisible reads what is served of a stored document.
func decodeVisible(stored []byte) (*customerv1.Customer, error) {
	doc := &customerv1.Customer{}
	if err := wire.Unmarshal(stored, doc); err != nil {
		return nil, fmt.Errorf("customer document: %w", err)
	}
	if tail := doc.ProtoReflect().GetUnknown(); len(tail) > 0 {
		if err := checkTail(tail); err != nil {
			return nil, err
		}
		doc.ProtoReflect().SetUnknown(nil)
	}
	return doc, nil
}
