package customer

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

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
// A finished document carries what its working form has beyond it in
// Customer.working, and a document that is of no use says why in
// Customer.spoiled. Both stand behind all other fields: encoded, they are the
// tail of the document, and serving is cutting it off (see visible). Most
// documents have neither: then both forms are the same.

// Numbers of the fields that are stored and never served: nothing that people
// see has a number as high.
const (
	workingField protowire.Number = 100
	spoiledField protowire.Number = 101
)

// spoil marks a document that could not be combined or finished. Everything
// that reads it fails, so that the customer's next event becomes a dead letter
// and no reader is told half of it. The first reason stays.
func spoil(doc *customerv1.Customer, err error) {
	if doc.GetSpoiled() != "" {
		return
	}
	doc.Working = nil
	doc.Spoiled = strings.ToValidUTF8(err.Error(), string(utf8.RuneError))
}

// usable says why a document is none to go on with: it is spoiled, or it has
// what this version does not know and would lose.
func usable(doc *customerv1.Customer) error {
	if reason := doc.GetSpoiled(); reason != "" {
		return fmt.Errorf("customer document: %w: %s", errSpoiled, reason)
	}
	if unknown := doc.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		number, typ, _ := protowire.ConsumeTag(unknown)
		return fmt.Errorf("customer document: field %d of wire type %d: %w", number, typ, errNotOurs)
	}
	return nil
}

// expandFor brings into working form what the event concerns.
func expandFor(doc *customerv1.Customer, ev *eventv1.Event) error {
	switch ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_TraitsUpdated, *eventv1.Payload_OrderCompleted,
		*eventv1.Payload_OrderRefunded, *eventv1.Payload_AffiliationAsserted:
		return expand(doc)
	default:
		return usable(doc)
	}
}

// expand brings a document into working form; one that is stays as it is.
func expand(doc *customerv1.Customer) error {
	if err := usable(doc); err != nil {
		return err
	}
	rest := doc.GetWorking()
	if rest == nil {
		return nil
	}
	if rest.GetOrders() != nil && doc.GetOrders() == nil || len(rest.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("customer document: working form: %w", errNotOurs)
	}
	doc.Working = nil
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
	if err := usable(doc); err != nil || doc.GetWorking() != nil {
		return err
	}
	var rest customerv1.CustomerWorking
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
	if rest.Traits != nil || rest.Affiliations != nil || rest.Orders != nil {
		doc.Working = &rest
	}
	return nil
}

// visible is the part of a stored document that is served: all but what stands
// behind the fields that people see. Nothing is copied.
func visible(stored []byte) ([]byte, error) {
	for i := 0; i < len(stored); {
		number, _, n := protowire.ConsumeField(stored[i:])
		if n < 0 {
			return nil, fmt.Errorf("customer document of %d bytes, at %d: %w", len(stored), i, protowire.ParseError(n))
		}
		if number >= workingField {
			if err := checkTail(stored[i:]); err != nil {
				return nil, err
			}
			return stored[:i:i], nil
		}
		i += n
	}
	return stored, nil
}

// checkTail says whether the tail of a stored document is one that may be cut
// off. What is in it is for folds to read.
func checkTail(tail []byte) error {
	for len(tail) > 0 {
		number, typ, n := protowire.ConsumeTag(tail)
		if n < 0 || typ != protowire.BytesType || number != workingField && number != spoiledField {
			return fmt.Errorf("customer document: field %d of wire type %d: %w", number, typ, errNotOurs)
		}
		content, m := protowire.ConsumeBytes(tail[n:])
		switch {
		case m < 0:
			return fmt.Errorf("customer document: field %d: %w", number, errNotOurs)
		case number == spoiledField:
			return fmt.Errorf("customer document: %w: %s", errSpoiled, content)
		}
		tail = tail[n+m:]
	}
	return nil
}

// decodeVisible reads what is served of a stored document.
func decodeVisible(stored []byte) (*customerv1.Customer, error) {
	served, err := visible(stored)
	if err != nil {
		return nil, err
	}
	doc := &customerv1.Customer{}
	if err := wire.Unmarshal(served, doc); err != nil {
		return nil, fmt.Errorf("customer document: %w", err)
	}
	if err := usable(doc); err != nil {
		return nil, err
	}
	return doc, nil
}
