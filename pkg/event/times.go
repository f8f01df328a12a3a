package event

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

const (
	// firstPlausibleYear: nothing that is recorded happened before it.
	firstPlausibleYear = 1990
	// maxAhead is how far in the future of its receipt an event may lie.
	maxAhead = 24 * time.Hour
)

// Bounds of google.protobuf.Timestamp.
var (
	minTimestamp = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTimestamp = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
)

// Time is the time that orders an event: when it happened, or when it was
// received where what is said of that cannot be. The zero time for an event
// that has neither.
func Time(ev *eventv1.Event) time.Time {
	said := ev.GetOccurredTime()
	if said == nil || ev.GetTimeQuality() == eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE {
		if received := ev.GetReceivedTime(); received != nil {
			return received.AsTime()
		}
	}
	if said == nil {
		return time.Time{}
	}
	return said.AsTime()
}

// SetReceived sets occurred_time, received_time and time_quality of an event
// whose source said no time: the received time stands for it.
func SetReceived(ev *eventv1.Event, received time.Time) {
	ev.ReceivedTime = timestamppb.New(clampTime(received))
	ev.OccurredTime = timestamppb.New(clampTime(received))
	ev.TimeQuality = eventv1.TimeQuality_TIME_QUALITY_RECEIVED
}

// SetOccurred sets occurred_time, received_time and time_quality from what the
// source said; SetReceived is for a source that said nothing. What is said is kept also where it cannot be (before 1990, or over a day ahead of
// the receipt), and marked as implausible; outside the years 1 to 9999 it is
// the nearest time that can be written. corrected says that the sender's clock
// was corrected for.
func SetOccurred(ev *eventv1.Event, said, received time.Time, corrected bool) {
	received = clampTime(received)
	ev.ReceivedTime = timestamppb.New(received)
	ev.OccurredTime = timestamppb.New(clampTime(said))
	switch {
	case said.UTC().Year() < firstPlausibleYear || said.After(received.Add(maxAhead)):
		ev.TimeQuality = eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE
	case corrected:
		ev.TimeQuality = eventv1.TimeQuality_TIME_QUALITY_CORRECTED
	default:
		ev.TimeQuality = eventv1.TimeQuality_TIME_QUALITY_AS_SAID
	}
}

func clampTime(t time.Time) time.Time {
	switch {
	case t.Before(minTimestamp):
		return minTimestamp
	case t.After(maxTimestamp):
		return maxTimestamp
	default:
		return t
	}
}
