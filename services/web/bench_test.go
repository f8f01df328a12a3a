package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/web"
)

// marshalling does what every real Publisher has to.
type marshalling struct{ buf []byte }

func (m *marshalling) Publish(_ context.Context, _, _ string, batch *interactionv1.IngressBatch) error {
	var err error
	m.buf, err = proto.MarshalOptions{}.MarshalAppend(m.buf[:0], batch)
	return err
}

const benchBatch = 20

// benchCall is a call of about 300 bytes, as browsers send them.
func benchCall(kind string, i int) string {
	head := fmt.Sprintf(`{"type":%q,"anonymousId":"3f1b5a8e-6f0a-4f7e-9a65-0c2d3e4f5a6b","messageId":"ajs-%06d",`+
		`"timestamp":"2026-11-21T11:59:58.500Z",`, kind, i)
	const context = `"context":{"page":{"path":"/products/17","url":"https://shop.example.com/products/17"},"locale":"de-AT"}}`
	switch kind {
	case "track":
		return head + `"event":"Product Viewed","properties":{"product_id":"p-17","price":19.99},` + context
	case "page":
		return head + `"properties":{"path":"/products/17","title":"Lamp"},` + context
	default:
		return head + `"userId":"u-1","traits":{"email":"ada@example.com","firstName":"Ada","plan":"pro"},` + context
	}
}

func benchBody(kinds ...string) string {
	calls := make([]string, benchBatch)
	for i := range calls {
		calls[i] = benchCall(kinds[i%len(kinds)], i)
	}
	return `{"batch":[` + strings.Join(calls, ",") + `],"sentAt":"2026-11-21T12:00:00Z"}`
}

// BenchmarkHandler is a batch of 20 calls from the HTTP handler to the
// marshalled IngressBatch; ns/event is the measure.
func BenchmarkHandler(b *testing.B) {
	for name, kinds := range map[string][]string{
		"track": {"track"}, "page": {"page"}, "identify": {"identify"}, "mixed": {"track", "track", "page", "identify"},
	} {
		b.Run(name, func(b *testing.B) { benchmarkBody(b, benchBody(kinds...), benchBatch) })
	}
	b.Run("single", func(b *testing.B) { benchmarkBody(b, `{"batch":[`+benchCall("track", 1)+`]}`, 1) })
}

func benchmarkBody(b *testing.B, body string, events int) {
	keys, err := web.NewKeyTable(map[string]web.Key{writeKey: {Tenant: "acme", Source: "shop"}})
	require.NoError(b, err)
	gateway, err := web.New(web.Config{}, web.Deps{Publisher: &marshalling{}, Keys: keys, Validator: sharedValidator()})
	require.NoError(b, err)
	handler := gateway.Handler()
	r := httptest.NewRequest(http.MethodPost, "/v1/batch", nil)
	r.SetBasicAuth(writeKey, "")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r.Body = http.NoBody
		reader := strings.NewReader(body)
		r.Body = nopCloser{reader}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

// BenchmarkMap is one call from its text to its events, without HTTP and without marshalling.
func BenchmarkMap(b *testing.B) {
	mapper := newMapper(b)
	line := []byte(benchCall("track", 1))
	key := web.Key{Tenant: "acme", Source: "shop"}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if events, _ := mapper.ParseLine(line, key, noon); len(events) != 1 {
			b.Fatal("no event")
		}
	}
}

// BenchmarkEncodingJSON is the yardstick: the same call into a struct by
// encoding/json, which checks nothing and maps nothing.
func BenchmarkEncodingJSON(b *testing.B) {
	line := []byte(benchCall("track", 1))
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		var call struct {
			Type, AnonymousID, UserID, MessageID, Event, Timestamp string
			Properties, Traits                                     json.RawMessage
			Context                                                struct {
				Page   struct{ Path, URL, Referrer, Search, Title string }
				Locale string
			}
		}
		if err := json.Unmarshal(line, &call); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkValidator is the share of the event's validation.
func BenchmarkValidator(b *testing.B) {
	mapper := newMapper(b)
	events, _ := mapper.ParseLine([]byte(benchCall("track", 1)), web.Key{Tenant: "acme", Source: "shop"}, noon)
	b.ReportAllocs()
	for b.Loop() {
		if broken := sharedValidator().Check(events[0]); len(broken) > 0 {
			b.Fatal(broken)
		}
	}
}
