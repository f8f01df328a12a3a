package match

import (
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/identity"
	linkage "github.com/parleyhq/parley/pkg/identity/match"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Name of the projection.
const Name = "match"

// Version of what the projection stores: raised with every change of the fold,
// of the names of traits that are read, of how blocking keys are made, of a
// collection or of an index.
const Version = 1

const (
	records = "records"
	facts   = "facts"

	// byKey finds customers by a blocking key.
	byKey = "blocking_key"
	// byPosition is the order of the facts: of one profile as they stand in
	// the log.
	byPosition = "profile_position"
)

// Stream is the stream of a tenant's models of who may be whom.
func Stream(tenant string) string { return tenant + ".matching" }

// Definition is the projection: what is compared by customer, and the events
// about matching by profile.
func Definition() projection.Customers[*customerv1.MatchRecord] {
	return projection.Customers[*customerv1.MatchRecord]{
		Name:    Name,
		Version: Version,
		Types: []string{
			typeTraitsUpdated, identity.TypeLinkAsserted, identity.TypeLinkRefused, identity.TypeCustomersMerged,
			identity.TypeCustomersSplit, identity.TypeModelFitted, identity.TypeRulesChanged,
		},
		Documents: view.Collection{
			Name: records,
			New:  func() proto.Message { return &customerv1.MatchRecord{} },
			Indexes: []view.Index{
				{Name: byKey, Kind: view.Ordered, Extract: keyTuples, Columns: []view.ColumnType{view.ColumnInt64}},
			},
		},
		New:     func() *customerv1.MatchRecord { return &customerv1.MatchRecord{} },
		Fold:    fold,
		Combine: combine,
		Finish:  func(doc *customerv1.MatchRecord, c projection.Customer) { doc.CustomerId = c.ID },
		Rows: []projection.RowFold{{
			Collection: view.Collection{
				Name:      facts,
				New:       func() proto.Message { return &customerv1.MatchFact{} },
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

// typeTraitsUpdated is the type of the events that say what is compared.
var typeTraitsUpdated = func() string {
	typ, _, _ := event.TypeOf(&eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{}}})
	return typ
}()

// keyTuples are a record's blocking keys.
func keyTuples(doc proto.Message) []view.Tuple {
	r, ok := doc.(*customerv1.MatchRecord)
	if !ok {
		return nil
	}
	compared := recordOf(r)
	keys := linkage.BlockingKeys(&compared)
	tuples := make([]view.Tuple, len(keys))
	for i, k := range keys {
		tuples[i] = view.Tuple{keyValue(k)}
	}
	return tuples
}

// keyValue is a key as the index has it: its bits, since nobody asks for an order.
func keyValue(k linkage.Key) view.Value { return view.Int64(int64(k)) }

func factTuple(doc proto.Message) []view.Tuple {
	f, ok := doc.(*customerv1.MatchFact)
	if !ok {
		return nil
	}
	return []view.Tuple{{
		view.String(f.GetProfileId()), view.Int64(int64(min(f.GetPosition(), math.MaxInt64))), view.String(f.GetEventId()),
	}}
}
