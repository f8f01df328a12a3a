package match_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/tenant"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/match"
)

const benchCustomers = 100_000

// city is a house with many customers, of whom one in twenty is there twice.
func city(b *testing.B) *house {
	h := newHouse(b)
	r := rand.New(rand.NewPCG(17, 19))
	given, family := wordList(r, 400, 2), wordList(r, 8_000, 3)
	streets, towns := wordList(r, 3_000, 4), wordList(r, 300, 3)
	var batch []eventstore.NewRecord
	add := func(n int, traits map[string]string) {
		p := &eventv1.TraitsUpdated{}
		for name, value := range traits {
			p.Traits = append(p.Traits, &eventv1.Trait{Name: name, ValueJson: fmt.Sprintf("%q", value)})
		}
		ev := projectiontest.NewEvent("acme", fmt.Sprintf("profile%019d", n), n, opening, &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: p}})
		record, err := h.codec.Encode(ev)
		require.NoError(b, err)
		batch = append(batch, record)
		const most = 500
		if len(batch) == most {
			_, err := h.log.Append(b.Context(), event.InteractionStream("acme", "web", "c1"), eventstore.Any, batch...)
			require.NoError(b, err)
			batch = batch[:0]
		}
	}
	skewed := func(list []string) string { return list[int(float64(len(list))*r.Float64()*r.Float64())] }
	for n := 0; n < benchCustomers; n++ {
		first, last := skewed(given), skewed(family)
		traits := map[string]string{
			"firstName": first, "lastName": last, "birthday": fmt.Sprintf("19%02d-%02d-%02d", 30+r.IntN(70), 1+r.IntN(12), 1+r.IntN(28)),
			"address.street": fmt.Sprintf("%s %d", skewed(streets), 1+r.IntN(80)), "address.city": skewed(towns), "address.postalCode": fmt.Sprint(1000 + r.IntN(2000)),
			"email": fmt.Sprintf("%s.%s%d@example.com", first, last, r.IntN(50)), "phone": fmt.Sprintf("+4366%08d", r.IntN(100_000_000)),
		}
		add(n, traits)
		if n%20 == 0 {
			traits["firstName"] = first[:len(first)-1]
			delete(traits, []string{"email", "phone", "address.street"}[r.IntN(3)])
			n++
			add(n, traits)
		}
	}
	if len(batch) > 0 {
		_, err := h.log.Append(b.Context(), event.InteractionStream("acme", "web", "c1"), eventstore.Any, batch...)
		require.NoError(b, err)
	}
	head, err := h.log.Head(b.Context())
	require.NoError(b, err)
	began := time.Now()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	require.NoError(b, h.engine.WaitFor(ctx, head))
	b.Logf("folded %d events in %v at last", head, time.Since(began).Round(time.Millisecond))
	return h
}

func wordList(r *rand.Rand, n, length int) []string {
	words := make([]string, n)
	for i := range words {
		words[i] = syllables(r, length)
	}
	return words
}

// BenchmarkListMergeCandidates is the listing of one customer among 100,000, as
// the handler answers it.
func BenchmarkListMergeCandidates(b *testing.B) {
	h := city(b)
	began := time.Now()
	ctx := tenant.NewContext(b.Context(), tenant.Identity{Tenant: "acme", Source: "bench", Scopes: tenant.All})
	told, err := h.tryFit(h.callFor(10*time.Minute), &customerv1.FitMatchModelRequest{Seed: 1})
	require.NoError(b, err)
	last := told[len(told)-1]
	b.Logf("fitted and searched %d customers in %v: %d pairs", last.GetCustomers(), time.Since(began).Round(time.Millisecond), last.GetCandidates())
	b.Run("customer", func(b *testing.B) {
		r := rand.New(rand.NewPCG(1, 2))
		var took []time.Duration
		pairs := 0
		for b.Loop() {
			at := time.Now()
			answer, err := h.server.ListMergeCandidates(ctx, &customerv1.ListMergeCandidatesRequest{CustomerId: fmt.Sprintf("profile%019d", r.IntN(benchCustomers))})
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(at))
			pairs += len(answer.GetCandidates())
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		b.ReportMetric(float64(pairs)/float64(len(took)), "pairs/op")
	})
	b.Run("tenant", func(b *testing.B) {
		for b.Loop() {
			if _, err := h.server.ListMergeCandidates(ctx, &customerv1.ListMergeCandidatesRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// callFor is a call that may take long.
func (h *house) callFor(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	h.t.Cleanup(cancel)
	return withTenant(ctx, "acme")
}

// BenchmarkFold is an identify call taken into a record, and the blocking keys of
// what comes of it.
func BenchmarkFold(b *testing.B) {
	def := match.Definition()
	p := &eventv1.TraitsUpdated{}
	for _, t := range [][2]string{
		{"firstName", `"Ada"`}, {"lastName", `"Lovelace"`}, {"birthday", `"1815-12-10"`}, {"email", `"ada@example.com"`}, {"plan", `"pro"`},
		{"address", `{"street":"12 St James's Square","city":"London","postalCode":"SW1Y 4JH"}`},
	} {
		p.Traits = append(p.Traits, &eventv1.Trait{Name: t[0], ValueJson: t[1]})
	}
	ev := projectiontest.NewEvent("acme", "p1", 1, opening, &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: p}})
	ev.Identifiers = []*eventv1.Identifier{{Kind: "email", Value: "ada@example.com"}, {Kind: "user_id", Value: "4711"}}
	rec := &eventv1.RecordedEvent{Event: ev, Position: 7, RecordedTime: timestamppb.New(opening)}
	b.Run("event", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := def.Fold(def.New(), rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("keys", func(b *testing.B) {
		doc := def.New()
		require.NoError(b, def.Fold(doc, rec))
		b.ReportAllocs()
		for b.Loop() {
			if len(def.Documents.Indexes[0].Extract(doc)) == 0 {
				b.Fatal("no keys")
			}
		}
	})
}
