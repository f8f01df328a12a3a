package event_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func requireSame(t *testing.T, want, got proto.Message) {
	t.Helper()
	require.Empty(t, cmp.Diff(want, got, protocmp.Transform()))
}

// halvesOf parses what a record stores by itself: the facts, and the personal part.
func halvesOf(t *testing.T, data []byte) (facts, personal *eventv1.Event) {
	t.Helper()
	facts, personal = &eventv1.Event{}, &eventv1.Event{}
	require.NoError(t, proto.Unmarshal(data, facts))
	require.NoError(t, proto.Unmarshal(facts.GetSealed(), personal))
	facts.Sealed = nil
	return facts, personal
}

func TestEveryTypeIsStoredApartAndReadBackWhole(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	for _, typ := range event.Types() {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			ev := fullEvent(typ)
			before := proto.CloneOf(ev)
			rec, err := codec.Encode(ev)
			require.NoError(t, err)
			requireSame(t, before, ev)
			require.Equal(t, ev.GetId(), rec.ID.String())
			require.Equal(t, typ, rec.Type)
			require.Equal(t, eventstore.ContentProtobuf, rec.ContentType)

			facts, personal := halvesOf(t, rec.Data)
			factBytes, err := proto.Marshal(facts)
			require.NoError(t, err)
			personalBytes, err := proto.Marshal(personal)
			require.NoError(t, err)
			require.NotContains(t, string(factBytes), personalMark)
			require.Contains(t, string(factBytes), factMark)
			require.NotContains(t, string(personalBytes), factMark)
			require.Contains(t, string(personalBytes), personalMark)
			require.Empty(t, facts.GetIdentifiers())
			require.Equal(t, ev.GetIdentifiers()[0].GetProfileId(), personal.GetIdentifiers()[0].GetProfileId())
			got, _, ok := event.TypeOf(facts.GetPayload())
			require.True(t, ok, "the facts tell the type")
			require.Equal(t, typ, got)

			// As the contract says it: parse the one, merge the other.
			merged := &eventv1.Event{}
			require.NoError(t, proto.Unmarshal(rec.Data, merged))
			sealed := merged.GetSealed()
			merged.Sealed = nil
			require.NoError(t, proto.UnmarshalOptions{Merge: true}.Unmarshal(sealed, merged))
			requireSame(t, ev, merged)

			decoded, err := codec.Decode(recordOf(rec))
			require.NoError(t, err)
			requireSame(t, &eventv1.RecordedEvent{
				Event: ev, Stream: "default.web-1", Revision: 3, Position: 42,
				RecordedTime: timestamppb.New(time.Date(2026, 3, 4, 5, 6, 8, 123_456_000, time.UTC)),
			}, decoded)
		})
	}
}

func TestDecodeIntoLeavesNothingOfTheEventBefore(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	out := &eventv1.RecordedEvent{}
	bare := &eventv1.Event{Id: uuid.NewString(), Type: "parley.chat.started", Payload: &eventv1.Payload{
		Kind: &eventv1.Payload_ChatStarted{ChatStarted: &eventv1.ChatStarted{}},
	}}
	one := trackEvent()
	one.Identifiers = one.GetIdentifiers()[:1]
	var sequence []*eventv1.Event
	for _, typ := range event.Types() {
		sequence = append(sequence, fullEvent(typ), bare, trackEvent(), one)
	}
	for _, ev := range sequence {
		rec, err := codec.Encode(ev)
		require.NoError(t, err)
		require.NoError(t, codec.DecodeInto(recordOf(rec), out))
		requireSame(t, ev, out.GetEvent())
	}
}

func TestEventsDecodedApartShareNothingThatChanges(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	rec, err := codec.Encode(trackEvent())
	require.NoError(t, err)
	record := recordOf(rec)
	stored := bytes.Clone(record.Data)
	first, err := codec.Decode(record)
	require.NoError(t, err)
	second, err := codec.Decode(record)
	require.NoError(t, err)
	first.Event.Identifiers[0].Value = "changed"
	first.Event.OccurredTime.Seconds = 0
	first.Event.ContentDigest[0]++
	first.Event.GetPayload().GetTracked().Name = "changed"
	first.Event.Identifiers = append(first.Event.Identifiers, &eventv1.Identifier{Kind: "new"})
	requireSame(t, trackEvent(), second.GetEvent())
	require.Equal(t, stored, record.Data)
}

func TestWithoutPersonalFieldsNothingIsSealed(t *testing.T) {
	t.Parallel()
	ev := &eventv1.Event{
		Id: uuid.NewString(), Tenant: "default", Type: "parley.call.held",
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_CallHeld{CallHeld: &eventv1.CallHeld{CallId: "c1"}}},
	}
	rec, err := event.NewCodec().Encode(ev)
	require.NoError(t, err)
	plain := &eventv1.Event{}
	require.NoError(t, proto.Unmarshal(rec.Data, plain))
	require.Empty(t, plain.GetSealed())
	requireSame(t, ev, plain)
}

func TestUnknownFieldsAreSealedAndKept(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	secret := func(n protowire.Number, text string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), text)
	}
	ev := trackEvent()
	ev.ProtoReflect().SetUnknown(append(secret(900, "unknown-1"),
		// A known number with a wire type that is not its own.
		protowire.AppendFixed32(protowire.AppendTag(nil, 2, protowire.Fixed32Type), 7)...))
	ev.GetPayload().ProtoReflect().SetUnknown(secret(901, "unknown-2"))
	ev.GetPayload().GetTracked().ProtoReflect().SetUnknown(secret(902, "unknown-3"))

	rec, err := codec.Encode(ev)
	require.NoError(t, err)
	facts, _ := halvesOf(t, rec.Data)
	b, err := proto.Marshal(facts)
	require.NoError(t, err)
	require.NotContains(t, string(b), "unknown-")
	require.Empty(t, facts.ProtoReflect().GetUnknown())

	got, err := codec.Decode(recordOf(rec))
	require.NoError(t, err)
	requireSame(t, ev, got.GetEvent())
	require.Equal(t, ev.ProtoReflect().GetUnknown(), got.GetEvent().ProtoReflect().GetUnknown())
	require.Equal(t, "unknown-3", string(got.GetEvent().GetPayload().GetTracked().ProtoReflect().GetUnknown()[3:]))
}

func TestATypeThatIsNotKnownYetIsKept(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	ev := trackEvent()
	ev.Type, ev.SchemaVersion = "parley.hologram.shown", 3
	ev.Payload = &eventv1.Payload{}
	ev.Payload.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 777, protowire.BytesType), "private"))
	rec, err := codec.Encode(ev)
	require.NoError(t, err)
	facts, _ := halvesOf(t, rec.Data)
	require.NotNil(t, facts.GetPayload())
	require.Empty(t, facts.GetPayload().ProtoReflect().GetUnknown())
	got, err := codec.Decode(recordOf(rec))
	require.NoError(t, err)
	requireSame(t, ev, got.GetEvent())
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	for name, c := range map[string]struct{ correlation, causation, want string }{
		"none":        {"", "", ""},
		"correlation": {"c-1", "", `{"$correlationId":"c-1"}`},
		"causation":   {"", "c-2", `{"$causationId":"c-2"}`},
		"both":        {"c-1", `"<`, `{"$correlationId":"c-1","$causationId":"\"\u003c"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := trackEvent()
			ev.CorrelationId, ev.CausationId = c.correlation, c.causation
			rec, err := codec.Encode(ev)
			require.NoError(t, err)
			require.Equal(t, c.want, string(rec.Metadata))
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*eventv1.Event)
		want   error
	}{
		"no id":           {func(ev *eventv1.Event) { ev.Id = "" }, event.ErrInconsistent},
		"id is no UUID":   {func(ev *eventv1.Event) { ev.Id = "4711" }, event.ErrInconsistent},
		"id in braces":    {func(ev *eventv1.Event) { ev.Id = "{" + ev.GetId() + "}" }, event.ErrInconsistent},
		"zero id":         {func(ev *eventv1.Event) { ev.Id = uuid.Nil.String() }, event.ErrInconsistent},
		"another type":    {func(ev *eventv1.Event) { ev.Type = "parley.page.viewed" }, event.ErrInconsistent},
		"no type":         {func(ev *eventv1.Event) { ev.Type, ev.Payload = "", nil }, event.ErrInconsistent},
		"quarantine type": {func(ev *eventv1.Event) { ev.Type, ev.Payload = event.TypeQuarantine, nil }, event.ErrInconsistent},
		"sealed":          {func(ev *eventv1.Event) { ev.Sealed = []byte{1} }, event.ErrInconsistent},
		"key, no sealer":  {func(ev *eventv1.Event) { ev.PayloadKey = "k" }, event.ErrNoKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := trackEvent()
			c.change(ev)
			_, err := event.NewCodec().Encode(ev)
			require.ErrorIs(t, err, c.want)
		})
	}
	t.Run("text that is not UTF-8", func(t *testing.T) {
		t.Parallel()
		ev := trackEvent()
		ev.Channel = "\xff"
		_, err := event.NewCodec().Encode(ev)
		require.ErrorContains(t, err, "UTF-8")
	})
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	good, err := codec.Encode(trackEvent())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*eventstore.Record)
		want   error
	}{
		"quarantined body": {func(r *eventstore.Record) { r.Type = event.TypeQuarantine }, event.ErrNotEvent},
		"JSON":             {func(r *eventstore.Record) { r.ContentType = eventstore.ContentJSON }, event.ErrNotEvent},
		"foreign type":     {func(r *eventstore.Record) { r.Type = "OrderPlaced" }, event.ErrNotEvent},
		"cut":              {func(r *eventstore.Record) { r.Data = r.Data[:len(r.Data)-1] }, event.ErrMalformed},
		"garbage":          {func(r *eventstore.Record) { r.Data = []byte{0xff, 0xff} }, event.ErrMalformed},
		"not UTF-8":        {func(r *eventstore.Record) { r.Data = []byte{0x0a, 1, 0xff} }, event.ErrMalformed},
		"garbage sealed":   {func(r *eventstore.Record) { r.Data = []byte{0xb2, 1, 1, 0xff} }, event.ErrMalformed},
		"bad payload":      {func(r *eventstore.Record) { r.Data = []byte{0xc2, 1, 1, 0xff} }, event.ErrMalformed},
		"no revision":      {func(r *eventstore.Record) { r.Revision = eventstore.NoStream }, event.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := recordOf(good)
			c.change(rec)
			_, err := codec.Decode(rec)
			require.ErrorIs(t, err, c.want)
		})
	}
}

// The order of fields and the number of pieces is the writer's choice.
func TestDecodeTakesAnyWireForm(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	ev := trackEvent()
	whole, err := proto.Marshal(ev)
	require.NoError(t, err)
	other, err := proto.Marshal(&eventv1.Event{Payload: &eventv1.Payload{
		Kind: &eventv1.Payload_CallHeld{CallHeld: &eventv1.CallHeld{CallId: "c"}},
	}})
	require.NoError(t, err)
	halves, err := codec.Encode(ev)
	require.NoError(t, err)
	nested := protowire.AppendBytes(protowire.AppendTag(nil, 22, protowire.BytesType), halves.Data)
	for name, data := range map[string][]byte{
		"not split":                whole,
		"twice":                    slices.Concat(whole, whole),
		"thrice":                   slices.Concat(whole, whole, whole),
		"payload takes the place":  slices.Concat(other, whole),
		"payload loses its place":  slices.Concat(whole, other),
		"split, then whole":        slices.Concat(halves.Data, whole),
		"split twice":              slices.Concat(halves.Data, halves.Data),
		"sealed within sealed":     nested,
		"empty payload":            {0xc2, 1, 0},
		"empty":                    {},
		"two empty payloads":       {0xc2, 1, 0, 0xc2, 1, 0},
		"identifier with unknown":  {0xba, 1, 3, 0x78, 1, 0},
		"long varint of a boolean": {0xa0, 1, 0x80, 0x80, 0x80, 0x80, 0x10},
		"negative enum":            append([]byte{0x58}, protowire.AppendVarint(nil, 1<<64-5)...),
		"group":                    {0x0b, 0x0c},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := &eventv1.Event{}
			wantErr := proto.Unmarshal(data, want)
			if wantErr == nil && len(want.GetSealed()) > 0 {
				sealed := want.GetSealed()
				want.Sealed = nil
				wantErr = proto.UnmarshalOptions{Merge: true}.Unmarshal(sealed, want)
			}
			rec := recordOf(halves)
			rec.Data = data
			got, err := codec.Decode(rec)
			require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
			if err == nil {
				requireSame(t, want, got.GetEvent())
			}
		})
	}
}

// xor stands for a cipher.
func xor(key string, b []byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= key[0]
	}
	return out
}

func TestKeys(t *testing.T) {
	t.Parallel()
	seal := event.WithSealer(func(key string, b []byte) ([]byte, error) { return xor(key, b), nil })
	open := func(key string, b []byte) ([]byte, error) { return xor(key, b), nil }
	ev := trackEvent()
	ev.PayloadKey = "profile-1"
	rec, err := event.NewCodec(seal).Encode(ev)
	require.NoError(t, err)
	require.NotContains(t, string(rec.Data), "user-4711")

	t.Run("at hand", func(t *testing.T) {
		t.Parallel()
		got, err := event.NewCodec(event.WithOpener(open)).Decode(recordOf(rec))
		require.NoError(t, err)
		requireSame(t, ev, got.GetEvent())
		require.False(t, event.IsSealed(got.GetEvent()))
	})
	for name, codec := range map[string]*event.Codec{
		"no opener": event.NewCodec(),
		"key destroyed": event.NewCodec(event.WithOpener(func(string, []byte) ([]byte, error) {
			return nil, errors.Join(errors.New("profile-1"), event.ErrNoKey)
		})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := codec.Decode(recordOf(rec))
			require.NoError(t, err)
			require.True(t, event.IsSealed(got.GetEvent()))
			require.Empty(t, got.GetEvent().GetIdentifiers())
			require.Equal(t, "Product Viewed", got.GetEvent().GetPayload().GetTracked().GetName())
			require.Empty(t, got.GetEvent().GetPayload().GetTracked().GetUrl())
			require.Equal(t, "Product Viewed", event.Summary(got.GetEvent()))
			opened, err := open("profile-1", got.GetEvent().GetSealed())
			require.NoError(t, err)
			require.Contains(t, string(opened), "user-4711")
			_, err = codec.Encode(got.GetEvent())
			require.ErrorIs(t, err, event.ErrInconsistent, "what is sealed is not stored as if it were whole")
		})
	}
	t.Run("opener fails", func(t *testing.T) {
		t.Parallel()
		down := errors.New("key service is down")
		codec := event.NewCodec(event.WithOpener(func(string, []byte) ([]byte, error) { return nil, down }))
		_, err := codec.Decode(recordOf(rec))
		require.ErrorIs(t, err, down)
	})
	t.Run("wrong key", func(t *testing.T) {
		t.Parallel()
		codec := event.NewCodec(event.WithOpener(func(_ string, b []byte) ([]byte, error) { return xor("z", b), nil }))
		_, err := codec.Decode(recordOf(rec))
		require.ErrorIs(t, err, event.ErrMalformed)
	})
	t.Run("sealer fails", func(t *testing.T) {
		t.Parallel()
		full := errors.New("no entropy")
		codec := event.NewCodec(event.WithSealer(func(string, []byte) ([]byte, error) { return nil, full }))
		_, err := codec.Encode(ev)
		require.ErrorIs(t, err, full)
		codec = event.NewCodec(event.WithSealer(func(string, []byte) ([]byte, error) { return nil, nil }))
		_, err = codec.Encode(ev)
		require.ErrorIs(t, err, event.ErrInconsistent)
	})
}

func TestPeekRouting(t *testing.T) {
	t.Parallel()
	for _, typ := range event.Types() {
		ev := fullEvent(typ)
		rec, err := event.NewCodec().Encode(ev)
		require.NoError(t, err)
		got, err := event.PeekRouting(rec.Data)
		require.NoError(t, err)
		require.Equal(t, event.Routing{
			ID: ev.GetId(), Tenant: ev.GetTenant(), Type: typ, ProfileID: ev.GetProfileId(), Channel: ev.GetChannel(),
			Conversation: ev.GetConversation(), Backfill: true,
		}, got)
	}
	_, err := event.PeekRouting([]byte{0x0a, 5, 'a'})
	require.ErrorIs(t, err, event.ErrMalformed)
	got, err := event.PeekRouting([]byte{0x12, 1, 'a', 0x12, 1, 'b', 0xaa, 1, 1, 'k', 0xb2, 1, 1, 'x'})
	require.NoError(t, err)
	require.Equal(t, event.Routing{Tenant: "b", Sealed: true}, got)
}

func TestCodecIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	types := event.Types()
	done := make(chan error, 8)
	for worker := range cap(done) {
		go func() {
			done <- func() error {
				for i := range 200 {
					ev := fullEvent(types[(i+worker)%len(types)])
					rec, err := codec.Encode(ev)
					if err != nil {
						return err
					}
					got, err := codec.Decode(recordOf(rec))
					if err != nil {
						return err
					}
					if !proto.Equal(ev, got.GetEvent()) {
						return errors.New("another event came back: " + got.GetEvent().GetType())
					}
				}
				return nil
			}()
		}()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
}

func TestIsEvent(t *testing.T) {
	t.Parallel()
	for typ, want := range map[string]bool{
		"parley.page.viewed": true, "parley.not.known.yet": true,
		event.TypeQuarantine: false, event.TypeIngressBatch: false, "OrderPlaced": false, "parley": false,
	} {
		rec := &eventstore.Record{NewRecord: eventstore.NewRecord{Type: typ}}
		require.Equal(t, want, event.IsEvent(rec), typ)
		rec.ContentType = eventstore.ContentJSON
		require.False(t, event.IsEvent(rec), typ)
	}
}

// FuzzDecode holds the codec's own decoding to the library's, and what was
// decoded to what is encoded of it.
func FuzzDecode(f *testing.F) {
	codec := event.NewCodec()
	for _, typ := range event.Types()[:4] {
		ev := fullEvent(typ)
		rec, err := codec.Encode(ev)
		require.NoError(f, err)
		f.Add(rec.Data)
		whole, err := proto.Marshal(ev)
		require.NoError(f, err)
		f.Add(whole)
	}
	f.Add([]byte{0xba, 1, 3, 0x78, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, peekErr := event.PeekRouting(data)
		want := &eventv1.Event{}
		wantErr := proto.Unmarshal(data, want)
		if wantErr == nil && len(want.GetSealed()) > 0 && want.GetPayloadKey() == "" {
			sealed := want.GetSealed()
			want.Sealed = nil
			wantErr = proto.UnmarshalOptions{Merge: true}.Unmarshal(sealed, want)
		}
		if wantErr == nil {
			require.NoError(t, peekErr)
		}
		rec := recordOf(eventstore.NewRecord{Type: "parley.tracked", Data: data})
		got, err := codec.Decode(rec)
		if errors.Is(err, event.ErrNoUpcaster) {
			t.Skip()
		}
		require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
		if err != nil {
			return
		}
		require.True(t, proto.Equal(want, got.GetEvent()), cmp.Diff(want, got.GetEvent(), protocmp.Transform()))
		event.SanitizeNUL(got.GetEvent())
		require.False(t, strings.ContainsFunc(event.Summary(got.GetEvent()), func(r rune) bool { return r < ' ' }))
		encoded, err := codec.Encode(got.GetEvent())
		if err != nil {
			return
		}
		again, err := codec.Decode(recordOf(encoded))
		require.NoError(t, err)
		require.True(t, proto.Equal(got.GetEvent(), again.GetEvent()))
	})
}
