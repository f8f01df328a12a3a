package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

const (
	// catchUpChunk is how many records go into one commit: the more, the fewer
	// records of streams and profiles are written twice.
	catchUpChunk = 16 << 10
	// progressEvery is how often a long catch-up says how far it is.
	progressEvery = 5 * time.Second
)

// catcher brings the index up to the log's head.
type catcher struct {
	store eventstore.Store
	codec *event.Codec
	log   *slog.Logger
	now   func() time.Time
	// skipped counts identity events that cannot be read.
	skipped func()

	scratch eventv1.RecordedEvent
}

// catchUp folds everything behind the checkpoint. What was not committed is
// discarded first.
func (c *catcher) catchUp(ctx context.Context, x *index) error {
	head, err := c.store.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the log's head: %w", err)
	}
	x.discard()
	if head == x.position {
		return nil
	}
	if head < x.position {
		return fmt.Errorf("the index is at position %d, the log ends at %d: %w", x.position, head, eventstore.ErrAhead)
	}
	return c.follow(ctx, x, head)
}

// follow folds everything behind the checkpoint, in one read, which ends at head
// or behind it. What was not committed is discarded first.
func (c *catcher) follow(ctx context.Context, x *index, head eventstore.Position) error {
	x.discard()
	began, from := c.now(), x.position
	next, pending, said := began.Add(progressEvery), 0, false
	last := x.position
	for rec, err := range c.store.ReadAll(ctx, eventstore.ReadAllOptions{From: x.position}) {
		if err != nil {
			x.discard()
			return fmt.Errorf("read the log behind position %d: %w", last, err)
		}
		if err := c.fold(x, rec); err != nil {
			x.discard()
			return fmt.Errorf("index position %d: %w", rec.Position, err)
		}
		last = rec.Position
		if pending++; pending < catchUpChunk {
			continue
		}
		pending = 0
		if err := x.commit(ctx, last); err != nil {
			return err
		}
		if now := c.now(); now.After(next) {
			next, said = now.Add(progressEvery), true
			c.log.Info("bringing the recorder's index up to the log", "position", uint64(last), "head", uint64(head))
		}
	}
	if last != x.position {
		if err := x.commit(ctx, last); err != nil {
			return err
		}
	}
	if said || from == 0 {
		c.log.Info("the recorder's index is up to the log", "position", uint64(last), "from", uint64(from), "took", c.now().Sub(began))
	}
	return nil
}

// fold takes one record of the log.
func (c *catcher) fold(x *index, rec *eventstore.Record) error {
	tenant := event.TenantOf(rec.Stream)
	if tenant == "" {
		return nil
	}
	x.streams[rec.Stream] = rec.Revision
	if identity.IsIdentityType(rec.Type) {
		if rec.Stream == event.IdentityStream(tenant) {
			return c.foldIdentity(x, tenant, rec)
		}
		return nil
	}
	e := entry{position: rec.Position}
	if event.IsEvent(rec) {
		s, ok := scan(rec.Data)
		if !ok {
			c.unreadable(rec, event.ErrMalformed)
			return nil
		}
		e.digest = toDigest(s.digest)
		if err := x.graph.See(tenant, string(s.profile), string(s.kind), uint64(rec.Position)); err != nil {
			return err
		}
		if isMailType(rec.Type) {
			if err := x.addMails(tenant, scanMails(s.payload), string(s.conversation)); err != nil {
				return err
			}
		}
	}
	x.events[eventKey{tenant, rec.ID}] = e
	return nil
}

func (c *catcher) foldIdentity(x *index, tenant string, rec *eventstore.Record) error {
	if err := c.codec.DecodeInto(rec, &c.scratch); err != nil {
		// Every recorder steps over it alike; the read models park it.
		c.unreadable(rec, err)
		return nil
	}
	ev := c.scratch.GetEvent()
	ev.Tenant = tenant
	if changed := ev.GetPayload().GetIdentityRulesChanged(); changed != nil {
		if err := x.changeRules(tenant, ev.GetId(), proto.CloneOf(changed.GetRules())); err != nil {
			c.unreadable(rec, err)
		}
	}
	if err := x.addCommand(tenant, ev, rec.Position); err != nil {
		return err
	}
	return x.graph.Apply(ev, uint64(rec.Position))
}

func (c *catcher) unreadable(rec *eventstore.Record, err error) {
	c.skipped()
	c.log.Error("the log has an event that cannot be read; the recorder's index does without it",
		"stream", rec.Stream, "position", uint64(rec.Position), "event_id", rec.ID, "error", err)
}

// Field numbers of Event and Payload that a scan looks for.
const (
	fieldProfileID     protowire.Number = 5
	fieldProfileKind   protowire.Number = 27
	fieldContentDigest protowire.Number = 9
	fieldConversation  protowire.Number = 15
	fieldPayload       protowire.Number = 24

	fieldEmailFirst protowire.Number = 20 // email_received
	fieldEmailLast  protowire.Number = 26 // email_complained

	fieldMessageID  protowire.Number = 1
	fieldInReplyTo  protowire.Number = 2
	fieldReferences protowire.Number = 3
)

// scanned is what the index needs of a stored event. It shares the record's
// memory.
type scanned struct {
	profile, kind, digest, conversation, payload []byte
}

// scan finds the fields without decoding anything else.
func scan(data []byte) (scanned, bool) {
	var s scanned
	for len(data) > 0 {
		number, wire, n := protowire.ConsumeTag(data)
		if n < 0 {
			return scanned{}, false
		}
		data = data[n:]
		if wire != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, wire, data); n < 0 {
				return scanned{}, false
			}
			data = data[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return scanned{}, false
		}
		data = data[n:]
		switch number {
		case fieldProfileID:
			s.profile = value
		case fieldProfileKind:
			s.kind = value
		case fieldContentDigest:
			s.digest = value
		case fieldConversation:
			s.conversation = value
		case fieldPayload:
			s.payload = value
		default:
		}
	}
	return s, true
}
