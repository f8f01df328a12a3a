package crashtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
	"github.com/parleyhq/parley/pkg/testkit/workload"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/load"
)

// TestCrashOfPostgres stops and kills the server of the views under a process
// that is written to and read from all the while. Writes know nothing of it;
// reads are told, or wait; the process says what is wrong and comes back by
// itself; and in the end everything that was acknowledged is there once.
func TestCrashOfPostgres(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	rng := rand.New(rand.NewPCG(seed, 4))
	dir := t.TempDir()
	cluster := postgres.Server(t)
	where := databaseViews{db: cluster.Database(t)}
	n := rounds(2)
	l := begin(t, time.Duration(n)*patience, dir, where.flags()...)
	defer l.end()
	l.connect()
	o := &outages{life: l, cluster: cluster, interactions: interactionv1.NewInteractionServiceClient(l.conn), acknowledged: map[string]bool{}}
	o.load(load.NewSource(workload.Options{Seed: seed, Customers: 300}))
	for i := range n {
		o.outage(i, rng)
	}
	o.stop()
	require.True(t, l.verify(projections...))
	waitCaughtUp(t, l.Process)
	l.leave()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, l.Stop(ctx))
	t.Logf("%d calls acknowledged, the slowest batch after %s; of %d reads %d were told that the views are away",
		len(o.acknowledged), o.slowest.Round(time.Millisecond), o.reads.Load(), o.told.Load())
	require.Positive(t, o.told.Load())

	log, err := embedded.Open(filepath.Join(dir, "log"), embedded.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, log.Close()) }()
	checkExactlyOnce(t, log, o.acknowledged)
	views := where.open(t)
	defer func() { require.NoError(t, views.Close()) }()
	require.Equal(t, replayed(t, log), stored(t, log, views), "what is served differs from a clean replay")
}

// TestCrashOfIdlePostgres stops the server under a process that nobody writes to
// or reads from: it says so all the same, before anybody is sent there.
func TestCrashOfIdlePostgres(t *testing.T) {
	t.Parallel()
	cluster := postgres.Server(t)
	where := databaseViews{db: cluster.Database(t)}
	l := begin(t, patience, t.TempDir(), where.flags()...)
	defer l.end()
	l.connect()
	o := &outages{life: l, cluster: cluster}
	o.untilSaid(true)
	o.down(1)
	o.untilSaid(false)
	require.NoError(t, cluster.Start())
	o.untilSaid(true)
}

// outages are those of a Postgres under a process that is under load.
type outages struct {
	*life
	cluster      *postgres.Cluster
	interactions interactionv1.InteractionServiceClient
	// away is set before the server goes and taken back when the process is
	// itself again.
	away        atomic.Bool
	reads, told atomic.Int64
	// drops counts the generations that were dropped: a read that began with one
	// of them, again in all at most one of each reader, is told to ask again.
	drops, again atomic.Int64
	batches      atomic.Int64

	stopLoad context.CancelFunc
	loaded   sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[string]bool
	slowest      time.Duration
}

// load begins to write and to read, at a bounded rate.
func (o *outages) load(source *load.Source) {
	const writers, readers = 2, 2
	const pause = 80 * time.Millisecond
	ctx, cancel := context.WithCancel(o.clients)
	o.stopLoad = cancel
	sender := load.NewSender(o.Addresses.HTTP, writers)
	for range writers {
		o.loaded.Go(func() {
			for wait(pause, ctx.Done()) {
				batch := source.Next(load.Batch{})
				begun := time.Now()
				if err := sender.Send(ctx, batch.Body); err != nil {
					if ctx.Err() == nil {
						o.t.Errorf("a write was not acknowledged: %v", err)
					}
					return
				}
				o.batches.Add(1)
				o.noteAcknowledged(batch.IDs, time.Since(begun))
			}
		})
	}
	steady := o.record("steady")
	for range readers {
		o.loaded.Go(func() {
			for wait(pause/8, ctx.Done()) {
				if !o.readOnce(ctx, steady) {
					return
				}
			}
		})
	}
	o.loaded.Go(func() {
		<-ctx.Done()
		sender.Close()
	})
}

func (o *outages) noteAcknowledged(ids []string, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		o.acknowledged[id] = true
	}
	o.slowest = max(o.slowest, took)
}

// readOnce reads somebody who never changes; false where that went wrong.
func (o *outages) readOnce(ctx context.Context, token string) bool {
	away := o.away.Load()
	const aCall = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, aCall)
	defer cancel()
	count, err := o.countOf(ctx, "steady", token)
	if o.clients.Err() != nil {
		return false
	}
	switch code := rpcerr.CodeOf(err); {
	case err == nil:
		if count != 1 {
			o.t.Errorf("somebody has %d interactions, want one", count)
			return false
		}
		o.reads.Add(1)
	case (away || o.away.Load()) && (code == codes.Unavailable || code == codes.DeadlineExceeded):
		o.told.Add(1)
		o.reads.Add(1)
	case code == codes.Unavailable && strings.Contains(err.Error(), "dropped meanwhile") && o.again.Add(1) <= 2*o.drops.Load():
	case ctx.Err() == nil:
		o.t.Errorf("a read failed, the views being away: %v: %v", away, err)
		return false
	}
	return true
}

// stop ends the load.
func (o *outages) stop() {
	o.stopLoad()
	o.loaded.Wait()
}

// record records an interaction of somebody new and gives its token. It is
// acknowledged whether the views are there or not.
func (o *outages) record(who string) string {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.clients, patience)
	defer cancel()
	recorded, err := o.interactions.Record(ctx, &interactionv1.RecordRequest{Interaction: &interactionv1.Interaction{
		SourceId: who, Channel: "in_person", Identifiers: []*eventv1.Identifier{{Kind: "user_id", Value: who}},
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_ActivityLogged{ActivityLogged: &eventv1.ActivityLogged{Activity: "visit"}}},
	}})
	require.NoError(o.t, err)
	require.NotEmpty(o.t, recorded.GetConsistencyToken())
	return recorded.GetConsistencyToken()
}

// countOf is how many interactions somebody has.
func (o *outages) countOf(ctx context.Context, who, token string) (int, error) {
	found, err := o.customers.LookupCustomer(ctx, &customerv1.LookupCustomerRequest{Kind: "user_id", Value: who, ConsistencyToken: token})
	if err != nil {
		return 0, err
	}
	if len(found.GetMatches()) != 1 {
		return 0, fmt.Errorf("%d matches", len(found.GetMatches()))
	}
	got, err := o.customers.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: found.GetMatches()[0].GetCustomer().GetCustomerId()})
	return int(got.GetCustomer().GetInteractionCount()), err
}

// down takes the server away: every other time in good order.
func (o *outages) down(n int) {
	o.t.Helper()
	o.away.Store(true)
	if n%2 == 0 {
		require.NoError(o.t, o.cluster.Kill())
	} else {
		require.NoError(o.t, o.cluster.Stop())
	}
}

// outage takes the server away and brings it back.
func (o *outages) outage(n int, rng *rand.Rand) {
	o.t.Helper()
	rebuilding := n%2 == 0
	if rebuilding {
		_, err := o.ops.RebuildProjections(o.clients, &opsv1.RebuildProjectionsRequest{Projections: projections, SwitchWhenReady: true})
		require.NoError(o.t, err)
	}
	aWhile := func() time.Duration { return time.Duration(rng.Int64N(int64(500 * time.Millisecond))) }
	require.True(o.t, wait(aWhile(), o.clients.Done()))
	o.down(n)

	who := "written in outage " + strconv.Itoa(n)
	token := o.record(who)
	ctx, cancel := context.WithTimeout(o.clients, time.Second)
	_, err := o.countOf(ctx, who, token)
	cancel()
	require.Equal(o.t, errorv1.Reason_REASON_BEHIND, rpcerr.ReasonOf(err), "%v", err)
	told, ok := rpcerr.Parse(err)
	require.True(o.t, ok)
	require.Equal(o.t, codes.Unavailable, told.Code)
	lag, err := strconv.Atoi(told.Metadata["lag_events"])
	require.NoError(o.t, err)
	require.Positive(o.t, lag)
	// Who has the time gets an answer without asking again.
	patient := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(o.clients, patience)
		defer cancel()
		count, err := o.countOf(ctx, who, token)
		if err == nil && count != 1 {
			err = fmt.Errorf("%d interactions", count)
		}
		patient <- err
	}()
	o.untilSaid(false)
	before := o.batches.Load()
	o.until("writes go on", func() bool { return o.batches.Load() >= before+5 })
	require.True(o.t, wait(aWhile(), o.clients.Done()))

	require.NoError(o.t, o.cluster.Start())
	o.untilSaid(true)
	require.NoError(o.t, <-patient)
	o.back()
	// All that was written meanwhile is there, and reads are as before.
	ctx, cancel = context.WithTimeout(o.clients, patience)
	defer cancel()
	_, err = o.countOf(ctx, who, o.record(who+", and after"))
	require.NoError(o.t, err)
	reads := o.reads.Load()
	o.until("reads go on", func() bool { return o.reads.Load() >= reads+20 })
	if rebuilding {
		o.until("the rebuild comes to its end", o.rebuilt)
	}
}

// back says that the views are there again.
func (o *outages) back() { o.away.Store(false) }

// rebuilt says that a rebuild has ended, and drops what served before.
func (o *outages) rebuilt() bool {
	o.t.Helper()
	for _, name := range projections {
		p, ok := o.projection(name)
		require.True(o.t, ok)
		if len(p.GetGenerations()) == 1 {
			continue // dropped below before
		}
		if p.GetGenerations()[1].GetRole() != opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS {
			return false
		}
		o.drops.Add(1)
		_, err := o.ops.DropGeneration(o.clients, &opsv1.DropGenerationRequest{Generation: generationName(namespace(name, p.GetGenerations()[1]))})
		require.NoError(o.t, err)
	}
	return true
}

// untilSaid waits until the process says that it is ready, or that it is not
// and why.
func (o *outages) untilSaid(ready bool) {
	o.t.Helper()
	var last server.Report
	o.until(fmt.Sprintf("ready: %v", ready), func() bool {
		last = o.report()
		return last.Ready == ready
	})
	said := ""
	for _, check := range last.Checks {
		said += check.Reason
	}
	if !ready {
		require.Contains(o.t, said, "unavailable")
	}
	// It lives in any case.
	status, _ := o.ask("/healthz")
	require.Equal(o.t, http.StatusOK, status)
}

func (o *outages) report() (r server.Report) {
	o.t.Helper()
	status, body := o.ask("/readyz")
	require.NoError(o.t, json.Unmarshal([]byte(body), &r), body)
	require.Equal(o.t, r.Ready, status == http.StatusOK, body)
	return r
}

func (o *outages) ask(path string) (status int, body string) {
	o.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + o.Addresses.Admin + path)
	require.NoError(o.t, err)
	var text strings.Builder
	_, err = io.Copy(&text, response.Body)
	require.NoError(o.t, err)
	require.NoError(o.t, response.Body.Close())
	return response.StatusCode, text.String()
}

// until waits for something to be so.
func (o *outages) until(what string, is func() bool) {
	o.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !is() {
		require.False(o.t, o.t.Failed())
		select {
		case <-deadline.C:
			require.Fail(o.t, "waited in vain: "+what)
		case <-o.Ended():
			require.Fail(o.t, "the process has ended")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
