package event_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// nameFromProperties is an upcaster as it is written: in version 1 of this
// made-up history, parley.tracked had no name; it stood in the properties as
// `event`. Version 2 has a field for it.
func nameFromProperties(ev *eventv1.Event) error {
	tracked := ev.GetPayload().GetTracked()
	if event.IsSealed(ev) {
		// The properties are personal and their key is gone: the name with them.
		tracked.Name = "(erased)"
		return nil
	}
	var properties map[string]json.RawMessage
	if err := json.Unmarshal([]byte(tracked.GetPropertiesJson()), &properties); err != nil {
		return err
	}
	if err := json.Unmarshal(properties["event"], &tracked.Name); err != nil {
		return err
	}
	delete(properties, "event")
	rest, err := json.Marshal(properties)
	if err != nil {
		return err
	}
	tracked.PropertiesJson = string(rest)
	return nil
}

// productViewed is an upcaster from version 2 to 3, in which the name is written otherwise.
func productViewed(ev *eventv1.Event) error {
	if t := ev.GetPayload().GetTracked(); t.GetName() == "product-viewed" {
		t.Name = "Product Viewed"
	}
	return nil
}

func oldTracked(version uint32, name, properties string) *eventv1.Event {
	return &eventv1.Event{
		Id: uuid.NewString(), Tenant: "default", Type: "parley.tracked", SchemaVersion: version,
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_Tracked{
			Tracked: &eventv1.Tracked{Name: name, PropertiesJson: properties},
		}},
	}
}

func TestUpcasters(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec(
		// The order of registration does not count.
		event.WithUpcaster("parley.tracked", 2, productViewed),
		event.WithUpcaster("parley.tracked", 1, nameFromProperties),
	)
	for name, c := range map[string]struct{ given, want *eventv1.Event }{
		"version 1 runs through the chain": {
			oldTracked(1, "", `{"event":"product-viewed","sku":"42"}`), oldTracked(3, "Product Viewed", `{"sku":"42"}`),
		},
		"version 0 stands for 1": {
			oldTracked(0, "", `{"event":"product-viewed","sku":"42"}`), oldTracked(3, "Product Viewed", `{"sku":"42"}`),
		},
		"version 2 enters the chain in its place": {
			oldTracked(2, "product-viewed", `{"event":"kept"}`), oldTracked(3, "Product Viewed", `{"event":"kept"}`),
		},
		"the current version is left alone": {oldTracked(3, "product-viewed", "{}"), oldTracked(3, "product-viewed", "{}")},
		"a newer version is left alone":     {oldTracked(9, "product-viewed", "{}"), oldTracked(9, "product-viewed", "{}")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec, err := codec.Encode(c.given)
			require.NoError(t, err)
			got, err := codec.Decode(recordOf(rec))
			require.NoError(t, err)
			c.want.Id = c.given.GetId()
			requireSame(t, c.want, got.GetEvent())
		})
	}
}

func TestUpcastersOfErasedEvents(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec(
		event.WithSealer(func(key string, b []byte) ([]byte, error) { return xor(key, b), nil }),
		event.WithUpcaster("parley.tracked", 1, nameFromProperties),
	)
	ev := oldTracked(1, "", `{"event":"product-viewed"}`)
	ev.PayloadKey = "k"
	rec, err := codec.Encode(ev)
	require.NoError(t, err)
	got, err := codec.Decode(recordOf(rec))
	require.NoError(t, err)
	require.Equal(t, "(erased)", got.GetEvent().GetPayload().GetTracked().GetName())
}

func TestUpcastersThatFail(t *testing.T) {
	t.Parallel()
	rec, err := event.NewCodec().Encode(oldTracked(1, "", `{"event":"x"}`))
	require.NoError(t, err)

	gap := event.NewCodec(event.WithUpcaster("parley.tracked", 2, productViewed))
	_, err = gap.Decode(recordOf(rec))
	require.ErrorIs(t, err, event.ErrNoUpcaster)
	require.ErrorContains(t, err, "parley.tracked from version 1 to 2")

	broken := errors.New("broken")
	codec := event.NewCodec(event.WithUpcaster("parley.tracked", 1, func(*eventv1.Event) error { return broken }))
	_, err = codec.Decode(recordOf(rec))
	require.ErrorIs(t, err, broken)
}
