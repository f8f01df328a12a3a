package crashtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/testkit/workload"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/load"
	"github.com/parleyhq/parley/services/parley/internal/process"
)

// people are some of those in a log, and how they are to be read.
type people struct {
	gen *workload.Generator
	// token is of an event behind all about them.
	token string
	// answers by number, once they are known; they never change afterwards.
	answers []answer
}

type answer struct {
	customer *customerv1.Customer
	timeline []*customerv1.InteractionSummary
}

// meet learns how people are to be read.
func (w *people) meet(t *testing.T, customers customerv1.CustomerServiceClient, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range n {
		a, err := w.look(ctx, customers, i, w.token)
		require.NoError(t, err)
		require.Positive(t, a.customer.GetInteractionCount())
		require.Len(t, a.timeline, int(a.customer.GetInteractionCount()))
		w.answers = append(w.answers, a)
	}
}

// pageSize makes several pages of everybody's timeline.
const pageSize = 3

// look reads a person in all ways there are.
func (w *people) look(ctx context.Context, customers customerv1.CustomerServiceClient, i int, token string) (a answer, err error) {
	found, err := customers.LookupCustomer(ctx, &customerv1.LookupCustomerRequest{Kind: "user_id", Value: w.gen.UserID(i), ConsistencyToken: token})
	if err != nil {
		return a, fmt.Errorf("look up %s: %w", w.gen.UserID(i), err)
	}
	if len(found.GetMatches()) != 1 {
		return a, fmt.Errorf("look up %s: %d matches", w.gen.UserID(i), len(found.GetMatches()))
	}
	a.customer = found.GetMatches()[0].GetCustomer()
	got, err := customers.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: a.customer.GetCustomerId(), ConsistencyToken: token})
	if err != nil {
		return a, fmt.Errorf("get %s: %w", w.gen.UserID(i), err)
	}
	if !proto.Equal(a.customer, got.GetCustomer()) {
		return a, fmt.Errorf("%s is looked up as %s and got as %s", w.gen.UserID(i), a.customer, got.GetCustomer())
	}
	searched, err := customers.SearchCustomers(ctx, &customerv1.SearchCustomersRequest{Query: w.gen.Email(i), ConsistencyToken: token})
	if err != nil {
		return a, fmt.Errorf("search %s: %w", w.gen.Email(i), err)
	}
	if len(searched.GetCustomers()) != 1 || !proto.Equal(a.customer, searched.GetCustomers()[0]) {
		return a, fmt.Errorf("search %s: %s", w.gen.Email(i), searched)
	}
	request := &customerv1.ListTimelineRequest{CustomerId: a.customer.GetCustomerId(), PageSize: pageSize, ConsistencyToken: token}
	for {
		page, err := customers.ListTimeline(ctx, request)
		if err != nil {
			return a, fmt.Errorf("list the timeline of %s: %w", w.gen.UserID(i), err)
		}
		a.timeline = append(a.timeline, page.GetInteractions()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	_, err = customers.ListMergeCandidates(ctx, &customerv1.ListMergeCandidatesRequest{CustomerId: a.customer.GetCustomerId(), ConsistencyToken: token})
	if status.Code(err) != codes.FailedPrecondition {
		// Nobody has fitted a model here, which the read model tells that pairs are found in.
		return a, fmt.Errorf("list who may be %s: %w", w.gen.UserID(i), err)
	}
	return a, nil
}

// check reads a person and says what is wrong.
func (w *people) check(ctx context.Context, customers customerv1.CustomerServiceClient, i int, token string) error {
	got, err := w.look(ctx, customers, i, token)
	if err != nil {
		return err
	}
	want := w.answers[i]
	if !proto.Equal(want.customer, got.customer) {
		return fmt.Errorf("%s is %s, was %s", w.gen.UserID(i), got.customer, want.customer)
	}
	if len(want.timeline) != len(got.timeline) {
		return fmt.Errorf("%s has a timeline of %d, had %d", w.gen.UserID(i), len(got.timeline), len(want.timeline))
	}
	for n := range want.timeline {
		if !proto.Equal(want.timeline[n], got.timeline[n]) {
			return fmt.Errorf("%s has %s at place %d, had %s", w.gen.UserID(i), got.timeline[n], n, want.timeline[n])
		}
	}
	return nil
}

// life is a process from its start to its end, with its clients. What a client
// is told is held against the process as long as nobody has killed it.
type life struct {
	t *testing.T
	*process.Process
	customers customerv1.CustomerServiceClient
	ops       opsv1.ProjectionServiceClient
	// killed is set before the process is.
	killed atomic.Bool
	// looks that read could have.
	looks atomic.Int64

	clients context.Context // ends with the clients
	conn    *grpc.ClientConn
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// begin starts a process, whose clients give up after a time. End it.
func begin(t *testing.T, most time.Duration, dir string, flags ...string) *life {
	t.Helper()
	p, err := process.Begin(t, dir, flags...)
	require.NoError(t, err)
	l := &life{t: t, Process: p}
	l.clients, l.cancel = context.WithTimeout(t.Context(), most)
	return l
}

// connect waits until the process serves.
func (l *life) connect() {
	l.t.Helper()
	require.NoError(l.t, l.Await())
	var err error
	l.conn, err = grpc.NewClient(l.Addresses.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(l.t, err)
	l.customers, l.ops = customerv1.NewCustomerServiceClient(l.conn), opsv1.NewProjectionServiceClient(l.conn)
}

// end ends the clients, and the process where it lives.
func (l *life) end() {
	l.t.Helper()
	l.kill()
	l.leave()
	l.cancel()
	if l.t.Failed() {
		l.t.Logf("the end of what the process said:\n%s", l.Output())
	}
}

// leave ends the clients.
func (l *life) leave() {
	l.cancel()
	l.wg.Wait()
	if l.conn != nil {
		require.NoError(l.t, l.conn.Close())
		l.conn = nil
	}
}

func (l *life) kill() {
	l.killed.Store(true)
	l.Kill()
}

// killAfter kills the process in a while, whatever happens meanwhile.
func (l *life) killAfter(d time.Duration) { l.wg.Go(func() { l.killOnce(d) }) }

func (l *life) killOnce(d time.Duration) {
	if wait(d, l.clients.Done()) {
		l.kill()
	}
}

// died waits until killAfter has done it.
func (l *life) died() bool {
	l.t.Helper()
	require.False(l.t, wait(patience, l.Ended()), "the process lives")
	return true
}

// failed says that a call failed because the process was killed. It may not
// for any other reason.
func (l *life) failed(err error) bool {
	l.t.Helper()
	if err != nil && !l.killed.Load() {
		require.NoError(l.t, err, "the process was not killed")
	}
	return err != nil
}

// watch is failed for a client of its own goroutine.
func (l *life) watch(what string, err error) (goOn bool) {
	if err != nil && !l.killed.Load() && l.clients.Err() == nil {
		l.t.Errorf("%s while the process was not killed: %v", what, err)
	}
	return err == nil
}

// read has clients read people all the time, at a bounded rate. None of the
// calls may fail, or give anything else than it ever did.
func (l *life) read(who *people, tokens ...string) {
	const clients, pause = 2, 10 * time.Millisecond
	for c := range clients {
		l.wg.Go(func() {
			for n := c; wait(pause, l.clients.Done()); n += clients {
				err := who.check(l.clients, l.customers, n%len(who.answers), tokens[n%len(tokens)])
				if !l.watch("a read failed", err) {
					return
				}
				l.looks.Add(1)
			}
		})
	}
}

// write sends batches, at a bounded rate, and counts those that were acknowledged.
func (l *life) write(source *load.Source, pause time.Duration) {
	l.wg.Go(func() {
		sender := load.NewSender(l.Addresses.HTTP, 1)
		defer sender.Close()
		for wait(pause, l.clients.Done()) {
			if !l.watch("a write failed", sender.Send(l.clients, source.Next(load.Batch{}).Body)) {
				return
			}
		}
	})
}

// projection is how one does; false where the process was killed.
func (l *life) projection(name string) (*opsv1.Projection, bool) {
	l.t.Helper()
	answer, err := l.ops.GetProjection(l.clients, &opsv1.GetProjectionRequest{Projection: name})
	return answer.GetProjection(), !l.failed(err)
}

// verify computes projections anew and compares; false where the process was killed.
func (l *life) verify(names ...string) bool {
	l.t.Helper()
	for _, name := range names {
		stream, err := l.ops.VerifyProjection(l.clients, &opsv1.VerifyProjectionRequest{Projection: name})
		if l.failed(err) {
			return false
		}
		var difference *opsv1.Difference
		for difference == nil {
			answer, err := stream.Recv()
			if l.failed(err) {
				return false
			}
			difference = answer.GetDifference()
		}
		requireEqual(l.t, difference)
	}
	return true
}

// requireEqual checks a comparison by its digests as well.
func requireEqual(t *testing.T, d *opsv1.Difference) {
	t.Helper()
	require.True(t, d.GetEqual(), "%s", d)
	require.NotEmpty(t, d.GetCollections())
	var documents uint64
	for _, c := range d.GetCollections() {
		require.Equal(t, c.GetOtherDigest(), c.GetDigest(), "%s", c)
		require.Equal(t, c.GetOtherDocuments(), c.GetDocuments(), "%s", c)
		documents += c.GetDocuments()
	}
	require.Positive(t, documents)
}
