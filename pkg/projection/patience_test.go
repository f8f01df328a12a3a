package projection_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// A projection that may wait commits at once for whoever waits.
func TestLiveDelayEndsWhereSomebodyWaits(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	e, _ := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{LiveDelay: time.Hour})
	for _, page := range projectiontest.Events(t, `
		p1 page.viewed {"path": "/1"}
		p1 page.viewed {"path": "/2"}
		p2 page.viewed {"path": "/3"}`) {
		last := projectiontest.Append(t, log, page)
		projectiontest.WaitFor(t, e, last)
		require.Equal(t, last, e.Position())
	}
}

// Types that a projection does not name are passed over without being decoded,
// and its position moves on all the same.
func TestTypesThatAreNotNamedAreNotDecoded(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	def := visits()
	def.Types = []string{"parley.page.viewed"}
	codec := &countingDecoder{Codec: event.NewCodec(), seen: map[string]int{}}
	e, err := projection.New(t.Context(), def, projection.Deps{
		Log: log, Codec: codec, Views: projectiontest.NewViews(t), Options: projection.Options{Decoders: 1},
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	last := projectiontest.Append(t, log, projectiontest.Events(t, `
		p1 page.viewed {"path": "/pricing"}
		p1 traits.updated {"traits": [{"name": "name", "valueJson": "\"Ada\""}]}
		p2 page.viewed {"path": "/pricing"}
		- customers.merged {"customerId": "p1", "absorbedCustomerId": "p2", "absorbedProfileIds": ["p2"]}
		p2 traits.updated {"traits": [{"name": "name", "valueJson": "\"Bob\""}]}`)...)
	projectiontest.WaitFor(t, e, last)
	doc, id, err := e.Reader().Document(t.Context(), "acme", "p2")
	require.NoError(t, err)
	require.Equal(t, "p1", id, "merges are taken in any case")
	require.EqualValues(t, 2, doc.GetInteractionCount())
	require.Empty(t, doc.GetTraits())
	stop()
	require.NoError(t, <-done)
	require.NoError(t, e.Close())
	require.Equal(t, map[string]int{"parley.page.viewed": 2, "parley.customers.merged": 1}, codec.seen)
}

type countingDecoder struct {
	*event.Codec
	seen map[string]int
}

func (c *countingDecoder) DecodeInto(rec *eventstore.Record, ev *eventv1.RecordedEvent) error {
	c.seen[rec.Type]++
	return c.Codec.DecodeInto(rec, ev)
}
