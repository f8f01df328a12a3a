package customer

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

// fields are the bytes of a message, written field by field without any
// generated code: what is stored must be read for as long as it lies there.
type fields []byte

func (f fields) text(n protowire.Number, s string) fields {
	return protowire.AppendString(protowire.AppendTag(f, n, protowire.BytesType), s)
}

func (f fields) number(n protowire.Number, v uint64) fields {
	return protowire.AppendVarint(protowire.AppendTag(f, n, protowire.VarintType), v)
}

func (f fields) message(n protowire.Number, inner fields) fields {
	return protowire.AppendBytes(protowire.AppendTag(f, n, protowire.BytesType), inner)
}

func timeAt(second int64) fields { return fields{}.number(1, uint64(start.Unix()+second)) }

func traitAt(name, value string, second int64, id string) fields {
	return fields{}.text(1, name).text(2, value).text(3, "web/dev").number(4, 1).message(5, timeAt(second)).text(6, id)
}

func moneyOf(key string, units, nanos uint64) fields {
	f := fields{}.text(1, key).number(2, units)
	if nanos != 0 {
		f = f.number(3, nanos)
	}
	return f
}

func affiliationAt(name, role string, second int64, id string) fields {
	f := fields{}.text(1, "acme")
	if name != "" {
		f = f.text(2, name)
	}
	if role != "" {
		f = f.text(3, role)
	}
	return f.message(4, timeAt(second)).message(5, timeAt(second)).text(6, id)
}

// handmade is a stored document: what is served of it, and its working form.
// A trait was taken away, of two orders one was paid back in full, and name
// and role of an affiliation were said apart.
func handmade() (served, working fields) {
	served = fields{}.
		text(1, "p1").text(2, "p1").text(3, "Ada").
		message(5, traitAt("name", `"Ada"`, 1, "e1")).
		message(6, timeAt(1)).message(7, timeAt(7)).number(8, 7).
		message(11, fields{}.number(1, 2).number(2, 1).
			message(3, moneyOf("EUR", 49, 900_000_000)).
			message(4, moneyOf("EUR", 10, 0))).
		message(15, fields{}.text(1, "acme").text(2, "Acme Ltd").text(3, "owner").
			message(4, timeAt(6)).message(5, timeAt(7)).text(6, "e7"))
	working = fields{}.
		message(5, traitAt("plan", "null", 5, "e5")).
		message(11, fields{}.
			message(3, moneyOf("EUR", 49, 900_000_000)).
			message(3, moneyOf("~1~EUR", 10, 0)).
			message(3, moneyOf("~2~EUR", 39, 900_000_000)).
			message(4, moneyOf("~1~", 1, 0))).
		message(15, affiliationAt("", "owner", 7, "e7")).
		message(15, affiliationAt("Acme Ltd", "", 6, "e6"))
	return served, working
}

func TestStoredDocumentsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	served, working := handmade()
	stored := []byte(append(served[:len(served):len(served)], fields{}.message(100, working)...))

	part, err := visible(stored)
	require.NoError(t, err)
	require.Equal(t, []byte(served), part)
	require.Same(t, &stored[0], &part[0], "nothing is copied")
	require.Equal(t, len(part), cap(part), "nor can the rest be reached")

	second := func(n int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: start.Unix() + n} }
	want := &customerv1.Customer{
		CustomerId: "p1", ProfileIds: []string{"p1"}, DisplayName: "Ada", InteractionCount: 7,
		FirstSeenTime: second(1), LastSeenTime: second(7),
		Traits: []*customerv1.CustomerTrait{
			{Name: "name", ValueJson: `"Ada"`, Source: "web/dev", Provenance: 1, OccurredTime: second(1), EventId: "e1"},
		},
		Orders: &customerv1.OrderSummary{
			Count: 2, RefundCount: 1,
			Totals:  []*typev1.Money{{CurrencyCode: "EUR", Units: 49, Nanos: 900_000_000}},
			Refunds: []*typev1.Money{{CurrencyCode: "EUR", Units: 10}},
		},
		Affiliations: []*customerv1.CustomerAffiliation{
			{OrganisationId: "acme", Name: "Acme Ltd", Role: "owner", FirstSeenTime: second(6), LastSeenTime: second(7), EventId: "e7"},
		},
	}
	seen, err := decodeVisible(stored)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, seen, protocmp.Transform()))

	doc := &customerv1.Customer{}
	require.NoError(t, wire.Unmarshal(stored, doc))
	require.Equal(t, []string{"1", "2"}, orderIDs(doc))
	want.Working = &customerv1.CustomerWorking{
		Traits: []*customerv1.CustomerTrait{
			{Name: "plan", ValueJson: "null", Source: "web/dev", Provenance: 1, OccurredTime: second(5), EventId: "e5"},
		},
		Orders: &customerv1.OrderSummary{
			Totals: []*typev1.Money{
				{CurrencyCode: "EUR", Units: 49, Nanos: 900_000_000}, {CurrencyCode: "~1~EUR", Units: 10}, {CurrencyCode: "~2~EUR", Units: 39, Nanos: 900_000_000},
			},
			Refunds: []*typev1.Money{{CurrencyCode: "~1~", Units: 1}},
		},
		Affiliations: []*customerv1.CustomerAffiliation{
			{OrganisationId: "acme", Role: "owner", FirstSeenTime: second(7), LastSeenTime: second(7), EventId: "e7"},
			{OrganisationId: "acme", Name: "Acme Ltd", FirstSeenTime: second(6), LastSeenTime: second(6), EventId: "e6"},
		},
	}
	require.Empty(t, cmp.Diff(want, doc, protocmp.Transform()))

	require.NoError(t, expand(doc))
	require.Nil(t, doc.GetWorking())
	require.NoError(t, finish(doc, "p1", profiles[:1]))
	for name, encode := range map[string]func(proto.Message) ([]byte, error){
		"generated": wire.Marshal, "library": proto.MarshalOptions{Deterministic: true}.Marshal,
	} {
		again, err := encode(doc)
		require.NoError(t, err)
		require.Equal(t, stored, again, "%s code writes what it read", name)
	}
}

// TestStoredDocumentsFoldOn folds on what only the working form can tell.
func TestStoredDocumentsFoldOn(t *testing.T) {
	t.Parallel()
	served, working := handmade()
	load := func() *customerv1.Customer {
		doc := &customerv1.Customer{}
		require.NoError(t, wire.Unmarshal(append(served[:len(served):len(served)], fields{}.message(100, working)...), doc))
		return doc
	}
	plan := func(value string) *eventv1.Payload {
		return &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
			Traits: []*eventv1.Trait{{Name: "plan", ValueJson: value}},
		}}}
	}
	const in = eventv1.Direction_DIRECTION_INBOUND
	s := &teller{t: t, doc: load()}
	require.Len(t, s.at(4, "web", in, plan(`"late"`)).seen().GetTraits(), 1, "it was taken away later")
	require.Len(t, s.at(6, "web", in, plan(`"pro"`)).seen().GetTraits(), 2)
	require.Equal(t, "49.90 EUR", sumsText(s.at(8, "web", in, refunded("2", nil)).seen().GetOrders().GetRefunds()))
	require.Equal(t, "49.90 EUR", sumsText(s.at(9, "web", in, refunded("1", nil)).seen().GetOrders().GetRefunds()), "told before")
	s.at(5, "web", in, &eventv1.Payload{Kind: &eventv1.Payload_AffiliationAsserted{AffiliationAsserted: &eventv1.AffiliationAsserted{
		OrganisationId: "acme", Name: "Acme & Sons", Role: "buyer",
	}}})
	acme := s.seen().GetAffiliations()[0]
	require.Equal(t, []string{"Acme Ltd", "owner"}, []string{acme.GetName(), acme.GetRole()}, "said later")
	require.Equal(t, start.Add(5*time.Second).Unix(), acme.GetFirstSeenTime().GetSeconds())

	from := load()
	into := &customerv1.Customer{}
	require.NoError(t, combine(into, from))
	requireSame(t, load(), from, "combining changed what it took from")
	require.Equal(t, []string{"1", "2"}, orderIDs(into))
}

// TestStoredBytesStay holds what one of everything was stored as when
// documents began to be kept. If it fails, what is stored has changed: then
// Version must be raised, and the file written anew.
func TestStoredBytesStay(t *testing.T) {
	t.Parallel()
	s := oneOfEverything(t)
	require.NoError(t, finish(s.doc, "p1", profiles[:1]))
	require.NotNil(t, s.doc.GetWorking())
	data, err := wire.Marshal(s.doc)
	require.NoError(t, err)
	golden := filepath.Join("testdata", "stored.golden.hex")
	if *update {
		const width = 96
		var lines strings.Builder
		for text := hex.EncodeToString(data); text != ""; {
			n := min(width, len(text))
			lines.WriteString(text[:n] + "\n")
			text = text[n:]
		}
		require.NoError(t, os.WriteFile(golden, []byte(lines.String()), 0o600))
	}
	text, err := os.ReadFile(golden)
	require.NoError(t, err)
	want, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	require.NoError(t, err)
	require.Equal(t, want, data)
}

// TestWhatIsStoredAloneStandsLast holds what serving relies on.
func TestWhatIsStoredAloneStandsLast(t *testing.T) {
	t.Parallel()
	customer := (&customerv1.Customer{}).ProtoReflect().Descriptor()
	for i := range customer.Fields().Len() {
		switch fd := customer.Fields().Get(i); fd.Name() {
		case "working":
			require.Equal(t, workingField, fd.Number())
		case "spoiled":
			require.Equal(t, spoiledField, fd.Number())
		default:
			require.Less(t, fd.Number(), workingField, fd.FullName())
		}
	}
	working := (&customerv1.CustomerWorking{}).ProtoReflect().Descriptor()
	for i := range working.Fields().Len() {
		fd := working.Fields().Get(i)
		same := customer.Fields().ByNumber(fd.Number())
		require.NotNil(t, same, fd.FullName())
		require.Equal(t, same.Name(), fd.Name())
		require.Equal(t, same.Message().FullName(), fd.Message().FullName())
	}
}

// TestTailsThatAreNotOurs has documents that no version has written.
func TestTailsThatAreNotOurs(t *testing.T) {
	t.Parallel()
	served, working := handmade()
	tail := func(f fields) []byte { return append(served[:len(served):len(served)], f...) }
	for name, stored := range map[string][]byte{
		"a field behind the tail":       tail(fields{}.message(100, working).text(3, "Eve")),
		"another number":                tail(fields{}.text(102, "x")),
		"another number behind":         tail(fields{}.message(100, working).number(150, 1)),
		"the working form as a number":  tail(fields{}.number(100, 1)),
		"the reason as a number":        tail(fields{}.number(101, 1)),
		"a reason behind, as a number":  tail(fields{}.message(100, working).number(101, 1)),
		"what breaks off within itself": tail(append(fields{}.message(100, nil), 0xa2)),
	} {
		_, err := visible(stored)
		require.ErrorIs(t, err, errNotOurs, name)
		_, err = decodeVisible(stored)
		require.ErrorIs(t, err, errNotOurs, name)
		for _, keep := range []mask{nil, {customerField: nil}} {
			data, err := keep.encoded(stored)
			require.Error(t, err, name)
			require.Empty(t, data)
		}
	}
	for name, stored := range map[string][]byte{
		"nothing but a tag":   {0xff},
		"a tail that is cut":  tail(fields{}.message(100, working))[:len(served)+5],
		"a field that is cut": served[:len(served)-1],
	} {
		_, err := visible(stored)
		require.Error(t, err, name)
	}
	unread := tail(fields{}.message(100, fields{0xff}))
	_, err := decodeVisible(unread)
	require.NoError(t, err, "the tail is read by folds alone")
	require.Error(t, wire.Unmarshal(unread, &customerv1.Customer{}), "and by them it is")

	for name, doc := range map[string]*customerv1.Customer{
		"orders of none": {Working: &customerv1.CustomerWorking{Orders: &customerv1.OrderSummary{}}},
		"more than is known": func() *customerv1.Customer {
			w := &customerv1.CustomerWorking{}
			w.ProtoReflect().SetUnknown([]byte(fields{}.number(1, 1)))
			return &customerv1.Customer{Working: w}
		}(),
		"more of a customer than is known": func() *customerv1.Customer {
			c := &customerv1.Customer{}
			c.ProtoReflect().SetUnknown([]byte(fields{}.number(99, 1)))
			return c
		}(),
	} {
		require.ErrorIs(t, expand(proto.CloneOf(doc)), errNotOurs, name)
		require.ErrorIs(t, combine(&customerv1.Customer{}, doc), errNotOurs, name)
		require.Empty(t, orderIDs(doc), name)
	}
}

var alone = projection.Customer{Tenant: "acme", ID: "p1", Profiles: profiles[:1]}

func TestASpoiledDocumentIsNeverServed(t *testing.T) {
	t.Parallel()
	good := tell(t).says(ordered("1", nil)).doc
	bad := proto.CloneOf(good)
	bad.ProtoReflect().SetUnknown([]byte(fields{}.number(99, 1)))
	def := Definition()
	combined := def.New()
	def.Combine(combined, bad)
	finished := proto.CloneOf(bad)
	finished.Working = &customerv1.CustomerWorking{}
	def.Finish(finished, alone)
	served, _ := handmade()
	byHand := &customerv1.Customer{}
	require.NoError(t, wire.Unmarshal(served.text(101, "a reason"), byHand))
	require.Equal(t, "a reason", byHand.GetSpoiled())
	for name, doc := range map[string]*customerv1.Customer{"combined": combined, "finished": finished, "by hand": byHand} {
		require.NotEmpty(t, doc.GetSpoiled(), name)
		data := mustMarshal(t, doc)
		for _, keep := range []mask{nil, {customerField: nil}} {
			answer, err := keep.encoded(data)
			require.ErrorIs(t, err, errSpoiled, name)
			require.Empty(t, answer, name)
			decoded, err := keep.decoded(data)
			require.ErrorIs(t, err, errSpoiled, name)
			require.Nil(t, decoded, name)
		}
		g := &generator{r: newRand(1)}
		require.ErrorIs(t, fold(proto.CloneOf(doc), g.of(ordered("2", nil))), errSpoiled, name)
		require.ErrorIs(t, fold(proto.CloneOf(doc), g.of(&eventv1.Payload{})), errSpoiled, name)

		before := doc.GetSpoiled()
		def.Finish(doc, alone)
		require.Equal(t, before, doc.GetSpoiled(), "%s: the first reason stays", name)
		into := proto.CloneOf(good)
		def.Combine(into, doc)
		require.Contains(t, into.GetSpoiled(), before, "%s: it spoils what it is combined with", name)
	}
}

func TestMasksDoNotNameWhatIsNotServed(t *testing.T) {
	t.Parallel()
	refusal := func(paths ...string) rpcerr.Violation {
		_, err := parseMask(&fieldmaskpb.FieldMask{Paths: paths})
		require.Error(t, err, "%v", paths)
		require.Len(t, rpcerr.ViolationsOf(err), 1)
		return rpcerr.ViolationsOf(err)[0]
	}
	for path, top := range map[string]string{
		"working": "working", "spoiled": "spoiled", "working.traits": "working", "working.orders.totals": "working", "working.": "working",
	} {
		unknown := refusal("orders", "no_such")
		unknown.Message = strings.ReplaceAll(unknown.Message, "no_such", top)
		require.Equal(t, unknown, refusal("orders", path), "as a field that there is not")
		refusal(path)
		refusal("*", path)
	}
	keep, err := parseMask(&fieldmaskpb.FieldMask{Paths: []string{"orders.totals", "affiliations", "traits"}})
	require.NoError(t, err)
	served, working := handmade()
	doc, err := keep.decoded(append(served, fields{}.message(100, working)...))
	require.NoError(t, err)
	require.Nil(t, doc.GetWorking())
	require.Len(t, doc.GetTraits(), 1)
	require.Len(t, doc.GetOrders().GetTotals(), 1)
}
