package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/identity"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/parley/internal/process"
	"github.com/parleyhq/parley/services/recorder"
)

// script stands in for NATS: it hands over what a function makes.
type script func(ctx context.Context, handler bus.Handler) error

func (s script) Consume(ctx context.Context, _ bus.ConsumeOptions, handler bus.Handler) error {
	return s(ctx, handler)
}
func (script) Reply(string, *interactionv1.IngressReply) error { return nil }
func (script) Healthy() error                                  { return nil }

// crowd makes interactions of many customers, each with up to ten identifiers.
type crowd struct {
	b         *testing.B
	number    int
	sequence  uint64
	customers int
}

var crowdStart = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// message is one of a batch of interactions. Each is of a customer with his
// identifiers from the first to one before the last.
func (c *crowd) message(count, identifiers int, customer func(i int) int) bus.Message {
	batch := &interactionv1.IngressBatch{}
	for i := range count {
		batch.Events = append(batch.Events, c.interaction(customer(i), identifiers))
	}
	data, err := proto.Marshal(batch)
	require.NoError(c.b, err)
	c.sequence++
	return bus.Message{
		Subject: "ingress.default.web", Tenant: "default", Channel: "web",
		Header: ingressHeader(c.b), Data: data, Sequence: c.sequence, Published: crowdStart,
	}
}

func (c *crowd) interaction(customer, identifiers int) *eventv1.Event {
	c.number++
	ev := &eventv1.Event{
		Id: event.DeterministicID("default", "bench", fmt.Sprint(c.number)).String(), Tenant: "default", Source: "bench", SourceId: fmt.Sprint(c.number),
		Channel: "web", Direction: eventv1.Direction_DIRECTION_INBOUND,
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/pricing", Title: "Pricing"}}},
	}
	event.Stamp(ev)
	event.SetOccurred(ev, crowdStart.Add(time.Duration(c.number)*time.Millisecond), crowdStart.Add(24*time.Hour), false)
	kinds := [...]string{"user_id", "email", "anonymous_id", "phone", "card", "handle:telegram", "anonymous_id", "email", "loyalty", "anonymous_id"}
	for n, kind := range kinds[:identifiers] {
		value := fmt.Sprintf("%s-%d-%d", kind, n, customer)
		switch kind {
		case "email":
			value = fmt.Sprintf("c%d.%d@example.com", customer, n)
		case "phone":
			value = fmt.Sprintf("+1212%07d", customer)
		}
		ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{Kind: kind, Value: value})
	}
	return ev
}

// BenchmarkIdentity records interactions with ten identifiers among a million
// customers, beside the same ones with one identifier.
func BenchmarkIdentity(b *testing.B) {
	const perMessage, perBatch = 20, 16
	c := &crowd{b: b, customers: max(1_000, int(1_000_000*scale))}
	measured := max(2_000, int(100_000*scale))
	dir := b.TempDir()
	log, err := embedded.Open(filepath.Join(dir, "log"), embedded.Options{})
	require.NoError(b, err)
	defer func() { require.NoError(b, log.Close()) }()
	resolver, err := identity.NewResolver(identity.DefaultRules(), []byte(secret))
	require.NoError(b, err)
	var with, without, first time.Duration
	rec, err := recorder.New(recorder.Deps{
		Log: log, Codec: event.NewCodec(), Resolver: resolver, IndexDir: filepath.Join(dir, "recorder"), Logger: slog.New(slog.DiscardHandler),
		Bus: script(func(ctx context.Context, handler bus.Handler) error {
			send := func(n, identifiers int, customer func(i int) int) (time.Duration, error) {
				var took time.Duration
				for done := 0; done < n; {
					var messages []bus.Message
					for len(messages) < perBatch && done < n {
						from := done
						messages = append(messages, c.message(perMessage, identifiers, func(i int) int { return customer(from + i) }))
						done += perMessage
					}
					begun := time.Now()
					if err := handler(ctx, messages); err != nil {
						return 0, err
					}
					took += time.Since(begun)
				}
				return took, nil
			}
			var err error
			// Everybody is known by three identifiers.
			if _, err = send(c.customers, 3, func(i int) int { return i }); err != nil {
				return err
			}
			// Some of them show all ten, and are then seen with these again.
			r := rand.New(rand.NewPCG(1, 2))
			who := make([]int, measured+perMessage)
			for i := range who {
				who[i] = r.IntN(c.customers)
			}
			if first, err = send(measured, 10, func(i int) int { return who[i] }); err != nil {
				return err
			}
			r.Shuffle(len(who), func(i, j int) { who[i], who[j] = who[j], who[i] })
			if with, err = send(measured, 10, func(i int) int { return who[i] }); err != nil {
				return err
			}
			without, err = send(measured, 1, func(i int) int { return who[i] })
			return err
		}),
	})
	require.NoError(b, err)
	for b.Loop() {
		require.NoError(b, rec.Run(b.Context()))
	}
	each := func(d time.Duration) string {
		return fmt.Sprintf("%.1f µs", float64(d.Microseconds())/float64(measured))
	}
	report(row{
		what:      fmt.Sprintf("identity: record an interaction, 10 identifiers, %d customers", c.customers),
		figure:    fmt.Sprintf("%s known, %s when 7 of them are new", each(with), each(first)),
		yardstick: each(without) + " the same with 1 identifier",
		ratio:     ratio(without.Seconds() / with.Seconds()),
	})
}

// BenchmarkMergeAndSplit merges two customers of 10,000 interactions each and
// splits them again, from the call to the read that has it.
func BenchmarkMergeAndSplit(b *testing.B) {
	const perRequest, rounds = 500, 20
	each := max(500, int(10_000*scale))
	p := process.Start(b, b.TempDir())
	conn := dial(b, p)
	interactions := interactionv1.NewInteractionServiceClient(conn)
	customers := customerv1.NewCustomerServiceClient(conn)
	consistency := ""
	for _, user := range []string{"one", "two"} {
		for from := 0; from < each; from += perRequest {
			request := &interactionv1.RecordBatchRequest{}
			for i := from; i < from+perRequest; i++ {
				request.Interactions = append(request.Interactions, &interactionv1.Interaction{
					SourceId: fmt.Sprintf("%s-%d", user, i), Channel: "web", Direction: eventv1.Direction_DIRECTION_INBOUND,
					Identifiers: []*eventv1.Identifier{{Kind: "user_id", Value: user}, {Kind: "anonymous_id", Value: fmt.Sprintf("%s-%d", user, i%10)}},
					Payload:     &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: fmt.Sprint("/", i)}}},
				})
			}
			answer, err := interactions.RecordBatch(b.Context(), request)
			require.NoError(b, err)
			consistency = answer.GetConsistencyToken()
		}
	}
	id := func(user string) string {
		found, err := customers.LookupCustomer(b.Context(), &customerv1.LookupCustomerRequest{Kind: "user_id", Value: user, ConsistencyToken: consistency})
		require.NoError(b, err)
		require.Len(b, found.GetMatches(), 1)
		require.EqualValues(b, each, found.GetMatches()[0].GetCustomer().GetInteractionCount())
		return found.GetMatches()[0].GetCustomer().GetCustomerId()
	}
	one, two := id("one"), id("two")
	get := func(id, token string) *customerv1.Customer {
		answer, err := customers.GetCustomer(b.Context(), &customerv1.GetCustomerRequest{CustomerId: id, ConsistencyToken: token})
		require.NoError(b, err)
		return answer.GetCustomer()
	}
	var merging, splitting time.Duration
	for b.Loop() {
		merging, splitting = 0, 0
		for range rounds {
			begun := time.Now()
			merged, err := customers.MergeCustomers(b.Context(), &customerv1.MergeCustomersRequest{CustomerId: one, OtherCustomerId: two, Reason: "measured"})
			require.NoError(b, err)
			whole := get(two, merged.GetConsistencyToken())
			merging += time.Since(begun)
			require.EqualValues(b, 2*each, whole.GetInteractionCount())

			begun = time.Now()
			split, err := customers.SplitCustomer(b.Context(), &customerv1.SplitCustomerRequest{
				CustomerId: one, UndoMergeEventId: merged.GetEventId(), Reason: "measured",
			})
			require.NoError(b, err)
			half := get(two, split.GetConsistencyToken())
			splitting += time.Since(begun)
			require.EqualValues(b, each, half.GetInteractionCount())
		}
	}
	report(row{
		what: fmt.Sprintf("merge and split of customers with %d interactions each, call to read", each),
		figure: fmt.Sprintf("merge %.1f ms, split %.1f ms", float64(merging.Microseconds())/rounds/1000,
			float64(splitting.Microseconds())/rounds/1000),
	})
}
