package event_test

import (
	"fmt"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// stored is an event as it comes back from the log.
func stored(codec *event.Codec, version uint32, payload *eventv1.Payload) (*eventv1.Event, error) {
	ev := &eventv1.Event{Id: "0190b3a0-7c3e-7000-8000-00000000000a", Tenant: "default", Payload: payload}
	event.Stamp(ev)
	ev.SchemaVersion = version
	rec, err := codec.Encode(ev)
	if err != nil {
		return nil, err
	}
	decoded, err := codec.Decode(&eventstore.Record{NewRecord: rec, Stream: "default.web-1"})
	return decoded.GetEvent(), err
}

// In this made-up history version 2 of parley.form.submitted calls by its name
// what version 1 had in form_id. The last of these events has no version and yet
// the new field, as some producers write it.
func ExampleWithUpcaster() {
	codec := event.NewCodec(event.WithUpcaster("parley.form.submitted", 1, func(ev *eventv1.Event) error {
		form := ev.GetPayload().GetFormSubmitted()
		if form.GetFormName() == "" {
			form.FormName = form.GetFormId()
		}
		form.FormId = ""
		return nil
	}))
	for _, written := range []struct {
		version uint32
		form    *eventv1.FormSubmitted
	}{
		{1, &eventv1.FormSubmitted{FormId: "newsletter"}},
		{2, &eventv1.FormSubmitted{FormName: "newsletter"}},
		{0, &eventv1.FormSubmitted{FormName: "newsletter"}},
	} {
		ev, err := stored(codec, written.version, &eventv1.Payload{Kind: &eventv1.Payload_FormSubmitted{FormSubmitted: written.form}})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(written.version, "→", ev.GetSchemaVersion(), event.Summary(ev))
	}
	// Output:
	// 1 → 2 sent form newsletter
	// 2 → 2 sent form newsletter
	// 0 → 2 sent form newsletter
}

// In this made-up history there was no title of a page at first. Events from
// before have none, which says that it is not known; the version stays 1.
func Example_addedField() {
	for _, page := range []*eventv1.PageViewed{{Path: "/offers"}, {Path: "/offers", Title: "Offers"}} {
		ev, err := stored(event.NewCodec(), 1, &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: page}})
		if err != nil {
			fmt.Println(err)
			return
		}
		viewed := ev.GetPayload().GetPageViewed()
		if viewed.GetTitle() == "" {
			fmt.Println(viewed.GetPath(), "of an unknown title")
			continue
		}
		fmt.Println(viewed.GetPath(), viewed.GetTitle())
	}
	// Output:
	// /offers of an unknown title
	// /offers Offers
}

// In this made-up history page views were tracked under a name before they had a
// type of their own. One function knows both; whatever reads asks it.
func Example_splitType() {
	pageOf := func(ev *eventv1.Event) (path string, ok bool) {
		switch p := ev.GetPayload().GetKind().(type) {
		case *eventv1.Payload_PageViewed:
			return p.PageViewed.GetPath(), true
		case *eventv1.Payload_Tracked:
			return p.Tracked.GetPath(), p.Tracked.GetName() == "Page Viewed"
		default:
			return "", false
		}
	}
	for _, payload := range []*eventv1.Payload{
		{Kind: &eventv1.Payload_Tracked{Tracked: &eventv1.Tracked{Name: "Page Viewed", Path: "/before"}}},
		{Kind: &eventv1.Payload_Tracked{Tracked: &eventv1.Tracked{Name: "Checkout Started", Path: "/cart"}}},
		{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/since"}}},
	} {
		ev, err := stored(event.NewCodec(), 1, payload)
		if err != nil {
			fmt.Println(err)
			return
		}
		if path, ok := pageOf(ev); ok {
			fmt.Println(ev.GetType(), path)
		}
	}
	// Output:
	// parley.tracked /before
	// parley.page.viewed /since
}
