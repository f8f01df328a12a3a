package recorder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

func TestIndexOfAnotherLogIsMadeAnew(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7 anonymous_id=a"))
	require.NoError(t, g.index.close())
	g.store = openLog(t)
	g.deps.Log, g.catcher.store = g.store, g.store
	g.open()
	require.Empty(t, g.index.contents(t))
	require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(g.recordEvents(page("1", "user_id=7 anonymous_id=a"))))
	g.requireIndexIsLog()
}

func TestIndexAheadOfTheLogIsMadeAnew(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"), page("2", "user_id=7"))
	// As if the index had seen more than there is.
	require.NoError(t, g.index.commit(t.Context(), 100))
	g.reopen(false)
	g.requireIndexIsLog()
}

func TestIndexOfAnotherFormatIsMadeAnew(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"))
	var newer []byte
	found, err := g.index.table.get([]byte{'M'}, func(value []byte) error {
		newer = append([]byte{indexFormat + 1}, value[1:]...)
		return nil
	})
	require.NoError(t, err)
	require.True(t, found)
	g.index.table.set([]byte{'M'}, newer)
	require.NoError(t, g.index.table.commit(t.Context()))
	g.reopen(false)
	g.requireIndexIsLog()
}

func TestCorruptIndexIsMadeAnew(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"))
	require.NoError(t, g.index.close())
	manifests, err := filepath.Glob(filepath.Join(g.dir, indexFolder, "MANIFEST-*"))
	require.NoError(t, err)
	require.NotEmpty(t, manifests)
	for _, m := range manifests {
		require.NoError(t, os.WriteFile(m, []byte("this is no manifest, and never was one, whatever its name says"), 0o600))
	}
	g.open()
	g.requireIndexIsLog()
}

func TestIndexInUseIsAnError(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"))
	_, err := openIndex(t.Context(), g.options(g.dir), g.store)
	require.Error(t, err)
	require.NotErrorIs(t, err, errOtherLog)
	g.recordEvents(page("2", "user_id=7"))
	g.requireIndexIsLog()
}

func TestUnreadableIdentityEventIsSteppedOver(t *testing.T) {
	t.Parallel()
	store := openLog(t)
	_, err := store.Append(t.Context(), event.IdentityStream("acme"), eventstore.NoStream, eventstore.NewRecord{
		ID: event.DeterministicID("acme", "x", "1"), Type: "parley.link.asserted", Data: []byte{0xff},
	})
	require.NoError(t, err)
	_, err = store.Append(t.Context(), "acme.web-x", eventstore.NoStream, eventstore.NewRecord{
		ID: event.DeterministicID("acme", "x", "2"), Type: "parley.page.viewed", Data: []byte{0xff},
	})
	require.NoError(t, err)
	_, err = store.Append(t.Context(), "not of parley", eventstore.NoStream, eventstore.NewRecord{
		ID: event.DeterministicID("acme", "x", "3"), Type: "other", Data: []byte("{}"), ContentType: eventstore.ContentJSON,
	})
	require.NoError(t, err)
	g := newRig(t, store)
	require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(g.recordEvents(page("1", "user_id=7 anonymous_id=a"))))
	g.requireIndexIsLog()
}

func mail(name string, p *eventv1.Payload) *eventv1.Event {
	ev := page(name, "email=ada@example.com")
	ev.Channel, ev.Type, ev.Payload = "email", "", p
	event.Stamp(ev)
	return ev
}

func received(id, parent string, references ...string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: &eventv1.EmailReceived{MessageId: id, InReplyTo: parent, References: references, Subject: "Tea"}}}
}

func TestMailThreads(t *testing.T) {
	t.Parallel()
	sent := &eventv1.Payload{Kind: &eventv1.Payload_EmailSent{EmailSent: &eventv1.EmailSent{MessageId: "answer@us"}}}
	bounced := &eventv1.Payload{Kind: &eventv1.Payload_EmailBounced{EmailBounced: &eventv1.EmailBounced{MessageId: "answer@us"}}}
	answer := mail("answer", sent)
	answer.Conversation = "ticket-4711"
	steps := []*eventv1.Event{
		mail("first", received("1@them", "")),
		mail("reply", received("2@them", "1@them", "1@them")),
		mail("deep", received("3@them", "unknown@x", "1@them", "unknown@x")),
		mail("late child", received("4@them", "unknown@x")),
		answer,
		mail("to answer", received("5@them", "answer@us")),
		mail("bounce", bounced),
		mail("stranger", received("6@them", "")),
	}
	want := []int{0, 0, 0, 0, 1, 1, 1, 2}
	for _, restart := range []bool{false, true} {
		g := newRig(t, openLog(t))
		for _, s := range steps {
			require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(g.recordEvents(proto.CloneOf(s))))
			if restart {
				g.reopen(true)
			}
		}
		threads := map[string]int{}
		var got []int
		for _, ev := range g.stored() {
			c := ev.GetEvent().GetConversation()
			if _, ok := threads[c]; !ok {
				threads[c] = len(threads)
			}
			got = append(got, threads[c])
			require.Equal(t, "acme.email-"+c, ev.GetStream())
		}
		require.Equal(t, want, got)
		require.Equal(t, 1, threads["ticket-4711"])
		g.requireIndexIsLog()
	}
}

func TestConversations(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	call := page("call", "phone=+14158675309")
	call.Channel, call.Type = "phone", ""
	call.Payload = &eventv1.Payload{Kind: &eventv1.Payload_CallRinging{CallRinging: &eventv1.CallRinging{CallId: "CA1"}}}
	event.Stamp(call)
	given := page("given", "anonymous_id=a")
	given.Conversation = "session 1%"
	letter := page("letter", "email=ada@example.com anonymous_id=a")
	letter.Channel = "letter"
	nobody := page("nobody", "")
	known := page("known", "user_id=7 email=ada@example.com")
	g.recordEvents(call, given, page("visitor", "anonymous_id=a user_id=7"), letter, nobody, known)
	var got []string
	for _, ev := range g.stored() {
		got = append(got, ev.GetStream())
	}
	require.Equal(t, []string{
		"acme.phone-CA1",
		event.InteractionStream("acme", "web", "session 1%"),
		"acme.web-" + profileOf("acme", "anonymous_id=a"),
		"acme.letter-" + profileOf("acme", "email=ada@example.com"),
		"acme.web-" + nobody.GetId(),
		"acme.web-" + profileOf("acme", "user_id=7"),
	}, got)
	g.requireIndexIsLog()
}

func FuzzScan(f *testing.F) {
	for _, ev := range []*eventv1.Event{page("1", "user_id=7"), mail("2", received("a", "b", "c", "d"))} {
		data, err := proto.Marshal(ev)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte{0xc2, 0x01, 0x05, 0xa2, 0x01, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, ok := scan(data)
		ev := &eventv1.Event{}
		if proto.Unmarshal(data, ev) != nil {
			_ = scanMails(s.payload) // only must not panic
			return
		}
		require.True(t, ok, "what protobuf reads can be scanned")
		require.Equal(t, ev.GetProfileId(), string(s.profile))
		require.Equal(t, ev.GetConversation(), string(s.conversation))
		require.Equal(t, string(ev.GetContentDigest()), string(s.digest))
	})
}

// What the index reads of stored mails is what deciding reads of whole ones:
// for every kind of mail event, all fields filled.
func TestScanMailsAgrees(t *testing.T) {
	t.Parallel()
	mails := []*eventv1.Payload{received("own", "parent", "root", "middle", "parent"), received("", "", "root"), received("own", "")}
	for _, typ := range event.Types() {
		if !isMailType(typ) {
			continue
		}
		p, ok := event.NewPayload(typ)
		require.True(t, ok)
		member := p.ProtoReflect().WhichOneof(p.ProtoReflect().Descriptor().Oneofs().ByName("kind"))
		m := p.ProtoReflect().Mutable(member).Message()
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); f.Kind() == protoreflect.StringKind && !f.IsList() {
				m.Set(f, protoreflect.ValueOfString("value of "+string(f.Name())))
			}
		}
		require.NotEmpty(t, mailsOf(p), typ)
		mails = append(mails, p)
	}
	require.Greater(t, len(mails), 8)
	for _, p := range mails {
		data, err := proto.Marshal(p)
		require.NoError(t, err)
		require.Equal(t, mailsOf(p), scanMails(data))
	}
}

func TestIndexThatCannotBeWrittenIsUnhealthy(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"))
	require.NoError(t, g.Healthy())
	o := pebbleOptions(g.options(g.dir))
	o.EventListener.BackgroundError(os.ErrPermission)
	require.ErrorIs(t, g.Healthy(), os.ErrPermission)
	o.EventListener.FlushEnd(pebble.FlushInfo{})
	require.NoError(t, g.Healthy())
	o.Logger.Fatalf("lost %s", "it")
	require.ErrorContains(t, g.Healthy(), "lost it")
}
