package projection_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
)

// The recipes by which schemas change, which package event tells, from what the
// binary before has written to the rollback. Contracts cannot change for a test,
// so what is there stands for what is new: records are made by hand as a binary
// wrote them that did not know it.

// Field numbers of the contract as it is stored.
const (
	eventID, eventTenant, eventType, eventVersion, eventProfile protowire.Number = 1, 2, 3, 4, 5
	eventSource, eventSourceID, eventOccurred, eventReceived    protowire.Number = 6, 7, 10, 12
	eventChannel, eventDirection, eventSealed, eventPayload     protowire.Number = 13, 14, 22, 24

	payloadPage, payloadTracked, payloadForm protowire.Number = 1, 3, 4

	pagePath, pageTitle, trackedName, formID, formName protowire.Number = 4, 5, 1, 1, 2
)

func minute(n int) time.Time { return projectiontest.Epoch.Add(time.Duration(n) * time.Minute) }

func wireText(number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), text)
}

func wireNumber(number protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
}

func wireMessage(number protowire.Number, fields ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), slices.Concat(fields...))
}

// written is a record of tenant acme as an earlier binary wrote it.
type written struct {
	typ     string
	version uint64
	profile string
	// n is the number of the event, and how many minutes after the first one it happened.
	n int
	// payload is the facts of the payload; sealed what that binary took for personal, since it did
	// not know it.
	payload, sealed []byte
}

// append appends the record, and checks that it is what is meant: what decodes without a word of complaint.
func (w written) append(t *testing.T, log eventstore.Store) eventstore.Position {
	t.Helper()
	id := event.DeterministicID("acme", "test", fmt.Sprint(w.n))
	at := wireNumber(1, uint64(minute(w.n).Unix()))
	data := slices.Concat(
		wireText(eventID, id.String()), wireText(eventTenant, "acme"), wireText(eventType, w.typ), wireNumber(eventVersion, w.version),
		wireText(eventProfile, w.profile), wireText(eventSource, "test"), wireText(eventSourceID, fmt.Sprint(w.n)),
		wireMessage(eventOccurred, at), wireMessage(eventReceived, at), wireText(eventChannel, "web"), wireNumber(eventDirection, 1),
		wireMessage(eventPayload, w.payload))
	if w.sealed != nil {
		data = append(data, wireMessage(eventSealed, wireMessage(eventPayload, w.sealed))...)
	}
	rec := eventstore.NewRecord{ID: id, Type: w.typ, ContentType: eventstore.ContentProtobuf, Data: data}
	ev, err := event.NewCodec().Decode(&eventstore.Record{NewRecord: rec})
	require.NoError(t, err)
	require.Empty(t, ev.GetEvent().ProtoReflect().GetUnknown())
	require.Equal(t, eventv1.Direction_DIRECTION_INBOUND, ev.GetEvent().GetDirection())
	done, err := log.AppendBatch(t.Context(), []eventstore.StreamAppend{{
		Stream: event.InteractionStream("acme", "web", w.profile), Expected: eventstore.Any, Records: []eventstore.NewRecord{rec},
	}})
	require.NoError(t, err)
	return done[0].Position
}

// appendAll appends events of the binary that knows the contract as it is, and records of earlier ones.
func appendAll(t *testing.T, log eventstore.Store, all ...any) (last eventstore.Position) {
	t.Helper()
	for _, one := range all {
		switch one := one.(type) {
		case written:
			last = one.append(t, log)
		case *eventv1.Event:
			last = projectiontest.Append(t, log, one)
		default:
			t.Fatalf("neither a record nor an event: %v", one)
		}
	}
	return last
}

// person is a projection of what is known of a person, as a version of it folds that.
func person(version uint32, fold func(doc *customerv1.Customer, ev *eventv1.Event, know func(name, value string))) projection.Customers[*customerv1.Customer] {
	def := visits()
	def.Version, def.Rows = version, nil
	def.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		ev := rec.GetEvent()
		fold(doc, ev, func(name, value string) {
			putTrait(doc, &customerv1.CustomerTrait{Name: name, ValueJson: value, OccurredTime: proto.CloneOf(ev.GetOccurredTime()), EventId: ev.GetId()})
		})
		return nil
	}
	return def
}

// shown is what readers see of a person.
func shown(t *testing.T, e *visitEngine, id string) string {
	t.Helper()
	doc, _, err := e.Reader().Document(t.Context(), "acme", id)
	require.NoError(t, err)
	text := fmt.Sprintf("%s: %d", id, doc.GetInteractionCount())
	for _, trait := range doc.GetTraits() {
		text += fmt.Sprintf(", %s %s", trait.GetName(), trait.GetValueJson())
	}
	return text
}

// rollout is how a schema changes: what each binary computes, what is written
// when, and what readers see of person p1 by each version at each step.
type rollout struct {
	// old is the projection in the binary before, previous the same in the new one beside next.
	old, previous, next projection.Customers[*customerv1.Customer]
	// codec of the new binary.
	codec *event.Codec
	// before the new binary was started, while it fills its generation, and once that serves.
	before, meanwhile, after []any
	// What readers see: by the old version before, meanwhile and after, by the new one meanwhile and after.
	oldBefore, oldMeanwhile, oldAfter, newMeanwhile, newAfter string
}

// run goes through it and returns what both binaries worked on.
func (r *rollout) run(t *testing.T) (eventstore.Store, view.Store) {
	t.Helper()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	last := appendAll(t, log, r.before...)
	e, stop := projectiontest.Start(t, r.old, log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	require.Equal(t, r.oldBefore, shown(t, e, "p1"))
	stop()

	// The new binary: it fills its generation, and reads what the one before has computed.
	next, release := held(r.next)
	deps := projection.Deps{Log: log, Views: views, Codec: r.codec}
	e, stop = projectiontest.StartWith(t, next, deps, r.previous)
	t.Cleanup(release)
	awaitRoles(t, e, "v1/g1 serving, v2/g2 candidate")
	require.Equal(t, r.oldBefore, shown(t, e, "p1"))
	projectiontest.WaitFor(t, e, appendAll(t, log, r.meanwhile...))
	require.Equal(t, r.oldMeanwhile, shown(t, e, "p1"), "what is written is seen, by the generation that serves")

	// It has caught up, and serves by itself.
	release()
	awaitRoles(t, e, "v2/g2 serving, v1/g1 previous")
	require.Eventually(t, func() bool { return e.Status().Namespace == generation(2, 2) }, time.Minute, time.Millisecond)
	require.Equal(t, r.newMeanwhile, shown(t, e, "p1"))
	projectiontest.WaitFor(t, e, appendAll(t, log, r.after...))
	require.Equal(t, r.newAfter, shown(t, e, "p1"))
	difference, err := e.Verify(t.Context(), projection.By{}, projection.VerifyOptions{CompareOptions: projection.CompareOptions{MaxDocuments: 3}})
	require.NoError(t, err)
	require.True(t, difference.GetEqual(), difference)

	// Back, at once: the generation before has been folded on, and is what its version's fold
	// makes of the whole log.
	require.NoError(t, e.Rollback(t.Context(), projection.By{}))
	require.Equal(t, r.oldAfter, shown(t, e, "p1"))
	requireReplay(t, e, r.previous, projection.Deps{Log: log, Codec: r.codec})
	stop()
	e, stop = projectiontest.StartWith(t, r.next, deps, r.previous)
	require.Equal(t, r.oldAfter, shown(t, e, "p1"), "rolled back it stays")
	awaitLive(t, e, 2)
	require.NoError(t, e.SwitchOver(t.Context(), projection.By{}, generation(2, 2)))
	require.Equal(t, r.newAfter, shown(t, e, "p1"))
	stop()
	return log, views
}

// held is a projection whose fold waits until it is released.
func held(def projection.Customers[*customerv1.Customer]) (_ projection.Customers[*customerv1.Customer], release func()) {
	gate := make(chan struct{})
	fold := def.Fold
	def.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		<-gate
		return fold(doc, rec)
	}
	return def, sync.OnceFunc(func() { close(gate) })
}

// requireReplay checks that what serves is what a definition computes of the log from its beginning.
func requireReplay(t *testing.T, e *visitEngine, def projection.Customers[*customerv1.Customer], deps projection.Deps) {
	t.Helper()
	head, err := deps.Log.Head(t.Context())
	require.NoError(t, err)
	projectiontest.WaitFor(t, e, head)
	got, err := e.Digest(t.Context())
	require.NoError(t, err)
	deps.Views = projectiontest.NewViews(t)
	clean, stop := projectiontest.StartWith(t, def, deps)
	defer stop()
	projectiontest.WaitFor(t, clean, head)
	want, err := clean.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
}

// page is page.viewed before it had a title; titled has one, from a gateway that
// knows it by a recorder that does not; titledPage is written by a binary that knows it.
func page(profile string, n int) written {
	return written{typ: "parley.page.viewed", version: 1, profile: profile, n: n, payload: wireMessage(payloadPage, wireText(pagePath, "/"))}
}

func titled(profile string, n int, title string) written {
	w := page(profile, n)
	w.sealed = wireMessage(payloadPage, wireText(pageTitle, title))
	return w
}

func titledPage(profile string, n int, title string) *eventv1.Event {
	return projectiontest.NewEvent("acme", profile, n, minute(n),
		&eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/", Title: title}}})
}

// TestRecipeAddField adds the title of a page to the event, and the title of
// the last page that has one to the document. Old events have none.
func TestRecipeAddField(t *testing.T) {
	t.Parallel()
	before := person(1, func(doc *customerv1.Customer, _ *eventv1.Event, _ func(string, string)) { doc.InteractionCount++ })
	r := rollout{
		codec: event.NewCodec(),
		old:   before, previous: before,
		next: person(2, func(doc *customerv1.Customer, ev *eventv1.Event, know func(name, value string)) {
			doc.InteractionCount++
			if title := ev.GetPayload().GetPageViewed().GetTitle(); title != "" {
				know("title", title)
			}
		}),
		before:       []any{page("p1", 1), page("p1", 2), titled("p1", 3, "Offers"), page("p1", 4), page("p2", 5)},
		oldBefore:    "p1: 4",
		meanwhile:    []any{page("p1", 6)},
		oldMeanwhile: "p1: 5",
		newMeanwhile: "p1: 5, title Offers", // though the binary that folded it first did not know the field
		after:        []any{titledPage("p1", 7, "Contact"), titledPage("p2", 8, "Jobs")},
		newAfter:     "p1: 6, title Contact",
		oldAfter:     "p1: 6",
	}
	log, views := r.run(t)

	// The binary before reads what its own version computed, and folds it on.
	e, stop := projectiontest.Start(t, r.old, log, views, projection.Options{})
	projectiontest.WaitFor(t, e, appendAll(t, log, titledPage("p1", 9, "Home")))
	require.Equal(t, "p1: 7", shown(t, e, "p1"))
	stop()
	// And the new one goes on where it was.
	e, _ = projectiontest.StartWith(t, r.next, projection.Deps{Log: log, Views: views, Codec: r.codec}, r.previous)
	requireReplay(t, e, r.next, projection.Deps{Log: log, Codec: r.codec})
	require.Equal(t, "p1: 7, title Home", shown(t, e, "p1"))
}

// form is form.submitted in version 1, where its name stood in form_id; namedForm has form_name.
func form(profile string, n int, name string) written {
	return written{typ: "parley.form.submitted", version: 1, profile: profile, n: n, payload: wireMessage(payloadForm, wireText(formID, name))}
}

func namedForm(version uint32, profile string, n int, name string) *eventv1.Event {
	ev := projectiontest.NewEvent("acme", profile, n, minute(n),
		&eventv1.Payload{Kind: &eventv1.Payload_FormSubmitted{FormSubmitted: &eventv1.FormSubmitted{FormName: name}}})
	ev.SchemaVersion = version
	return ev
}

// nameOfForm is the upcaster. A producer that fills in the new field and leaves
// schema_version out is taken to write version 1: what is filled in stays.
func nameOfForm(ev *eventv1.Event) error {
	submitted := ev.GetPayload().GetFormSubmitted()
	if submitted.GetFormName() == "" {
		submitted.FormName = submitted.GetFormId()
	}
	submitted.FormId = ""
	return nil
}

// lastForm is a version that knows a person's last form by a name, and finds that in events by read.
func lastForm(version uint32, name string, read func(*eventv1.FormSubmitted) string) projection.Customers[*customerv1.Customer] {
	return person(version, func(doc *customerv1.Customer, ev *eventv1.Event, know func(name, value string)) {
		doc.InteractionCount++
		know(name, read(ev.GetPayload().GetFormSubmitted()))
	})
}

// TestRecipeRenameField renames form_id to form_name in the event, and form to
// last_form in the document.
func TestRecipeRenameField(t *testing.T) {
	t.Parallel()
	r := rollout{
		codec: event.NewCodec(event.WithUpcaster("parley.form.submitted", 1, nameOfForm)),
		old:   lastForm(1, "form", (*eventv1.FormSubmitted).GetFormId),
		// In the new binary every event comes in the new shape, for the fold of the version before too.
		previous: lastForm(1, "form", (*eventv1.FormSubmitted).GetFormName),
		next:     lastForm(2, "last_form", (*eventv1.FormSubmitted).GetFormName),
		before:   []any{form("p1", 1, "signup"), form("p2", 2, "contact"), form("p1", 3, "survey")},
		meanwhile: []any{
			namedForm(2, "p1", 4, "feedback"),
			// No schema version and the new field.
			written{typ: "parley.form.submitted", version: 0, profile: "p1", n: 5, payload: wireMessage(payloadForm, wireText(formName, "callback"))},
		},
		after:        []any{namedForm(2, "p1", 6, "contact"), form("p1", 7, "order")}, // a gateway of the old binary still runs
		oldBefore:    "p1: 2, form survey",
		oldMeanwhile: "p1: 4, form callback",
		oldAfter:     "p1: 6, form order",
		newMeanwhile: "p1: 4, last_form callback",
		newAfter:     "p1: 6, last_form order",
	}
	log, views := r.run(t)

	// The binary before does not know the new field: gateways go back first. What it folds of
	// later events into its own generation is lost there, for good.
	e, stop := projectiontest.Start(t, r.old, log, views, projection.Options{})
	projectiontest.WaitFor(t, e, appendAll(t, log, namedForm(2, "p1", 8, "quote")))
	require.Equal(t, "p1: 7, form ", shown(t, e, "p1"))
	stop()
	// The new generation is none the worse for it; the other one can only be dropped.
	e, _ = projectiontest.StartWith(t, r.next, projection.Deps{Log: log, Views: views, Codec: r.codec}, r.previous)
	requireReplay(t, e, r.next, projection.Deps{Log: log, Codec: r.codec})
	require.Equal(t, "p1: 7, last_form quote", shown(t, e, "p1"))
	require.NoError(t, e.Drop(t.Context(), projection.By{}, generation(1, 1)))
	require.Equal(t, "v2/g2 serving", roles(t, e))
}

// TestRecipeRenameFieldAlone renames a field in the event, and documents stay as
// they are: then the version does too, and nothing is rebuilt.
func TestRecipeRenameFieldAlone(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	last := appendAll(t, log, form("p1", 1, "signup"), form("p2", 2, "contact"))
	e, stop := projectiontest.Start(t, lastForm(1, "form", (*eventv1.FormSubmitted).GetFormId), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	stop()
	now := lastForm(1, "form", (*eventv1.FormSubmitted).GetFormName)
	deps := projection.Deps{Log: log, Views: views, Codec: event.NewCodec(event.WithUpcaster("parley.form.submitted", 1, nameOfForm))}
	e, stop = projectiontest.StartWith(t, now, deps)
	projectiontest.WaitFor(t, e, appendAll(t, log, namedForm(2, "p1", 3, "survey")))
	require.Equal(t, "v1/g1 serving", roles(t, e))
	require.Equal(t, "p1: 2, form survey", shown(t, e, "p1"))
	require.Equal(t, "p2: 1, form contact", shown(t, e, "p2"))
	requireReplay(t, e, now, deps)
	stop()

	// Without the upcaster an event of the old version is no guess: it is a dead letter.
	deps.Views = projectiontest.NewViews(t)
	deps.Codec = event.NewCodec(event.WithUpcaster("parley.form.submitted", 2, nameOfForm))
	e, _ = projectiontest.StartWith(t, now, deps)
	head, err := log.Head(t.Context())
	require.NoError(t, err)
	projectiontest.WaitFor(t, e, head)
	require.Equal(t, 3, e.Status().DeadLetters+e.Status().Waiting)
	require.ErrorIs(t, e.Reader().Folded(t.Context(), "acme", "p1", head), projection.ErrDeadLetter)
}

// tracked is what was one type, told apart by a name, before it became page.viewed and form.submitted.
func tracked(profile string, n int, name string) written {
	return written{typ: "parley.tracked", version: 1, profile: profile, n: n, payload: wireMessage(payloadTracked, wireText(trackedName, name))}
}

const pageTracked, formTracked = "Page Viewed", "Form Submitted"

// deed is what an event says, whichever of the types it has: the one place that knows them all.
func deed(ev *eventv1.Event) string {
	switch p := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_PageViewed:
		return pageTracked
	case *eventv1.Payload_FormSubmitted:
		return formTracked
	case *eventv1.Payload_Tracked:
		return p.Tracked.GetName()
	default:
		return ""
	}
}

// TestRecipeSplitType splits tracked into page.viewed and form.submitted. Old
// events keep their type, and folds take all three.
func TestRecipeSplitType(t *testing.T) {
	t.Parallel()
	all := []string{"parley.tracked", "parley.page.viewed", "parley.form.submitted"}
	last := func(types []string, read func(*eventv1.Event) string) projection.Customers[*customerv1.Customer] {
		def := person(1, func(doc *customerv1.Customer, ev *eventv1.Event, know func(name, value string)) {
			if name := read(ev); name != "" {
				doc.InteractionCount++
				know("last", name)
			}
		})
		def.Types = types
		return def
	}
	old := last(all[:1], func(ev *eventv1.Event) string { return ev.GetPayload().GetTracked().GetName() })
	// The fold of the version before does with the new types what it does with the old one.
	previous := last(all, deed)
	next := person(2, func(doc *customerv1.Customer, ev *eventv1.Event, know func(name, value string)) {
		switch name := deed(ev); name {
		case pageTracked:
			doc.InteractionCount++
		case formTracked:
			know("last form", ev.GetOccurredTime().AsTime().Format("15:04"))
		}
	})
	next.Types = all
	r := rollout{
		codec: event.NewCodec(), old: old, previous: previous, next: next,
		before:       []any{tracked("p1", 1, pageTracked), tracked("p1", 2, formTracked), tracked("p1", 3, pageTracked), tracked("p2", 4, formTracked)},
		oldBefore:    "p1: 3, last Page Viewed",
		meanwhile:    []any{namedForm(1, "p1", 5, "contact"), tracked("p1", 6, pageTracked)},
		oldMeanwhile: "p1: 5, last Page Viewed",
		newMeanwhile: "p1: 3, last form 12:05",
		after:        []any{titledPage("p1", 7, "Jobs"), namedForm(1, "p1", 8, "contact")},
		newAfter:     "p1: 4, last form 12:08",
		oldAfter:     "p1: 7, last Form Submitted",
	}
	log, views := r.run(t)

	// The binary before passes over types that it does not know, as after a rename.
	e, stop := projectiontest.Start(t, r.old, log, views, projection.Options{})
	projectiontest.WaitFor(t, e, appendAll(t, log, namedForm(1, "p1", 9, "contact"), tracked("p1", 10, pageTracked)))
	require.Equal(t, "p1: 8, last Page Viewed", shown(t, e, "p1"))
	stop()
	e, _ = projectiontest.StartWith(t, r.next, projection.Deps{Log: log, Views: views, Codec: r.codec}, r.previous)
	requireReplay(t, e, r.next, projection.Deps{Log: log, Codec: r.codec})
	require.Equal(t, "p1: 5, last form 12:09", shown(t, e, "p1"))

	// An upcaster cannot do it: what reads chooses by the type that the record has.
	deps := projection.Deps{Log: log, Views: projectiontest.NewViews(t), Codec: event.NewCodec(event.WithUpcaster("parley.tracked", 1, func(ev *eventv1.Event) error {
		ev.Type, ev.Payload = "parley.page.viewed", &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{}}}
		return nil
	}))}
	next.Types = []string{"parley.page.viewed", "parley.form.submitted"}
	e, _ = projectiontest.StartWith(t, next, deps)
	head, err := log.Head(t.Context())
	require.NoError(t, err)
	projectiontest.WaitFor(t, e, head)
	require.Equal(t, "p1: 1, last form 12:09", shown(t, e, "p1"), "only what was written as page.viewed")
}

// TestRecipeSeveralProcesses deploys a new version process by process on views that all have
// open: the new generation is begun by the first of them that folds, and those of
// the old binary read the one before as long as it is kept.
func TestRecipeSeveralProcesses(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	lease := &oneLease{free: make(chan struct{}, 1)}
	lease.free <- struct{}{}
	count := func(version uint32, weight int64) projection.Customers[*customerv1.Customer] {
		return person(version, func(doc *customerv1.Customer, _ *eventv1.Event, _ func(string, string)) {
			doc.InteractionCount += weight
		})
	}
	deps := projection.Deps{Log: log, Views: views, Lease: lease, Options: projection.Options{PollInterval: 10 * time.Millisecond}}
	active, stopActive := projectiontest.StartWith(t, count(1, 1), deps)
	projectiontest.WaitFor(t, active, appendAll(t, log, page("p1", 1)))
	// It is the one that folds; each of these is another process.
	require.Eventually(t, func() bool { return active.Status().State == projection.Live }, time.Minute, time.Millisecond)
	oldOne, stopOldOne := projectiontest.StartWith(t, count(1, 1), projection.Deps{Log: log, Views: views, Lease: never{}, Options: deps.Options})
	newOne, stopNewOne := projectiontest.StartWith(t, count(2, 10), deps, count(1, 1))
	defer stopNewOne()
	last := appendAll(t, log, page("p1", 2))
	for _, e := range []*visitEngine{active, oldOne, newOne} {
		projectiontest.WaitFor(t, e, last)
		require.Equal(t, "p1: 2", shown(t, e, "p1"))
		require.Equal(t, "v1/g1 serving", roles(t, e), "the new binary only stands by")
	}

	stopActive()
	awaitRoles(t, newOne, "v2/g2 serving, v1/g1 previous")
	require.Eventually(t, func() bool { return newOne.Status().Namespace == generation(2, 2) }, time.Minute, time.Millisecond)
	last = appendAll(t, log, page("p1", 3))
	projectiontest.WaitFor(t, newOne, last)
	projectiontest.WaitFor(t, oldOne, last)
	require.Equal(t, "p1: 30", shown(t, newOne, "p1"))
	require.Equal(t, "p1: 3", shown(t, oldOne, "p1"))

	// Once none is left that needs it, the generation before is dropped.
	stopOldOne()
	require.NoError(t, newOne.Drop(t.Context(), projection.By{}, generation(1, 1)))
	require.Equal(t, "v2/g2 serving", roles(t, newOne))
	_, err := projection.New(t.Context(), count(1, 1), projection.Deps{Log: log, Codec: event.NewCodec(), Views: views})
	require.ErrorIs(t, err, view.ErrNewerFormat)
	require.ErrorContains(t, err, "newer binary")
}

// never is the lease of a process whose turn does not come.
type never struct{}

func (never) Acquire(ctx context.Context) (<-chan struct{}, func(), error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}
