package customer

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Name of the projection.
const Name = "customer"

// Version of what the projection stores: raised with every change of the fold,
// of a collection or of an index.
const Version = 2

const (
	customers = "customers"
	timeline  = "timeline"
	facts     = "identity_facts"

	// byText finds customers by a part of a name, an address, a number or an order's id.
	byText = "text"
	// byForeign finds customers who have an identifier that is not theirs alone.
	byForeign = "foreign_identifier"
	// byTime is the order of the timeline: of one profile by time, sequence
	// and event id.
	byTime = "profile_time"
	// byPosition is the order of the identity facts: of one profile as they
	// stand in the log.
	byPosition = "profile_position"
)

// Definition is the projection: the customer 360 by customer, the timeline by
// profile.
func Definition() projection.Customers[*customerv1.Customer] {
	return projection.Customers[*customerv1.Customer]{
		Name:    Name,
		Version: Version,
		Documents: view.Collection{
			Name: customers,
			New:  func() proto.Message { return &customerv1.Customer{} },
			Indexes: []view.Index{
				{Name: byText, Kind: view.Text, Extract: searchTexts},
				{
					Name: byForeign, Kind: view.Ordered, Extract: foreignIdentifiers,
					Columns: []view.ColumnType{view.ColumnString, view.ColumnString},
				},
			},
		},
		New:  func() *customerv1.Customer { return &customerv1.Customer{} },
		Fold: fold,
		Combine: func(into, from *customerv1.Customer) {
			if err := combine(into, from); err != nil {
				spoil(into, err)
			}
		},
		Finish: func(doc *customerv1.Customer, c projection.Customer) {
			if err := finish(doc, c.ID, c.Profiles); err != nil {
				spoil(doc, err)
			}
		},
		Rows: []projection.RowFold{{
			Collection: view.Collection{
				Name:      timeline,
				New:       func() proto.Message { return &customerv1.InteractionSummary{} },
				Clustered: true,
				Indexes: []view.Index{{
					Name: byTime, Kind: view.Ordered, Extract: timelineTuple,
					Columns: []view.ColumnType{view.ColumnString, view.ColumnTime, view.ColumnInt64, view.ColumnString},
				}},
			},
			Fold: timelineRow,
		}, {
			Collection: view.Collection{
				Name:      facts,
				New:       func() proto.Message { return &customerv1.IdentityFact{} },
				Clustered: true,
				Indexes: []view.Index{{
					Name: byPosition, Kind: view.Ordered, Extract: factTuple,
					Columns: []view.ColumnType{view.ColumnString, view.ColumnInt64, view.ColumnString},
				}},
			},
			Fold: factRows,
		}},
	}
}

// timelineRow puts an interaction into the timeline of its profile.
func timelineRow(rec *eventv1.RecordedEvent, put func(id string, row proto.Message) error) error {
	ev := rec.GetEvent()
	if ev.GetProfileId() == "" || !isInteraction(ev) {
		return nil
	}
	return put(ev.GetId(), summarise(rec, orderingTime(ev)))
}

func timelineTuple(doc proto.Message) []view.Tuple {
	row, ok := doc.(*customerv1.InteractionSummary)
	if !ok {
		return nil
	}
	return []view.Tuple{{
		view.String(row.GetProfileId()),
		view.Time(timeOf(row.GetTime())),
		view.Int64(orderingSequence(row.GetSourceSequence())),
		view.String(row.GetEventId()),
	}}
}

// foreignIdentifiers are those by which a customer is found though they are not
// his profiles: shared ones, and those of another customer with whom a link was
// refused. Usually there are none.
func foreignIdentifiers(doc proto.Message) []view.Tuple {
	c, ok := doc.(*customerv1.Customer)
	if !ok {
		return nil
	}
	own := profileSet(c.GetProfileIds())
	var tuples []view.Tuple
	for _, id := range c.GetIdentifiers() {
		if isForeign(own, id) {
			tuples = append(tuples, view.Tuple{view.String(id.GetKind()), view.String(id.GetValue())})
		}
	}
	return tuples
}

// profileSet says whether a profile is one of these.
func profileSet(profiles []string) func(string) bool {
	const few = 16
	if len(profiles) <= few {
		return func(profile string) bool { return slices.Contains(profiles, profile) }
	}
	sorted := slices.Sorted(slices.Values(profiles))
	return func(profile string) bool {
		_, found := slices.BinarySearch(sorted, profile)
		return found
	}
}

func isForeign(own func(profile string) bool, id *customerv1.CustomerIdentifier) bool {
	return id.GetStrength() == eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_SHARED ||
		id.GetProfileId() != "" && !own(id.GetProfileId())
}

// searchTexts are what a customer is searched by.
func searchTexts(doc proto.Message) []view.Tuple {
	c, ok := doc.(*customerv1.Customer)
	if !ok {
		return nil
	}
	texts := make(view.Tuple, 0, 8)
	for _, trait := range c.GetTraits() {
		if nameTrait(trait.GetName()) != nameNone {
			if text := traitText(trait.GetValueJson()); text != "" {
				texts = append(texts, view.String(text))
			}
		}
	}
	for _, id := range c.GetIdentifiers() {
		switch kind := id.GetKind(); {
		case kind == "email":
			texts = append(texts, view.String(id.GetValue()))
		case kind == "phone", strings.HasPrefix(kind, "handle:"):
			texts = append(texts, view.String(id.GetValue()))
			if digits := compact(id.GetValue()); digits != id.GetValue() {
				texts = append(texts, view.String(digits))
			}
		}
	}
	for _, id := range orderIDs(c) {
		texts = append(texts, view.String(id))
		if plain := compact(id); plain != id {
			texts = append(texts, view.String(plain))
		}
	}
	return []view.Tuple{texts}
}

// separators are what people put between the digits of numbers.
const separators = " \t-./()+"

// compact is a number without what people put between its digits.
func compact(number string) string {
	if !strings.ContainsAny(number, separators) {
		return number
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(separators, r) {
			return -1
		}
		return r
	}, number)
}

// searchQuery brings a query into the form in which texts are found: what looks
// like a phone number loses its separators and the zeros with which people
// dial it.
func searchQuery(query string) string {
	digits := 0
	for _, r := range query {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case !strings.ContainsRune(separators, r):
			return query
		}
	}
	const fewest = 4
	if digits < fewest {
		return query
	}
	number := compact(query)
	if trimmed := strings.TrimLeft(number, "0"); len(trimmed) >= fewest {
		return trimmed
	}
	return number
}

func timeOf(t interface {
	GetSeconds() int64
	GetNanos() int32
},
) time.Time {
	return time.Unix(t.GetSeconds(), int64(t.GetNanos())).UTC()
}
