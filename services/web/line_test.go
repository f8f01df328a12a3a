package web_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/web"
)

func newMapper(t testing.TB) *web.Mapper {
	t.Helper()
	mapper, err := web.NewMapper(web.MapperConfig{Validator: sharedValidator(), NewID: counter()})
	require.NoError(t, err)
	return mapper
}

func TestParseLine(t *testing.T) {
	t.Parallel()
	mapper := newMapper(t)
	key := web.Key{Tenant: "acme", Source: "import"}
	line := []byte(`{"type":"track","userId":"u-1","event":"Clicked","timestamp":"2019-05-01T10:00:00+02:00","sentAt":"2019-05-01T12:00:00Z","receivedAt":"x"}` + "\n")
	events, violations := mapper.ParseLine(line, key, noon)
	require.Empty(t, violations)
	require.Len(t, events, 1)
	ev := events[0]
	require.Empty(t, sharedValidator().Check(ev))
	require.True(t, ev.GetBackfill())
	require.Equal(t, "web/import", ev.GetSource())
	require.Equal(t, time.Date(2019, 5, 1, 8, 0, 0, 0, time.UTC), ev.GetOccurredTime().AsTime())
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_AS_SAID, ev.GetTimeQuality())
	require.Equal(t, noon, ev.GetReceivedTime().AsTime())

	// Importing it again changes nothing.
	clear(line)
	again, violations := mapper.ParseLine([]byte(`{"userId":"u-1","event":"Clicked","timestamp":"2019-05-01T10:00:00+02:00","type":"track"}`), key, noon.Add(time.Hour))
	require.Empty(t, violations)
	require.Equal(t, ev.GetId(), again[0].GetId())
	require.Equal(t, ev.GetContentDigest(), again[0].GetContentDigest())
	require.Equal(t, "Clicked", ev.GetPayload().GetTracked().GetName(), "nothing of the line is kept")

	withID, violations := mapper.ParseLine([]byte(`{"type":"page","anonymousId":"a","messageId":"m-1","context":{"campaign":{"name":"x"}}}`), key, noon)
	require.Empty(t, violations)
	require.Len(t, withID, 2)
	require.True(t, withID[1].GetBackfill())

	for text, rule := range map[string]string{
		``: "invalid_json", `{`: "invalid_json", `{} {}`: "invalid_json", `[]`: "type",
		`{"userId":"u"}`: "type", `{"type":"batch","userId":"u"}`: "type", `{"type":"track","userId":"u"}`: "required",
	} {
		events, violations := mapper.ParseLine([]byte(text), key, noon)
		require.Empty(t, events)
		require.NotEmpty(t, violations, text)
		require.Equal(t, rule, violations[0].Rule, text)
	}
}
