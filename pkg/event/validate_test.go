package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

func TestValidator(t *testing.T) {
	t.Parallel()
	v, err := event.NewValidator(&interactionv1.Interaction{})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*eventv1.Event)
		want   []string // field and rule
	}{
		"fine":              {func(*eventv1.Event) {}, nil},
		"id":                {func(ev *eventv1.Event) { ev.Id = "x" }, []string{"id string.uuid"}},
		"tenant":            {func(ev *eventv1.Event) { ev.Tenant = "A-b" }, []string{"tenant string.pattern"}},
		"no times":          {func(ev *eventv1.Event) { ev.OccurredTime, ev.ReceivedTime = nil, nil }, []string{"occurred_time required", "received_time required"}},
		"nested":            {func(ev *eventv1.Event) { ev.Identifiers[1].Value = "" }, []string{"identifiers[1].value string.min_len"}},
		"kind":              {func(ev *eventv1.Event) { ev.Identifiers[0].Kind = "E-Mail" }, []string{"identifiers[0].kind string.pattern"}},
		"payload":           {func(ev *eventv1.Event) { ev.GetPayload().GetTracked().Name = strings.Repeat("x", 513) }, []string{"payload.tracked.name string.max_len"}},
		"no payload":        {func(ev *eventv1.Event) { ev.Payload = nil }, []string{"payload required"}},
		"empty payload":     {func(ev *eventv1.Event) { ev.Payload = &eventv1.Payload{} }, []string{"payload.kind required"}},
		"too many":          {func(ev *eventv1.Event) { ev.Identifiers = make([]*eventv1.Identifier, 65); fillIdentifiers(ev) }, []string{"identifiers repeated.max_items"}},
		"undefined enum":    {func(ev *eventv1.Event) { ev.Direction = 77 }, []string{"direction enum.defined_only"}},
		"type of another":   {func(ev *eventv1.Event) { ev.Type = "parley.page.viewed" }, []string{"type event.type"}},
		"as long as it may": {func(ev *eventv1.Event) { ev.GetPayload().GetTracked().Name = strings.Repeat("ä", 512) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := trackEvent()
			c.change(ev)
			var got []string
			for _, violation := range v.Check(ev) {
				require.NotEmpty(t, violation.Message)
				require.Contains(t, violation.String(), violation.Field)
				got = append(got, violation.Field+" "+violation.Rule)
			}
			require.Equal(t, c.want, got)
		})
	}
	require.NotEmpty(t, v.Check(&interactionv1.Interaction{}))
	require.NotEmpty(t, v.Check(&interactionv1.QuarantinedBody{Id: "no UUID"}), "also what was not named")
}

func fillIdentifiers(ev *eventv1.Event) {
	for i := range ev.GetIdentifiers() {
		ev.Identifiers[i] = &eventv1.Identifier{Kind: "email", Value: "a@b.example"}
	}
}
