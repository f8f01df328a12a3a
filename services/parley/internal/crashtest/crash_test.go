package crashtest

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
	"github.com/parleyhq/parley/pkg/testkit/workload"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/parley/internal/load"
	"github.com/parleyhq/parley/services/parley/internal/process"
)

func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seed := testseed.Of(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	source := load.NewSource(workload.Options{Seed: seed, Customers: 500})

	var mu sync.Mutex
	acknowledged := map[string]bool{}
	var unanswered []load.Batch // sent, but the answer never came
	for range rounds(6) {
		p := process.Start(t, dir)
		t.Logf("served after %s", p.Started.Round(time.Millisecond))
		sender := load.NewSender(p.Addresses.HTTP, 4)
		// What the crash before left without an answer is sent again, as a
		// client does.
		var still []load.Batch
		for _, batch := range unanswered {
			if sender.Send(t.Context(), batch.Body) != nil {
				still = append(still, batch)
				continue
			}
			for _, id := range batch.IDs {
				acknowledged[id] = true
			}
		}
		unanswered = still

		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					batch := source.Next(load.Batch{})
					err := sender.Send(ctx, batch.Body)
					mu.Lock()
					if err != nil {
						unanswered = append(unanswered, batch)
					} else {
						for _, id := range batch.IDs {
							acknowledged[id] = true
						}
					}
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		moment := time.NewTimer(time.Duration(rng.Int64N(int64(time.Second))))
		<-moment.C
		p.Kill()
		cancel()
		wg.Wait()
		sender.Close()
	}
	require.NotEmpty(t, acknowledged)

	// One more start brings everything in; then it stops in good order.
	p := process.Start(t, dir)
	waitCaughtUp(t, p)
	stop, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, p.Stop(stop))
	t.Logf("%d calls acknowledged", len(acknowledged))

	log, err := embedded.Open(filepath.Join(dir, "log"), embedded.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, log.Close()) }()
	checkExactlyOnce(t, log, acknowledged)
	views := embeddedViews{dir: dir}.open(t)
	defer func() { require.NoError(t, views.Close()) }()
	require.Equal(t, replayed(t, log), stored(t, log, views), "what is served differs from a clean replay")
}

// waitCaughtUp returns once everything that was accepted before is recorded and
// visible: ingress is in order, so what is recorded now is behind it. It gives
// the consistency token of that.
func waitCaughtUp(t *testing.T, p *process.Process) string {
	t.Helper()
	conn, err := grpc.NewClient(p.Addresses.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	recorded, err := interactionv1.NewInteractionServiceClient(conn).Record(ctx, &interactionv1.RecordRequest{
		Interaction: &interactionv1.Interaction{
			SourceId: "the last one", Channel: "in_person",
			Identifiers: []*eventv1.Identifier{{Kind: "user_id", Value: "the-last-one"}},
			Payload:     &eventv1.Payload{Kind: &eventv1.Payload_ActivityLogged{ActivityLogged: &eventv1.ActivityLogged{Activity: "visit"}}},
		},
	}, grpc.WaitForReady(true))
	require.NoError(t, err)
	found, err := customerv1.NewCustomerServiceClient(conn).LookupCustomer(ctx, &customerv1.LookupCustomerRequest{
		Kind: "user_id", Value: "the-last-one", ConsistencyToken: recorded.GetConsistencyToken(),
	})
	require.NoError(t, err)
	require.Len(t, found.GetMatches(), 1)
	return recorded.GetConsistencyToken()
}

// checkExactlyOnce reads the whole log.
func checkExactlyOnce(t *testing.T, log eventstore.Store, acknowledged map[string]bool) {
	t.Helper()
	codec := event.NewCodec()
	calls, events := map[string]int{}, map[string]bool{}
	var before eventstore.Position
	for rec, err := range log.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		require.Greater(t, rec.Position, before, "positions grow")
		before = rec.Position
		require.True(t, event.IsEvent(rec), "%s at %d: nothing here may go to quarantine", rec.Type, rec.Position)
		require.False(t, events[rec.ID.String()], "event %s twice", rec.ID)
		events[rec.ID.String()] = true
		ev, err := codec.Decode(rec)
		require.NoError(t, err)
		if ev.GetEvent().GetSource() == "web/dev" {
			calls[ev.GetEvent().GetSourceId()]++
		}
	}
	for id := range acknowledged {
		require.Equal(t, 1, calls[id], "call %s was acknowledged", id)
	}
	for id, n := range calls {
		require.Equal(t, 1, n, "call %s", id)
	}
}
