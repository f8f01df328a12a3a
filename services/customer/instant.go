package customer

import (
	"cmp"
	"math"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// instant is a time as protobuf has it: seconds since 1970 and nanoseconds from
// 0 to 999,999,999. Comparing two needs no time.Time.
type instant struct {
	seconds int64
	nanos   int32
}

// orderingTime is the time by which an event is ordered, in whole microseconds
// as the timeline's index has it.
func orderingTime(ev *eventv1.Event) instant {
	t := event.Time(ev)
	return microseconds(instant{seconds: t.Unix(), nanos: int32(t.Nanosecond())})
}

func microseconds(a instant) instant {
	a.nanos -= a.nanos % 1000
	return a
}

// orderingSequence is the source's own sequence as the timeline's index has it.
func orderingSequence(sequence uint64) int64 { return int64(min(sequence, math.MaxInt64)) }

// instantOf is the instant of a timestamp; 1970 for none.
func instantOf(t *timestamppb.Timestamp) instant {
	return instant{seconds: t.GetSeconds(), nanos: t.GetNanos()}
}

func (a instant) compare(b instant) int {
	if a.seconds != b.seconds {
		return cmp.Compare(a.seconds, b.seconds)
	}
	return cmp.Compare(a.nanos, b.nanos)
}

// proto is a new timestamp.
func (a instant) proto() *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: a.seconds, Nanos: a.nanos}
}

// into sets t, or a new timestamp where there is none.
func (a instant) into(t *timestamppb.Timestamp) *timestamppb.Timestamp {
	if t == nil {
		return a.proto()
	}
	t.Seconds, t.Nanos = a.seconds, a.nanos
	return t
}

// earliest moves t back to at where at is before it, or sets it.
func earliest(t *timestamppb.Timestamp, at instant) *timestamppb.Timestamp {
	if t == nil || at.compare(instantOf(t)) < 0 {
		return at.into(t)
	}
	return t
}

// latest moves t forward to at where at is behind it, or sets it.
func latest(t *timestamppb.Timestamp, at instant) *timestamppb.Timestamp {
	if t == nil || at.compare(instantOf(t)) > 0 {
		return at.into(t)
	}
	return t
}

// mergeEarliest and mergeLatest do the same with what another document says,
// if anything.
func mergeEarliest(t, other *timestamppb.Timestamp) *timestamppb.Timestamp {
	if other == nil {
		return t
	}
	return earliest(t, instantOf(other))
}

func mergeLatest(t, other *timestamppb.Timestamp) *timestamppb.Timestamp {
	if other == nil {
		return t
	}
	return latest(t, instantOf(other))
}

func copyTime(t *timestamppb.Timestamp) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return instantOf(t).proto()
}

// compareSaid orders statements: by ordering time, then by event id. The later
// one holds.
func compareSaid(at *timestamppb.Timestamp, id string, otherAt instant, otherID string) int {
	if order := instantOf(at).compare(otherAt); order != 0 {
		return order
	}
	return cmp.Compare(id, otherID)
}
