package event_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func TestOccurred(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	const (
		asSaid      = eventv1.TimeQuality_TIME_QUALITY_AS_SAID
		corrected   = eventv1.TimeQuality_TIME_QUALITY_CORRECTED
		implausible = eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE
	)
	for name, c := range map[string]struct {
		said      time.Time
		corrected bool
		want      time.Time
		quality   eventv1.TimeQuality
		orders    time.Time
	}{
		"said":                          {said: received.Add(-time.Hour), want: received.Add(-time.Hour), quality: asSaid, orders: received.Add(-time.Hour)},
		"corrected":                     {said: received, corrected: true, want: received, quality: corrected, orders: received},
		"in another zone":               {said: received.In(time.FixedZone("", 7200)), want: received, quality: asSaid, orders: received},
		"a day ahead":                   {said: received.Add(24 * time.Hour), want: received.Add(24 * time.Hour), quality: asSaid, orders: received.Add(24 * time.Hour)},
		"over a day ahead":              {said: received.Add(24*time.Hour + 1), want: received.Add(24*time.Hour + 1), quality: implausible, orders: received},
		"first year":                    {said: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), want: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), quality: asSaid, orders: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)},
		"before it":                     {said: time.Date(1989, 12, 31, 23, 59, 59, 0, time.UTC), want: time.Date(1989, 12, 31, 23, 59, 59, 0, time.UTC), quality: implausible, orders: received},
		"implausible, though corrected": {said: time.Unix(0, 0), corrected: true, want: time.Unix(0, 0), quality: implausible, orders: received},
		"Go's zero time":                {said: time.Time{}, want: time.Time{}, quality: implausible, orders: received},
		"year 1":                        {said: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), want: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), quality: implausible, orders: received},
		"year 9999":                     {said: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), want: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), quality: implausible, orders: received},
		"year 0":                        {said: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), want: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), quality: implausible, orders: received},
		"year 10000":                    {said: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), want: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), quality: implausible, orders: received},
		"year 292277026596":             {said: time.Unix(1<<62, 0), want: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), quality: implausible, orders: received},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := &eventv1.Event{}
			event.SetOccurred(ev, c.said, received, c.corrected)
			require.NoError(t, ev.GetOccurredTime().CheckValid())
			require.NoError(t, ev.GetReceivedTime().CheckValid())
			require.Equal(t, c.want.UTC(), ev.GetOccurredTime().AsTime())
			require.Equal(t, c.quality, ev.GetTimeQuality())
			require.Equal(t, received, ev.GetReceivedTime().AsTime())
			require.Equal(t, c.orders.UTC(), event.Time(ev))
		})
	}
}

func TestReceived(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	ev := &eventv1.Event{}
	event.SetReceived(ev, received)
	require.Equal(t, received, ev.GetOccurredTime().AsTime())
	require.Equal(t, received, ev.GetReceivedTime().AsTime())
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_RECEIVED, ev.GetTimeQuality())
	require.Equal(t, received, event.Time(ev))
}

func TestTimeOfIncompleteEvents(t *testing.T) {
	t.Parallel()
	at := timestamppb.New(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	require.True(t, event.Time(&eventv1.Event{}).IsZero())
	require.Equal(t, at.AsTime(), event.Time(&eventv1.Event{ReceivedTime: at}))
	require.Equal(t, at.AsTime(), event.Time(&eventv1.Event{OccurredTime: at}))
	require.Equal(t, at.AsTime(), event.Time(&eventv1.Event{
		OccurredTime: at, TimeQuality: eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE,
	}))
}
