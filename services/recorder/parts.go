package recorder

import (
	"slices"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// parts is a plan for a store without a commit over many streams: appends to
// one stream each, and which of them must stand in the log before which. Parts
// that do not wait for each other go in parallel (spread.go), so that the log
// may get any set of them that has, with each, those that it waits for. Package
// recorder's comment says why that is enough.
type parts struct {
	list []part
	// last is the last part that has to do with a stream or a mail.
	last map[tie]int
	// tails are the last parts of streams.
	tails map[string]int
	// decided is a tenant's last part of what is decided about identities.
	decided map[string]int
	// newcomers go into the log in the order in which they came; see
	// Deps.NewcomersInOrder. Then named is a tenant's last part by which the log
	// gets to know a profile, and seen the part by which it gets to know each.
	newcomers bool
	named     map[string]int
	seen      map[nameKey]int
}

// part is one append. It is made as a whole.
type part struct {
	eventstore.StreamAppend
	bytes int
	// after are the parts that must stand in the log before it.
	after []int
	// decides: it is what is decided about identities.
	decides bool
	// urgent: many wait for it.
	urgent bool
}

// tie is what the conversation of an interaction is told by: those that share
// one keep their order, also where they turn out to be of different streams.
type tie struct {
	mail   mailKey
	stream string
}

// maxPartBytes bounds one append. EventStoreDB's own bound is 1 MiB by
// default, in which it counts types twice.
const maxPartBytes = eventstore.MaxRecordBytes

// bonds say what a part has to do with others of its tenant, besides those of
// its own stream. Their zero value is nothing.
type bonds struct {
	tenant string
	// decides: it is what is decided about identities.
	decides bool
	// shows: it is an interaction. It stands behind every decision that was
	// made before it.
	shows bool
	// names are the newcomers that the log gets to know by it.
	names []string
	// after are parts that must stand before it.
	after []int
	ties  []tie
}

func newParts(newcomers bool) *parts {
	return &parts{
		last: map[tie]int{}, tails: map[string]int{}, decided: map[string]int{},
		newcomers: newcomers, named: map[string]int{}, seen: map[nameKey]int{},
	}
}

// sizeOf is what records count for in an append.
func sizeOf(records []eventstore.NewRecord) int {
	n := 0
	for i := range records {
		n += len(records[i].Data) + len(records[i].Metadata) + 2*len(records[i].Type)
	}
	return n
}

// add adds records that are appended as a whole: to the last part of their
// stream, where they fit in and wait for nothing behind it, or as a new one.
func (s *parts) add(a eventstore.StreamAppend, b bonds) {
	after := slices.Clone(b.after)
	note := func(i int, there bool) {
		if there && !slices.Contains(after, i) {
			after = append(after, i)
		}
	}
	named := b.decides || len(b.names) > 0
	if named {
		i, there := s.named[b.tenant]
		note(i, there)
	}
	if b.shows {
		i, there := s.decided[b.tenant]
		note(i, there)
	}
	ties := append(slices.Clone(b.ties), tie{stream: a.Stream})
	for _, t := range ties {
		i, there := s.last[t]
		note(i, there)
	}

	at, size := s.join(a, after)
	p := &s.list[at]
	p.bytes += size
	p.decides = b.decides
	p.urgent = p.urgent || named
	for _, t := range ties {
		s.last[t] = at
	}
	s.tails[a.Stream] = at
	if b.decides {
		s.decided[b.tenant] = at
	}
	if named {
		s.named[b.tenant] = at
	}
	for _, name := range b.names {
		s.seen[nameKey{b.tenant, name}] = at
	}
}

// join finds the part that records go into. No two parts may wait for each
// other, also not for what records bring which join one: so a part waits for
// earlier ones of the list, or for decisions while those wait for nothing else.
func (s *parts) join(a eventstore.StreamAppend, after []int) (at, size int) {
	size = sizeOf(a.Records)
	at, there := s.tails[a.Stream]
	fits := there && s.list[at].bytes+size <= maxPartBytes
	for _, i := range after {
		fits = fits && (i <= at || s.list[i].decides && !s.newcomers)
	}
	if !fits {
		s.list = append(s.list, part{StreamAppend: a, after: after})
		return len(s.list) - 1, size
	}
	p := &s.list[at]
	p.Records = append(p.Records, a.Records...)
	for _, i := range after {
		if i != at && !slices.Contains(p.after, i) {
			p.after = append(p.after, i)
		}
	}
	return at, size
}

// ofDecisions are the bonds of what a cause shows about identities.
func (s *parts) ofDecisions(tenant string, events []*eventv1.Event) bonds {
	b := bonds{tenant: tenant, decides: true}
	if !s.newcomers {
		return b
	}
	name := func(profiles ...string) {
		for _, p := range profiles {
			if _, there := s.seen[nameKey{tenant, p}]; !there {
				b.names = append(b.names, p)
			}
		}
	}
	for _, ev := range events {
		switch p := ev.GetPayload().GetKind().(type) {
		case *eventv1.Payload_LinkAsserted:
			name(p.LinkAsserted.GetProfileId(), p.LinkAsserted.GetOtherProfileId())
		case *eventv1.Payload_LinkRefused:
			name(p.LinkRefused.GetProfileId(), p.LinkRefused.GetOtherProfileId())
		default: // names nobody who was not seen
		}
	}
	return b
}

// ofInteraction are the bonds of an interaction with the mails that it names.
func (s *parts) ofInteraction(x *index, ev *eventv1.Event, mails [][]byte) (bonds, error) {
	tenant, profile := ev.GetTenant(), ev.GetProfileId()
	b := bonds{tenant: tenant, shows: true}
	for _, m := range mails {
		b.ties = append(b.ties, tie{mail: mailKeyOf(tenant, m)})
	}
	// Whether there is such a conversation decides which one the mail belongs to.
	if address := ev.GetPayload().GetEmailReceived().GetAddressConversation(); address != "" {
		b.ties = append(b.ties, tie{stream: event.InteractionStream(tenant, channelEmail, address)})
	}
	if profile == "" || !s.newcomers {
		return b, nil
	}
	if i, planned := s.seen[nameKey{tenant, profile}]; planned {
		b.after = append(b.after, i)
		return b, nil
	}
	_, seen, err := x.Profile(tenant, profile)
	if err == nil && !seen {
		b.names = []string{profile}
	}
	return b, err
}
