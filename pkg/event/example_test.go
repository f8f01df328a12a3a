package event_test

import (
	"fmt"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// In this made-up history version 2 of parley.form.submitted calls by its name
// what version 1 had in form_id.
func ExampleWithUpcaster() {
	codec := event.NewCodec(event.WithUpcaster("parley.form.submitted", 1, func(ev *eventv1.Event) error {
		form := ev.GetPayload().GetFormSubmitted()
		form.FormName, form.FormId = form.GetFormId(), ""
		return nil
	}))
	stored, err := codec.Encode(&eventv1.Event{
		Id: "0190b3a0-7c3e-7000-8000-00000000000a", Tenant: "default", Type: "parley.form.submitted", SchemaVersion: 1,
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_FormSubmitted{
			FormSubmitted: &eventv1.FormSubmitted{FormId: "newsletter"},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	decoded, err := codec.Decode(&eventstore.Record{NewRecord: stored, Stream: "default.web-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ev := decoded.GetEvent()
	fmt.Println(ev.GetSchemaVersion(), ev.GetPayload().GetFormSubmitted().GetFormName(), "-", event.Summary(ev))
	// Output: 2 newsletter - sent form newsletter
}
