package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/web"
)

const track = `{"type":"track","userId":"u-1","event":"Clicked","messageId":"m-1","timestamp":"2026-11-21T11:59:58Z"}`

// padded is a track call of exactly n bytes.
func padded(n int, messageID string) string {
	const form = `{"type":"track","userId":"u-1","event":"Clicked","messageId":%q,"properties":{"p":%q}}`
	empty := len(fmt.Sprintf(form, messageID, ""))
	return fmt.Sprintf(form, messageID, strings.Repeat("x", n-empty))
}

func TestWriteKeyMayStandInFivePlaces(t *testing.T) {
	t.Parallel()
	inBody := `{"writeKey":"` + writeKey + `",` + track[1:]
	for _, tt := range []struct {
		name, path, body string
		options          []option
		status           int
	}{
		{"basic", "/v1/track", track, []option{basic(writeKey)}, 200},
		{"basic with a password", "/v1/track", track, []option{func(r *http.Request) { r.SetBasicAuth(writeKey, "x") }}, 200},
		{"bearer", "/v1/track", track, []option{header("Authorization", "Bearer "+writeKey)}, 200},
		{"bearer in lower case", "/v1/track", track, []option{header("Authorization", "bearer "+writeKey)}, 200},
		{"query", "/v1/track?writeKey=" + writeKey, track, []option{header("Content-Type", "text/plain")}, 200},
		{"body", "/v1/track", inBody, []option{header("Content-Type", "text/plain")}, 200},
		{"body of a batch, behind it", "/v1/batch", `{"batch":[` + track + `],"writeKey":"` + writeKey + `"}`, []option{header("A", "b")}, 200},
		{"none", "/v1/track", track, []option{header("A", "b")}, 401},
		{"wrong", "/v1/track", track, []option{basic("nope")}, 401},
		{"wrong in the head, right in the body", "/v1/track", inBody, []option{basic("nope")}, 401},
		{"wrong in the body", "/v1/track", `{"writeKey":"nope",` + track[1:], []option{header("A", "b")}, 401},
		{"too long", "/v1/track", track, []option{basic(strings.Repeat("k", 10_000))}, 401},
		{"a malformed head counts for none", "/v1/track", inBody, []option{header("Authorization", "Basic %%%")}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			a := f.post(tt.path, tt.body, tt.options...)
			require.Equal(t, tt.status, a.status, a.text)
			if tt.status == 200 {
				require.Equal(t, "acme", f.one().GetTenant())
				require.Equal(t, `{"success":true,"accepted":1}`, a.text)
				return
			}
			require.Empty(t, f.got.all().GetEvents())
			require.Equal(t, "invalid_write_key", a.body.Code)
			require.Empty(t, a.header.Get("WWW-Authenticate"), "a browser would ask for a password")
		})
	}
}

func TestPathsOfAllCalls(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for path, body := range map[string]string{
		"track": track, "t": track,
		"page": `{"anonymousId":"a"}`, "p": `{"anonymousId":"a"}`, "screen": `{"anonymousId":"a"}`, "s": `{"anonymousId":"a"}`,
		"identify": `{"userId":"u"}`, "i": `{"userId":"u"}`,
		"group": `{"userId":"u","groupId":"g"}`, "g": `{"userId":"u","groupId":"g"}`,
		"alias": `{"userId":"u","previousId":"p"}`, "a": `{"userId":"u","previousId":"p"}`,
		"batch": `{"batch":[` + track + `]}`, "b": `[` + track + `]`, "import": `{"batch":[` + track + `]}`,
	} {
		a := f.post("/v1/"+path, body)
		require.Equal(t, http.StatusOK, a.status, "%s: %s", path, a.text)
		require.Equal(t, "application/json", a.header.Get("Content-Type"))
	}
	require.Len(t, f.got.all().GetEvents(), 15)
	a := f.send(http.MethodGet, "/v1/track", "")
	require.Equal(t, http.StatusMethodNotAllowed, a.status)
	require.Equal(t, "POST, OPTIONS", a.header.Get("Allow"))
	require.Equal(t, http.StatusNotFound, f.post("/v1/dance", track).status)
}

// The path says what a call is; the same event by any way has one id and one digest.
func TestEveryWayGivesTheSameEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Equal(t, 200, f.post("/v1/track", track).status)
	first := f.one()
	for _, way := range []struct {
		path, body string
		options    []option
	}{
		{"/v1/t", `{"sentAt":"2026-11-21T11:59:59Z","writeKey":"x","_metadata":{"retryCount":2},"integrations":{"All":true},` + track[1:], []option{basic(writeKey)}},
		{"/v1/batch", `{"batch":[` + track + `],"sentAt":"2026-11-21T10:00:00Z","context":{"locale":"de"}}`, []option{basic(writeKey), header("X-Retry-Count", "3")}},
		{"/v1/track", strings.ReplaceAll(track, `":"`, `" : "`), []option{basic(writeKey)}},
		{"/v1/track", `{"messageId":"m-1","anonymousId":null,"receivedAt":"2026-11-21T12:00:00Z","originalTimestamp":"2026-11-21T11:00:00Z",` +
			`"event":"Clicked","timestamp":"2026-11-21T11:59:58Z","userId":"u-1"}`, []option{basic(writeKey)}},
	} {
		f.clock.add(time.Minute)
		require.Equal(t, 200, f.post(way.path, way.body, way.options...).status)
		again := f.one()
		require.Equal(t, first.GetId(), again.GetId())
		require.Equal(t, first.GetContentDigest(), again.GetContentDigest(), way.body)
	}
	for name, other := range map[string]string{
		"event":      strings.Replace(track, "Clicked", "Pressed", 1),
		"user":       strings.Replace(track, "u-1", "u-2", 1),
		"timestamp":  strings.Replace(track, ":58Z", ":57Z", 1),
		"properties": `{"properties":{"a":1},` + track[1:],
		"context":    `{"context":{"locale":"de"},` + track[1:],
	} {
		require.Equal(t, 200, f.post("/v1/track", other).status)
		again := f.one()
		require.Equal(t, first.GetId(), again.GetId())
		require.NotEqual(t, first.GetContentDigest(), again.GetContentDigest(), name)
	}
	// Another source is another namespace.
	require.Equal(t, 200, f.post("/v1/track", track, basic(slowKey)).status)
	require.NotEqual(t, first.GetId(), f.one().GetId())
}

// The browser library fills in the user id of the moment at which it tries again.
func TestRetryAfterLoginIsTheSameEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.post("/v1/p", `{"anonymousId":"a-1","userId":null,"messageId":"m-1"}`)
	before := f.one()
	f.post("/v1/p", `{"anonymousId":"a-1","userId":"u-1","messageId":"m-1"}`)
	after := f.one()
	require.Equal(t, before.GetContentDigest(), after.GetContentDigest())
	require.Len(t, after.GetIdentifiers(), 2)
}

func TestFollowUpsRepeatWithTheirCause(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	body := `{"anonymousId":"a-1","messageId":"m-1","context":{"campaign":{"source":"x","name":"y"}}}`
	f.post("/v1/page", body)
	first := f.got.take().GetEvents()
	f.clock.add(time.Hour)
	f.post("/v1/page", body)
	second := f.got.take().GetEvents()
	require.Len(t, first, 2)
	require.Len(t, second, 2)
	for i := range first {
		require.Equal(t, first[i].GetId(), second[i].GetId())
		require.Equal(t, first[i].GetContentDigest(), second[i].GetContentDigest())
	}
	require.NotEqual(t, first[0].GetId(), first[1].GetId())
}

func TestBadCalls(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, web.MaxDepth) + "1" + strings.Repeat("}", web.MaxDepth)
	deeper := strings.Repeat(`[`, web.MaxDepth+1) + strings.Repeat("]", web.MaxDepth+1)
	many := make([]string, 257)
	for i := range many {
		many[i] = fmt.Sprintf(`"t%d":%d`, i, i)
	}
	for _, tt := range []struct {
		name, path, body string
		// field that is named as wrong; empty for a good one, `-` for the call as a whole.
		field string
	}{
		{"no user", "track", `{"event":"A"}`, "userId"},
		{"empty user", "track", `{"event":"A","userId":" "}`, "userId"},
		{"user is an object", "track", `{"event":"A","userId":{}}`, "userId"},
		{"user is true", "track", `{"event":"A","anonymousId":true}`, "anonymousId"},
		{"user of 512", "track", `{"event":"A","userId":"` + strings.Repeat("u", 512) + `"}`, ""},
		{"user of 513", "track", `{"event":"A","userId":"` + strings.Repeat("u", 513) + `"}`, "userId"},
		{"anonymous of 513", "track", `{"event":"A","anonymousId":"` + strings.Repeat("u", 513) + `"}`, "anonymousId"},
		{"no event", "track", `{"userId":"u"}`, "event"},
		{"event is a list", "track", `{"userId":"u","event":[]}`, "event"},
		{"event of 512", "track", `{"userId":"u","event":"` + strings.Repeat("é", 512) + `"}`, ""},
		{"event of 513", "track", `{"userId":"u","event":"` + strings.Repeat("e", 513) + `"}`, "event"},
		{"page name of 257", "page", `{"userId":"u","name":"` + strings.Repeat("e", 257) + `"}`, "name"},
		{"page category of 257 in properties", "page", `{"userId":"u","properties":{"category":"` + strings.Repeat("e", 257) + `"}}`, "properties.category"},
		{"message id of 99", "page", `{"userId":"u","messageId":"` + strings.Repeat("ü", 99) + `"}`, ""},
		{"message id of 100", "page", `{"userId":"u","messageId":"` + strings.Repeat("m", 100) + `"}`, "messageId"},
		{"no group", "group", `{"userId":"u"}`, "groupId"},
		{"group of 257", "group", `{"userId":"u","groupId":"` + strings.Repeat("g", 257) + `"}`, "groupId"},
		{"no previous id", "alias", `{"userId":"u"}`, "previousId"},
		{"alias without user", "alias", `{"anonymousId":"a","previousId":"p"}`, "userId"},
		{"previous id of 513", "alias", `{"userId":"u","previousId":"` + strings.Repeat("p", 513) + `"}`, "previousId"},
		{"properties are text", "track", `{"userId":"u","event":"A","properties":"p"}`, "properties"},
		{"properties are a full list", "track", `{"userId":"u","event":"A","properties":[1]}`, "properties"},
		{"properties are an empty list", "track", `{"userId":"u","event":"A","properties":[ ]}`, ""},
		{"traits are a number", "identify", `{"userId":"u","traits":1}`, "traits"},
		{"context is text", "identify", `{"userId":"u","context":"c"}`, "context"},
		{"a trait twice", "identify", `{"userId":"u","traits":{"a":1,"a":2}}`, "traits.a"},
		{"a trait without name", "identify", `{"userId":"u","traits":{"":1}}`, "traits."},
		{"a trait of 8192", "identify", `{"userId":"u","traits":{"a":"` + strings.Repeat("x", 8190) + `"}}`, ""},
		{"a trait of 8193", "identify", `{"userId":"u","traits":{"a":"` + strings.Repeat("x", 8191) + `"}}`, "traits.a"},
		{"257 traits", "identify", `{"userId":"u","traits":{` + strings.Join(many, ",") + `}}`, "traits"},
		{"256 traits", "identify", `{"userId":"u","traits":{` + strings.Join(many[1:], ",") + `}}`, ""},
		{"an organisation's trait too long", "group", `{"userId":"u","groupId":"g","traits":{"a":"` + strings.Repeat("x", 8191) + `"}}`, "traits.a"},
		{"a member twice", "track", `{"userId":"u","event":"A","event":"B"}`, "event"},
		{"a member twice, spelt otherwise", "track", `{"userId":"u","event":"A","\u0065vent":"B"}`, "event"},
		{"no time", "track", `{"userId":"u","event":"A","timestamp":"yesterday"}`, "timestamp"},
		{"time is an object", "track", `{"userId":"u","event":"A","timestamp":{}}`, "timestamp"},
		{"sentAt does not matter", "track", `{"userId":"u","event":"A","sentAt":"yesterday"}`, ""},
		{"deep", "track", `{"userId":"u","event":"A","properties":` + deep + `}`, ""},
		{"too deep", "track", `{"userId":"u","event":"A","x":` + deeper + `}`, "x"},
		{"not UTF-8", "track", "{\"userId\":\"u\",\"event\":\"\xff\"}", "-"},
		{"half a surrogate", "track", `{"userId":"u","event":"\ud83d"}`, ""},
		{"order id of 257", "track", `{"userId":"u","event":"Order Completed","properties":{"order_id":"` + strings.Repeat("o", 257) + `"}}`, "properties.order_id"},
		{"a user agent of 2000 is cut", "track", `{"userId":"u","event":"A","context":{"userAgent":"` + strings.Repeat("ü", 2000) + `"}}`, ""},
		{"a URL of 9000 is cut", "page", `{"userId":"u","properties":{"url":"https://a.example/` + strings.Repeat("ü", 4000) + `"}}`, ""},
		{"no address is no fault", "track", `{"userId":"u","event":"A","context":{"ip":"` + strings.Repeat("9", 99) + `"}}`, ""},
		{"a session of 5000", "track", `{"userId":"u","event":"A","context":{"sessionId":"` + strings.Repeat("s", 5000) + `"}}`, ""},
		{"32 KiB", "track", padded(web.MaxEventBytes, "m"), ""},
		{"a byte more", "track", padded(web.MaxEventBytes+1, "m"), "-"},
		{"not an object", "track", `[1]`, "-"},
		{"null", "track", `null`, "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			a := f.post("/v1/"+tt.path, tt.body)
			got := f.got.all()
			if tt.field == "" {
				require.Equal(t, 200, a.status, a.text)
				require.NotEmpty(t, got.GetEvents())
				require.Empty(t, got.GetQuarantined())
				for _, ev := range got.GetEvents() {
					require.Empty(t, sharedValidator().Check(ev))
				}
				return
			}
			require.Equal(t, 400, a.status, a.text)
			require.Equal(t, "invalid_event", a.body.Code)
			require.Len(t, a.body.Rejected, 1)
			fields := []string{}
			for _, v := range a.body.Rejected[0].Violations {
				fields = append(fields, v.Field)
				require.NotEmpty(t, v.Rule)
				require.NotEmpty(t, v.Message)
			}
			require.Contains(t, fields, strings.TrimPrefix(tt.field, "-"))
			require.Empty(t, got.GetEvents())
			require.Len(t, got.GetQuarantined(), 1)
			q := got.GetQuarantined()[0]
			require.Equal(t, tt.body, string(q.GetBody()))
			require.EqualValues(t, len(tt.body), q.GetBodySize())
			require.Empty(t, sharedValidator().Check(q))
			// A retry is kept once.
			f.got.take()
			f.clock.add(time.Second)
			f.post("/v1/"+tt.path, tt.body)
			require.Equal(t, q.GetId(), f.got.all().GetQuarantined()[0].GetId())
		})
	}
}

func TestGoodEventsOfABatchAreKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	calls := []string{
		track,
		`{"type":"track","userId":"u-1","messageId":"bad-1"}`,
		"{\"type\":\"track\",\"userId\":\"u-1\",\"event\":\"\xff\",\"messageId\":\"bad-2\"}",
		padded(web.MaxEventBytes+1, "bad-3"),
		`{"type":"page","anonymousId":"a-1","messageId":"good-2"}`,
		`"text"`,
		padded(web.MaxEventBytes, "good-3"),
	}
	a := f.post("/v1/batch", `{"batch": [`+strings.Join(calls, " , ")+`] }`)
	require.Equal(t, 200, a.status)
	require.True(t, a.body.Success)
	require.Equal(t, 3, a.body.Accepted)
	indexes := make([]int, 0, len(a.body.Rejected))
	for _, r := range a.body.Rejected {
		indexes = append(indexes, r.Index)
	}
	require.Equal(t, []int{1, 2, 3, 5}, indexes)
	require.Equal(t, "bad-1", a.body.Rejected[0].MessageID)
	got := f.got.all()
	require.Len(t, got.GetEvents(), 3)
	require.Len(t, got.GetQuarantined(), 4)
	for i, index := range indexes {
		require.Equal(t, calls[index], string(got.GetQuarantined()[i].GetBody()))
	}
	require.Len(t, f.got.batches, 1, "what one request brought travels as one")
	require.Equal(t, []string{"acme/web"}, f.got.tenants)
}

func TestBatchBounds(t *testing.T) {
	t.Parallel()
	small := func(n int) string {
		return `{"batch":[` + strings.TrimSuffix(strings.Repeat(`{"type":"page","userId":"u"},`, n), ",") + `]}`
	}
	sized := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"batch":[`)
		for i := range 15 {
			b.WriteString(padded(32_000, strconv.Itoa(i)) + ",")
		}
		last := n - b.Len() - len("]}")
		b.WriteString(padded(last, "last") + "]}")
		return b.String()
	}
	for _, tt := range []struct {
		name, body string
		status     int
		code       string
		events     int
		kept       bool
	}{
		{"2500 events", small(web.MaxBatchEvents), 200, "", web.MaxBatchEvents, false},
		{"2501 events", small(web.MaxBatchEvents + 1), 400, "too_many_events", 0, true},
		{"500 KiB", sized(web.MaxBodyBytes), 200, "", 16, false},
		{"a byte more", sized(web.MaxBodyBytes + 1), 413, "body_too_large", 0, false},
		{"none", `{"batch":[]}`, 200, "", 0, false},
		{"no batch", `{"batches":[]}`, 400, "invalid_body", 0, true},
		{"batch is an object", `{"batch":{}}`, 400, "invalid_body", 0, true},
		{"text", `"batch"`, 400, "invalid_body", 0, true},
		{"all bad", `{"batch":[1,2]}`, 400, "invalid_event", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, text := range []string{tt.body, gzipped(t, tt.body)} {
				f := newFixture(t)
				a := f.post("/v1/batch", text)
				require.Equal(t, tt.status, a.status, a.text)
				require.Equal(t, tt.code, a.body.Code)
				require.Len(t, f.got.all().GetEvents(), tt.events)
				require.Equal(t, tt.kept, len(f.got.all().GetQuarantined()) > 0)
			}
		})
	}
}

func TestPublisherFailures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{fmt.Errorf("publish: %w", bus.ErrFull), 503, "full", "30"},
		{fmt.Errorf("publish: %w", bus.ErrUnavailable), 503, "unavailable", "5"},
		{errors.New("anything"), 503, "unavailable", "5"},
		{bus.ErrTooLarge, 413, "body_too_large", ""},
	} {
		t.Run(tt.err.Error(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.got.fail(tt.err)
			// Also a body that is only quarantined is not answered before it is safe.
			for _, body := range []string{track, `{"no":"user"}`, `{`} {
				a := f.post("/v1/track", body)
				require.Equal(t, tt.status, a.status)
				require.Equal(t, tt.code, a.body.Code)
				require.Equal(t, tt.retry, a.header.Get("Retry-After"))
				require.False(t, a.body.Success)
			}
			f.got.fail(nil)
			require.Equal(t, 200, f.post("/v1/track", track).status)
		})
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	batch := `{"batch":[` + strings.TrimSuffix(strings.Repeat(`{"type":"page","userId":"u"},`, web.MaxBatchEvents), ",") + `]}`
	require.Equal(t, 200, f.post("/v1/batch", batch, basic(slowKey)).status)
	a := f.post("/v1/track", track, basic(slowKey))
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Equal(t, "1", a.header.Get("Retry-After"))
	require.Equal(t, "rate_limited", a.body.Code)
	// Ten events a second: a batch of a hundred waits for ten.
	a = f.post("/v1/batch", `{"batch":[`+strings.TrimSuffix(strings.Repeat(`1,`, 100), ",")+`]}`, basic(slowKey))
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Equal(t, "10", a.header.Get("Retry-After"))
	require.Equal(t, http.StatusTooManyRequests, f.post("/v1/track", `{`, basic(slowKey)).status)
	require.Equal(t, 200, f.post("/v1/track", track).status, "another source has a rate of its own")
	f.clock.add(200 * time.Millisecond)
	require.Equal(t, 200, f.post("/v1/track", track, basic(slowKey)).status)
	require.Equal(t, 200, f.post("/v1/track", track, basic(slowKey)).status)
	require.Equal(t, http.StatusTooManyRequests, f.post("/v1/track", track, basic(slowKey)).status)
}

func TestMetricsAndLogsHaveNoPersonalData(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	keys, err := web.NewKeyTable(map[string]web.Key{writeKey: {Tenant: "acme", Source: "shop"}})
	require.NoError(t, err)
	f := newFixture(t)
	f.gateway, err = web.New(web.Config{}, web.Deps{
		Publisher: f.got, Keys: keys, Validator: sharedValidator(), Now: f.clock.now, Registerer: reg,
	})
	require.NoError(t, err)
	f.handler = f.gateway.Handler()
	f.post("/v1/batch", `{"batch":[`+track+`,{"type":"track","userId":"secret-user"}]}`)
	f.post("/v1/track", `{`)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP parley_web_events_total Events of the tracking API, by what became of them: accepted, rejected, quarantined.
# TYPE parley_web_events_total counter
parley_web_events_total{outcome="accepted"} 1
parley_web_events_total{outcome="quarantined"} 2
parley_web_events_total{outcome="rejected"} 1
# HELP parley_web_requests_total Requests to the web gateway, by call and HTTP status.
# TYPE parley_web_requests_total counter
parley_web_requests_total{call="batch",code="200"} 1
parley_web_requests_total{call="track",code="400"} 1
`), "parley_web_events_total", "parley_web_requests_total"))

	g := newFixture(t)
	g.post("/v1/batch", `{"batch":[`+track+`,{"type":"track","userId":"secret-user","traits":{"email":"secret@example.com"}}]}`)
	g.post("/v1/track", `{"userId":"secret-user",`)
	g.got.fail(bus.ErrUnavailable)
	g.post("/v1/identify", `{"userId":"secret-user"}`)
	require.NotEmpty(t, g.log.String())
	require.NotContains(t, g.log.String(), "secret")
}

// What a batch says for all of its calls must be text as they must: it is
// refused at the door, not found out behind the acknowledgement.
func TestContextOfABatchThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	call := `"batch":[{"type":"track","userId":"u","event":"x","messageId":"m"}],"writeKey":"` + writeKey + `"}`
	for _, body := range []string{
		"{\"context\":{\"library\":{\"name\":\"a\xff\"}}," + call,
		"{\"context\":\"\xff\"," + call,
	} {
		a := f.post("/v1/batch", body)
		require.Equal(t, 400, a.status, a.text)
		require.Equal(t, "invalid_body", a.body.Code)
		require.Contains(t, a.text, "not UTF-8")
		got := f.got.take()
		require.Empty(t, got.GetEvents())
		require.Len(t, got.GetQuarantined(), 1)
	}
	require.Equal(t, 200, f.post("/v1/batch", `{"context":{"library":{"name":"ä"}},`+call).status)
}

func TestNewRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := web.New(web.Config{}, web.Deps{})
	require.ErrorContains(t, err, "publisher")
	keys, err := web.NewKeyTable(nil)
	require.NoError(t, err)
	_, err = web.New(web.Config{
		PublicURL: "ftp://x", LinkSecret: "short", AllowedOrigins: []string{"shop.example.com", "https://a.example/path"},
	}, web.Deps{Publisher: &recorder{}, Keys: keys})
	require.ErrorContains(t, err, "public URL")
	require.ErrorContains(t, err, "link secret")
	require.ErrorContains(t, err, "shop.example.com")
	require.ErrorContains(t, err, "/path")
	for name, bad := range map[string]map[string]web.Key{
		"empty key": {"": {Tenant: "acme", Source: "s"}},
		"tenant":    {"k": {Tenant: "Acme", Source: "s"}},
		"reserved":  {"k": {Tenant: "quarantine", Source: "s"}},
		"source":    {"k": {Tenant: "acme"}},
		"rate":      {"k": {Tenant: "acme", Source: "s", RatePerSecond: -1}},
	} {
		_, err = web.NewKeyTable(bad)
		require.Error(t, err, name)
	}
}

func TestEventsAreValidAndDistinct(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		f.post("/v1/track", `{"userId":"u","event":"no message id"}`)
	}
	seen := map[string]bool{}
	for _, ev := range f.got.all().GetEvents() {
		require.False(t, seen[ev.GetId()])
		seen[ev.GetId()] = true
		require.True(t, proto.Equal(ev.GetOccurredTime(), ev.GetReceivedTime()))
		require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_RECEIVED, ev.GetTimeQuality())
	}
	require.Len(t, seen, 3)
}

func TestAnswerIsOneJSONObject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.post("/v1/batch", `{"batch":[{"messageId":"<b>\u2028"}]}`)
	require.True(t, json.Valid([]byte(a.text)))
	require.NotContains(t, a.text, "<b>")
}
