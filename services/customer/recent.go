package customer

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Interactions are ordered by time, then by the source's own sequence, then by
// event id, everywhere: among the recent ones as in the timeline. Sources that
// number the steps of a conversation give times by the second, so that it is
// the sequence that orders the steps within one. Sequence before time would be
// no order at all as soon as a second conversation runs between.

// addRecent puts the event among the newest interactions, if it is one.
func addRecent(doc *customerv1.Customer, rec *eventv1.RecordedEvent, at instant) {
	ev := rec.GetEvent()
	list := doc.GetRecentInteractions()
	if len(list) == maxRecent && compareToRecent(list[maxRecent-1], ev, at) > 0 {
		return
	}
	i := 0
	// Most events are the newest of their customer.
	if len(list) > 0 && compareToRecent(list[0], ev, at) > 0 {
		i, _ = slices.BinarySearchFunc(list, ev, func(known *customerv1.InteractionSummary, ev *eventv1.Event) int {
			return -compareToRecent(known, ev, at)
		})
	}
	doc.RecentInteractions = insertCapped(list, i, summarise(rec, at), maxRecent)
}

func compareToRecent(known *customerv1.InteractionSummary, ev *eventv1.Event, at instant) int {
	if order := instantOf(known.GetTime()).compare(at); order != 0 {
		return order
	}
	if order := cmp.Compare(orderingSequence(known.GetSourceSequence()), orderingSequence(ev.GetSourceSequence())); order != 0 {
		return order
	}
	return cmp.Compare(known.GetEventId(), ev.GetId())
}

// compareRecent is the order of recent interactions: the newest first.
func compareRecent(a, b *customerv1.InteractionSummary) int {
	if order := instantOf(b.GetTime()).compare(instantOf(a.GetTime())); order != 0 {
		return order
	}
	if order := cmp.Compare(orderingSequence(b.GetSourceSequence()), orderingSequence(a.GetSourceSequence())); order != 0 {
		return order
	}
	return cmp.Compare(b.GetEventId(), a.GetEventId())
}

// summarise is the interaction in one line.
func summarise(rec *eventv1.RecordedEvent, at instant) *customerv1.InteractionSummary {
	ev := rec.GetEvent()
	// One allocation for the line and its times.
	var block struct {
		line customerv1.InteractionSummary
		time timestamppb.Timestamp
	}
	s := &block.line
	s.Time = at.into(&block.time)
	if occurred := ev.GetOccurredTime(); occurred != nil && microseconds(instantOf(occurred)) != at {
		s.SaidTime = copyTime(occurred)
	}
	s.EventId = ev.GetId()
	s.Type = ev.GetType()
	s.Channel = ev.GetChannel()
	s.Direction = ev.GetDirection()
	s.Conversation = ev.GetConversation()
	s.Summary = event.Summary(ev)
	s.ProfileId = ev.GetProfileId()
	s.SourceSequence = ev.GetSourceSequence()
	s.TimeQuality = ev.GetTimeQuality()
	s.Position = rec.GetPosition()
	s.OrderId = orderID(ev)
	s.Backfill = ev.GetBackfill()
	if mail := ev.GetPayload().GetEmailReceived(); mail != nil {
		s.ReplyAddress = replyAddress(mail)
		s.Authentication = mail.GetAuthentication()
	}
	return s
}

// replyAddress is where the sender of a mail wants answers to go.
func replyAddress(mail *eventv1.EmailReceived) string {
	for _, list := range [...][]*eventv1.EmailAddress{mail.GetReplyTo(), mail.GetFrom()} {
		for _, a := range list {
			if a.GetAddress() != "" {
				return a.GetAddress()
			}
		}
	}
	return ""
}

// orderID is the id of the order that the event is about, where it is about one.
func orderID(ev *eventv1.Event) string {
	switch kind := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_OrderCompleted:
		return kind.OrderCompleted.GetOrderId()
	case *eventv1.Payload_OrderRefunded:
		return kind.OrderRefunded.GetOrderId()
	default:
		return ""
	}
}
