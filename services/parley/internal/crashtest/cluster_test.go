package crashtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
	"github.com/parleyhq/parley/pkg/testkit/workload"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/parley/internal/load"
	"github.com/parleyhq/parley/services/parley/internal/process"
)

// The members of a cluster, by what they do. Of the recorders and of those that
// have the read models one works and the other stands by; which, they find out
// by themselves.
const (
	theLog        = "the log"
	theGateway    = "the gateway"
	oneRecorder   = "one recorder"
	otherRecorder = "the other recorder"
	oneReader     = "one with the read models"
	otherReader   = "the other with the read models"
)

// TestCrashOfACluster runs the platform as beyond one machine, in processes over
// EventStoreDB's protocol, NATS and Postgres, and kills them in turn under load,
// the log's among them. Writers are acknowledged as long as there is a gateway,
// readers are served by whichever process is not killed; in the end everything
// that was acknowledged is there once, and what is served is what a clean replay
// gives.
func TestCrashOfACluster(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	rng := rand.New(rand.NewPCG(seed, 8))
	c := newCluster(t)
	defer c.end()
	c.add(theLog, "log")
	for _, name := range []string{oneRecorder, otherRecorder} {
		c.add(name, "recorder")
	}
	for _, name := range []string{oneReader, otherReader} {
		c.add(name, "customer", "feed", "ops")
	}
	c.add(theGateway, "web")
	token := c.record("steady")
	c.sees("steady", token)
	c.write(load.NewSource(workload.Options{Seed: seed, Customers: 300}))
	c.read("steady", token)

	victims := []string{theLog, oneRecorder, oneReader, theGateway, otherRecorder, otherReader}
	rng.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	aWhile := func() {
		require.True(t, wait(time.Duration(rng.Int64N(int64(400*time.Millisecond))), c.clients.Done()))
	}
	for n := range rounds(len(victims)) {
		victim := c.members[victims[n%len(victims)]]
		aWhile()
		victim.kill()
		aWhile()
		victim.start()
		who := fmt.Sprintf("behind the end of %s in round %d", victim.name, n)
		c.sees(who, c.record(who))
	}
	c.quiet()
	c.sees("the last one", c.record("the last one"))
	c.compare()
	t.Logf("%d calls acknowledged, %d reads", len(c.acknowledged), c.reads.Load())
}

// TestCrashOfTheLog runs everything in one process over a log that is elsewhere,
// and kills the one or the other.
func TestCrashOfTheLog(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	rng := rand.New(rand.NewPCG(seed, 9))
	c := newCluster(t)
	defer c.end()
	c.add(theLog, "log")
	c.add("all the rest")
	c.write(load.NewSource(workload.Options{Seed: seed, Customers: 300}))
	for n := range rounds(4) {
		victim := c.members[theLog]
		if n%2 == 1 {
			victim = c.members["all the rest"]
		}
		require.True(t, wait(time.Duration(rng.Int64N(int64(600*time.Millisecond))), c.clients.Done()))
		victim.kill()
		victim.start()
		who := "written in round " + strconv.Itoa(n)
		c.sees(who, c.record(who))
	}
	c.quiet()
	c.sees("the last one", c.record("the last one"))
	c.compare()
}

// cluster is a platform of several processes, with its clients.
type cluster struct {
	*testing.T
	views   databaseViews
	flags   []string        // of every member but the log
	clients context.Context // ends with the clients
	cancel  context.CancelFunc

	members map[string]*clusterMember
	names   []string // in the order in which they were added

	loaded       sync.WaitGroup
	endLoad      context.CancelFunc
	mu           sync.Mutex
	acknowledged map[string]bool
	reads        atomic.Int64
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	nats, err := bus.Open(t.Context(), bus.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, nats.Close()) })
	c := &cluster{T: t, views: databaseViews{db: postgres.Database(t)}, members: map[string]*clusterMember{}, acknowledged: map[string]bool{}}
	c.clients, c.cancel = context.WithTimeout(t.Context(), 5*patience)
	c.flags = append(c.views.flags(), "--nats", "nats://"+nats.Addr(), "--nats-replicas", "1", "--profile-secret", "the same for all of them")
	return c
}

// end ends the clients and the processes.
func (c *cluster) end() {
	c.Helper()
	if c.endLoad != nil {
		c.endLoad()
	}
	c.cancel()
	c.loaded.Wait()
	for _, name := range c.names {
		m := c.members[name]
		m.kill()
		if c.Failed() {
			c.Logf("the end of what %s said:\n%s", name, m.Output())
		}
	}
}

// clusterMember is one process of a cluster.
type clusterMember struct {
	*process.Process
	c     *cluster
	name  string
	dir   string
	flags []string
	// killed is set from before it is killed until it serves again.
	killed atomic.Bool
	conn   *grpc.ClientConn
}

// add starts a process with services, or with all of them.
func (c *cluster) add(name string, services ...string) {
	c.Helper()
	m := &clusterMember{c: c, name: name, dir: c.TempDir()}
	c.members[name], c.names = m, append(c.names, name)
	if name == theLog {
		m.flags = []string{"log", "--eventstore-listen", process.FixedAddr(c)}
	} else {
		m.flags = append(m.flags, services...)
		m.flags = append(m.flags, c.flags...)
		m.flags = append(m.flags, "--grpc-listen", process.FixedAddr(c), "--http-listen", process.FixedAddr(c))
	}
	m.start()
	if name == theLog {
		c.flags = append(c.flags, "--event-store", "esdb://"+m.Addresses.EventStore+"?tls=false")
	}
	if m.Addresses.GRPC != "" {
		var err error
		m.conn, err = grpc.NewClient(m.Addresses.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(c, err)
		c.Cleanup(func() { require.NoError(c, m.conn.Close()) })
	}
}

func (m *clusterMember) start() {
	m.c.Helper()
	m.Process = process.Start(m.c.T, m.dir, m.flags...)
	m.killed.Store(false)
}

func (m *clusterMember) kill() {
	m.killed.Store(true)
	m.Kill()
}

// first is the first member that is named and there.
func (c *cluster) present(names ...string) []*clusterMember {
	var found []*clusterMember
	for _, name := range names {
		if m := c.members[name]; m != nil {
			found = append(found, m)
		}
	}
	return found
}

// record records an interaction of somebody new, by whichever recorder answers,
// and gives its token.
func (c *cluster) record(who string) string {
	c.Helper()
	intake := c.present(oneRecorder, otherRecorder, "all the rest")
	for n := 0; ; n++ {
		ctx, cancel := context.WithTimeout(c.clients, 10*time.Second)
		recorded, err := interactionv1.NewInteractionServiceClient(intake[n%len(intake)].conn).Record(ctx, &interactionv1.RecordRequest{Interaction: &interactionv1.Interaction{
			SourceId: who, Channel: "in_person", Identifiers: []*eventv1.Identifier{{Kind: "user_id", Value: who}},
			Payload: &eventv1.Payload{Kind: &eventv1.Payload_ActivityLogged{ActivityLogged: &eventv1.ActivityLogged{Activity: "visit"}}},
		}})
		cancel()
		if err == nil {
			require.NotEmpty(c, recorded.GetConsistencyToken())
			return recorded.GetConsistencyToken()
		}
		require.Contains(c, []codes.Code{codes.Unavailable, codes.DeadlineExceeded}, rpcerr.CodeOf(err), "%v", err)
		require.True(c, wait(5*time.Millisecond, c.clients.Done()), "nobody records: %v", err)
	}
}

// sees waits until everybody who has the read models shows somebody's only interaction.
func (c *cluster) sees(who, token string) {
	c.Helper()
	for _, m := range c.present(oneReader, otherReader, "all the rest") {
		for {
			ctx, cancel := context.WithTimeout(c.clients, 10*time.Second)
			count, err := countOf(ctx, customerv1.NewCustomerServiceClient(m.conn), who, token)
			cancel()
			if err == nil {
				require.Equal(c, 1, count, "%s shows %s", m.name, who)
				break
			}
			require.Contains(c, []codes.Code{codes.Unavailable, codes.DeadlineExceeded}, rpcerr.CodeOf(err), "%v", err)
			require.True(c, wait(5*time.Millisecond, c.clients.Done()), "%s does not show %s: %v", m.name, who, err)
		}
	}
}

// write sends batches at a bounded rate, each until it is acknowledged.
func (c *cluster) write(source *load.Source) {
	const writers, pause = 2, 40 * time.Millisecond
	ctx, cancel := context.WithCancel(c.clients)
	c.endLoad = cancel
	gateway := c.present(theGateway, "all the rest")[0]
	sender := load.NewSender(gateway.Addresses.HTTP, writers)
	var sending sync.WaitGroup
	for range writers {
		sending.Go(func() {
			for wait(pause, ctx.Done()) {
				batch := source.Next(load.Batch{})
				for sender.Send(ctx, batch.Body) != nil {
					// As a client does that is not answered, also because it is killed itself.
					if !wait(pause, ctx.Done()) {
						return
					}
				}
				c.mu.Lock()
				for _, id := range batch.IDs {
					c.acknowledged[id] = true
				}
				c.mu.Unlock()
			}
		})
	}
	c.loaded.Go(func() {
		sending.Wait()
		sender.Close()
	})
}

// read reads somebody who never changes from both who have the read models: no
// read fails unless the process is killed, whatever else is.
func (c *cluster) read(who, token string) {
	const pause = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(c.clients)
	endWrites := c.endLoad
	c.endLoad = func() { cancel(); endWrites() }
	for _, m := range c.present(oneReader, otherReader) {
		customers := customerv1.NewCustomerServiceClient(m.conn)
		c.loaded.Go(func() {
			for wait(pause, ctx.Done()) {
				killed := m.killed.Load()
				call, cancel := context.WithTimeout(ctx, patience)
				count, err := countOf(call, customers, who, token)
				cancel()
				switch {
				case ctx.Err() != nil:
					return
				case err == nil && count == 1:
					c.reads.Add(1)
				case err == nil:
					c.Errorf("%s shows %d interactions of somebody who has one", m.name, count)
					return
				case !killed && !m.killed.Load():
					c.Errorf("a read from %s failed, which was not killed: %v", m.name, err)
					return
				}
			}
		})
	}
}

// quiet ends the load.
func (c *cluster) quiet() {
	c.endLoad()
	c.loaded.Wait()
	require.NotEmpty(c, c.acknowledged)
}

// compare ends all processes but the log's in good order, and checks what they left.
func (c *cluster) compare() {
	c.Helper()
	for _, name := range c.names {
		if name == theLog {
			continue
		}
		ctx, cancel := context.WithTimeout(c.Context(), patience)
		require.NoError(c, c.members[name].Stop(ctx), name)
		cancel()
	}
	log := c.open()
	defer func() { require.NoError(c, log.Close()) }()
	checkExactlyOnce(c.T, log, c.acknowledged)
	views := c.views.open(c.T)
	defer func() { require.NoError(c, views.Close()) }()
	require.Equal(c, replayed(c.T, log), stored(c.T, log, views), "what is served differs from a clean replay")
}

// open opens the log as its members do.
func (c *cluster) open() eventstore.Store {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	log, err := esdb.Open(ctx, esdb.Config{URL: config.Secret("esdb://" + c.members[theLog].Addresses.EventStore + "?tls=false")})
	require.NoError(c, err)
	return log
}

// countOf is how many interactions somebody has.
func countOf(ctx context.Context, customers customerv1.CustomerServiceClient, who, token string) (int, error) {
	found, err := customers.LookupCustomer(ctx, &customerv1.LookupCustomerRequest{Kind: "user_id", Value: who, ConsistencyToken: token}, grpc.WaitForReady(true))
	if err != nil {
		return 0, err
	}
	if len(found.GetMatches()) != 1 {
		return 0, fmt.Errorf("%d matches", len(found.GetMatches()))
	}
	got, err := customers.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: found.GetMatches()[0].GetCustomer().GetCustomerId(), ConsistencyToken: token}, grpc.WaitForReady(true))
	return int(got.GetCustomer().GetInteractionCount()), err
}
