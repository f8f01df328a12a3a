package jsonform_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/parleyhq/parley/pkg/testkit/testseed"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	_ "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/internal/jsonform"
	"github.com/parleyhq/parley/pkg/view/viewtest"
)

// shuffled is a JSON text with the members of its objects in another order, and
// spaces, as jsonb may have it.
func shuffled(t *testing.T, random *rand.Rand, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	shuffle(t, random, text, &out)
	return out.Bytes()
}

func shuffle(t *testing.T, random *rand.Rand, text json.RawMessage, out *bytes.Buffer) {
	switch text[0] {
	case '{':
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(text, &members))
		names := make([]string, 0, len(members))
		for name := range members {
			names = append(names, name)
		}
		random.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
		out.WriteByte('{')
		for i, name := range names {
			if i > 0 {
				out.WriteString(", ")
			}
			quoted, err := json.Marshal(name)
			require.NoError(t, err)
			out.Write(quoted)
			out.WriteString(": ")
			shuffle(t, random, members[name], out)
		}
		out.WriteByte('}')
	case '[':
		var elements []json.RawMessage
		require.NoError(t, json.Unmarshal(text, &elements))
		out.WriteByte('[')
		for i, e := range elements {
			if i > 0 {
				out.WriteString(", ")
			}
			shuffle(t, random, e, out)
		}
		out.WriteByte(']')
	default:
		out.Write(text)
	}
}

// same takes a message to JSON and back.
func same(t *testing.T, random *rand.Rand, c *jsonform.Codec, doc proto.Message) []byte {
	t.Helper()
	data, err := view.MarshalDocument(doc)
	require.NoError(t, err)
	text, err := c.AppendJSON(nil, data)
	require.NoError(t, err, "%v", doc)
	require.True(t, json.Valid(text), "%s", text)
	for _, again := range [][]byte{text, shuffled(t, random, text)} {
		got, err := c.AppendWire([]byte("before"), again)
		require.NoError(t, err, "%s", again)
		if want := append([]byte("before"), data...); !bytes.Equal(want, got) {
			require.Equal(t, want, got, "%s", again)
		}
	}
	return text
}

// TestAgree takes random messages of all types of this project, and the nasty
// one, to JSON and back.
func TestAgree(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	random := rand.New(rand.NewPCG(seed, 1))
	types := []func() proto.Message{viewtest.Nasty}
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		if strings.HasPrefix(string(mt.Descriptor().FullName()), "parley.") && !mt.Descriptor().IsMapEntry() {
			types = append(types, func() proto.Message { return mt.New().Interface() })
		}
		return true
	})
	require.Greater(t, len(types), 50)
	for _, newMessage := range types {
		c, err := jsonform.New(newMessage)
		require.NoError(t, err)
		same(t, random, c, newMessage())
		for range 30 {
			doc := newMessage()
			viewtest.Fill(random, doc)
			same(t, random, c, doc)
		}
	}
}

// TestAsProtojson checks that what is written is what protojson reads and
// writes, where it can.
func TestAsProtojson(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	random := rand.New(rand.NewPCG(seed, 1))
	c, err := jsonform.New(func() proto.Message { return &customerv1.Customer{} })
	require.NoError(t, err)
	for range 500 {
		doc := &customerv1.Customer{}
		viewtest.Fill(random, doc)
		bringIntoRange(t, random, doc)
		text := same(t, random, c, doc)
		theirs, err := protojson.Marshal(doc)
		require.NoError(t, err)
		require.JSONEq(t, string(theirs), string(text))
		got := &customerv1.Customer{}
		require.NoError(t, protojson.Unmarshal(text, got))
		require.True(t, proto.Equal(doc, got))
	}
	for _, doc := range []proto.Message{
		timestamppb.New(timestamppb.Now().AsTime()), &timestamppb.Timestamp{Seconds: 1, Nanos: 500_000_000}, &timestamppb.Timestamp{Nanos: 1},
		&timestamppb.Timestamp{Seconds: -62135596800}, &timestamppb.Timestamp{Seconds: 253402300799, Nanos: 999999999},
		&durationpb.Duration{}, &durationpb.Duration{Seconds: -3, Nanos: -4000}, &durationpb.Duration{Nanos: -1}, &durationpb.Duration{Seconds: 315576000000},
		wrapperspb.String(""), wrapperspb.String("x"), wrapperspb.Bool(true), wrapperspb.Bool(false), wrapperspb.UInt64(0), wrapperspb.Int64(-1),
		wrapperspb.Double(1.5), wrapperspb.Float(0), wrapperspb.Bytes([]byte{1}), wrapperspb.Int32(0),
	} {
		c, err := jsonform.New(func() proto.Message { return doc.ProtoReflect().New().Interface() })
		require.NoError(t, err)
		theirs, err := protojson.Marshal(doc)
		require.NoError(t, err)
		require.JSONEq(t, string(theirs), string(same(t, random, c, doc)))
	}
}

// bringIntoRange makes what JSON can say of the moments and durations of a
// document that it cannot.
func bringIntoRange(t *testing.T, random *rand.Rand, doc proto.Message) {
	t.Helper()
	require.NoError(t, protorange.Range(doc.ProtoReflect(), func(p protopath.Values) error {
		m, ok := p.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		switch m := m.Interface().(type) {
		case *timestamppb.Timestamp:
			if !m.IsValid() {
				m.Seconds, m.Nanos = random.Int64N(4e9)-2e9, random.Int32N(1e9)
			}
		case *durationpb.Duration:
			if !m.IsValid() {
				m.Seconds, m.Nanos = random.Int64N(4e9), random.Int32N(1e9)
			}
		}
		return nil
	}))
}

// TestBeyondJSON has what JSON or its mapping cannot say.
func TestBeyondJSON(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	for want, doc := range map[string]proto.Message{
		`{"seconds":"-62135596801"}`:                   &timestamppb.Timestamp{Seconds: -62135596801},
		`{"seconds":"9223372036854775807","nanos":-1}`: &timestamppb.Timestamp{Seconds: 1<<63 - 1, Nanos: -1},
		`{"nanos":1000000000}`:                         &timestamppb.Timestamp{Nanos: 1e9},
		`{"seconds":"1","nanos":-1}`:                   &durationpb.Duration{Seconds: 1, Nanos: -1},
		`{"seconds":"-9223372036854775808"}`:           &durationpb.Duration{Seconds: -1 << 63},
		`"-0"`:                                         wrapperspb.Double(math.Copysign(0, -1)),
		`{"nullValue":"NULL_VALUE"}`:                   structpb.NewNullValue(),
		`{}`:                                           &structpb.Value{},
	} {
		c, err := jsonform.New(func() proto.Message { return doc.ProtoReflect().New().Interface() })
		require.NoError(t, err)
		require.Equal(t, want, string(same(t, random, c, doc)))
	}
}

func customers(t *testing.T) *jsonform.Codec {
	t.Helper()
	c, err := jsonform.New(func() proto.Message { return &customerv1.Customer{} })
	require.NoError(t, err)
	return c
}

// TestNotCanonical has bytes that mean a message and are not what marshalling
// makes of it.
func TestNotCanonical(t *testing.T) {
	t.Parallel()
	c := customers(t)
	one, err := view.MarshalDocument(&customerv1.Customer{CustomerId: "c1", ProfileIds: []string{"p1"}, Orders: &customerv1.OrderSummary{Count: 3}})
	require.NoError(t, err)
	two, err := view.MarshalDocument(&customerv1.Customer{CustomerId: "c2", ProfileIds: []string{"p2"}, Orders: &customerv1.OrderSummary{RefundCount: 4}})
	require.NoError(t, err)
	both := slices.Concat(one, two)
	doc := &customerv1.Customer{}
	require.NoError(t, proto.Unmarshal(both, doc))
	want, err := view.MarshalDocument(doc)
	require.NoError(t, err)
	text, err := c.AppendJSON(nil, both)
	require.NoError(t, err)
	require.JSONEq(t, `{"customerId":"c2","profileIds":["p1","p2"],"orders":{"count":"3","refundCount":"4"}}`, string(text))
	got, err := c.AppendWire(nil, text)
	require.NoError(t, err)
	require.Equal(t, want, got)
	// A default that is written out is none.
	text, err = c.AppendJSON(nil, []byte{1<<3 | 2, 0})
	require.NoError(t, err)
	require.Equal(t, `{}`, string(text))
}

func TestRefused(t *testing.T) {
	t.Parallel()
	c := customers(t)
	deep := []byte{}
	for range 2 * jsonform.MaxDepth {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), deep)
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), deep)
	}
	lists, err := jsonform.New(func() proto.Message { return &structpb.ListValue{} })
	require.NoError(t, err)
	for name, x := range map[string]struct {
		codec *jsonform.Codec
		data  []byte
		says  string
	}{
		"unknown field":          {c, viewtest.WithUnknown(nil), "message parley.customer.v1.Customer"},
		"unknown field within":   {c, protowire.AppendBytes(protowire.AppendTag(nil, 11, protowire.BytesType), viewtest.WithUnknown(nil)), "message parley.customer.v1.OrderSummary"},
		"another wire type":      {c, []byte{1 << 3, 1}, "field 1 is not known"},
		"U+0000":                 {c, []byte{1<<3 | 2, 1, 0}, "field customerId of parley.customer.v1.Customer: text has U+0000"},
		"not UTF-8":              {c, []byte{1<<3 | 2, 1, 0xff}, "not UTF-8"},
		"cut off":                {c, []byte{1<<3 | 2, 9, 'x'}, "unexpected EOF"},
		"cut off after a repeat": {c, []byte{1<<3 | 2, 1, 'x', 1<<3 | 2, 1, 'y', 1<<3 | 2}, "invalid wire-format"},
		"nested too deep":        {lists, deep, "nested"},
	} {
		before := []byte("before")
		out, err := x.codec.AppendJSON(before, x.data)
		require.ErrorIs(t, err, view.ErrInvalid, name)
		require.ErrorContains(t, err, x.says, name)
		require.Equal(t, "before", string(out), name)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	c := customers(t)
	for text, want := range map[string]error{
		`{"customerId":"x","whatIsThis":1}`:            view.ErrNewerFormat,
		`{"links":[{"rule":"LINK_RULE_OF_TOMORROW"}]}`: view.ErrNewerFormat,
		`{"customerId":"x"`:                            view.ErrCorrupt,
		`{"customerId":"x"}}`:                          view.ErrCorrupt,
		`{"customerId":1}`:                             view.ErrCorrupt,
		`{"interactionCount":"x"}`:                     view.ErrCorrupt,
		`{"interactionCount":"9223372036854775808"}`:   view.ErrCorrupt,
		`{"lastSeenTime":"2024-02-30T00:00:00Z"}`:      view.ErrCorrupt,
		`{"lastSeenTime":"yesterday"}`:                 view.ErrCorrupt,
		`{"customerId":"x","customerId":"y"}`:          view.ErrCorrupt,
		`[]`:                                           view.ErrCorrupt,
		``:                                             view.ErrCorrupt,
		`nul`:                                          view.ErrCorrupt,
	} {
		out, err := c.AppendWire([]byte("before"), []byte(text))
		require.ErrorIs(t, err, want, text)
		require.Equal(t, "before", string(out))
	}
}

func TestShape(t *testing.T) {
	t.Parallel()
	lines := strings.Split(customers(t).Shape(), "\n")
	require.True(t, slices.IsSorted(lines))
	require.Contains(t, lines, "parley.customer.v1.Customer 3 displayName string")
	require.Contains(t, lines, "parley.customer.v1.Customer 2 profileIds repeated string")
	require.Contains(t, lines, "parley.event.v1.Direction 1 DIRECTION_INBOUND")
}

func panics(data []byte) (yes bool) {
	defer func() { yes = recover() != nil }()
	_ = proto.Unmarshal(data, viewtest.Nasty())
	return false
}

func FuzzWire(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		doc := viewtest.Nasty()
		viewtest.Fill(random, doc)
		data, err := view.MarshalDocument(doc)
		require.NoError(f, err)
		if len(data) < 4000 {
			f.Add(data)
		}
	}
	c, err := jsonform.New(viewtest.Nasty)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		if panics(data) {
			t.Skip("the library panics where a dynamic message's map has an entry of wrong types")
		}
		text, err := c.AppendJSON(nil, data)
		if err != nil {
			require.ErrorIs(t, err, view.ErrInvalid)
			return
		}
		require.True(t, json.Valid(text), "%s", text)
		doc := viewtest.Nasty()
		require.NoError(t, proto.Unmarshal(data, doc))
		want, err := view.MarshalDocument(doc)
		require.NoError(t, err)
		got, err := c.AppendWire(nil, text)
		require.NoError(t, err, "%s", text)
		require.Equal(t, want, got, "%s", text)
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"plainString": "x", "manyInt32": [1, 2], "itself": {"aTimestamp": "2024-03-01T12:00:00.5Z"}}`))
	f.Add([]byte(`{"bystring":{"a":"\u00e9\ud83d\ude00"},"aDuration":"-1.000000001s","plainDouble":"NaN(fff8000000000000)"}`))
	c, err := jsonform.New(viewtest.Nasty)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text []byte) {
		data, err := c.AppendWire(nil, text)
		if err != nil {
			require.True(t, errors.Is(err, view.ErrCorrupt) || errors.Is(err, view.ErrNewerFormat), err)
			return
		}
		require.NoError(t, proto.Unmarshal(data, viewtest.Nasty()))
	})
}

func BenchmarkCustomer(b *testing.B) {
	doc := &customerv1.Customer{CustomerId: "0123456789", DisplayName: "Ada Lovelace", LastSeenTime: timestamppb.Now()}
	for range 8 {
		doc.RecentInteractions = append(doc.RecentInteractions, &customerv1.InteractionSummary{
			EventId: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Type: "parley.web.page_viewed", Time: timestamppb.Now(), Channel: "web", Direction: 1,
			Conversation: "session-12345", Summary: "viewed /products/17", ProfileId: "01234567890123456789", Position: 123456,
		})
	}
	c, err := jsonform.New(func() proto.Message { return &customerv1.Customer{} })
	require.NoError(b, err)
	data, err := view.MarshalDocument(doc)
	require.NoError(b, err)
	text, err := c.AppendJSON(nil, data)
	require.NoError(b, err)
	buf := make([]byte, 0, 2*len(text))
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			_, err := c.AppendJSON(buf, data)
			require.NoError(b, err)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			_, err := c.AppendWire(buf, text)
			require.NoError(b, err)
		}
	})
	b.Run("yardstick: protojson encode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			m := &customerv1.Customer{}
			require.NoError(b, proto.Unmarshal(data, m))
			_, err := protojson.MarshalOptions{}.MarshalAppend(buf, m)
			require.NoError(b, err)
		}
	})
	b.Run("yardstick: protojson decode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			m := &customerv1.Customer{}
			require.NoError(b, protojson.Unmarshal(text, m))
			_, err := view.AppendDocument(buf, m)
			require.NoError(b, err)
		}
	})
}
