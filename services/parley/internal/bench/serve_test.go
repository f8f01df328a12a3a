package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
	"github.com/parleyhq/parley/services/parley/internal/load"
	"github.com/parleyhq/parley/services/parley/internal/process"
)

func dial(tb testing.TB, p *process.Process) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(p.Addresses.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// probe is a call of somebody who was never seen before.
func probe(i int) []byte {
	return fmt.Appendf(nil, `{"batch":[{"type":"track","event":"Probe","anonymousId":"probe-%d","messageId":"probe-%d"}]}`, i, i)
}

// untilVisible asks for the probe until it is there.
func untilVisible(ctx context.Context, customers customerv1.CustomerServiceClient, i int) (time.Duration, error) {
	begun := time.Now()
	request := &customerv1.LookupCustomerRequest{Kind: "anonymous_id", Value: "probe-" + strconv.Itoa(i)}
	pause := time.NewTicker(500 * time.Microsecond)
	defer pause.Stop()
	for {
		found, err := customers.LookupCustomer(ctx, request)
		if err != nil && status.Code(err) != codes.NotFound {
			return 0, fmt.Errorf("look up a probe: %w", err)
		}
		if len(found.GetMatches()) > 0 {
			return time.Since(begun), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("probe %d not visible: %w", i, ctx.Err())
		case <-pause.C:
		}
	}
}

// BenchmarkGetCustomer reads customers over loopback, beside a gRPC server in
// a process of its own right that does nothing but answer the same bytes.
func BenchmarkGetCustomer(b *testing.B) {
	const workers = 16
	calls := sized(50_000)
	gets := max(5_000, int(100_000*scale))
	p := process.Start(b, b.TempDir())
	conn := dial(b, p)
	sender := load.NewSender(p.Addresses.HTTP, ingestWorkers)
	failed := load.Run(b.Context(), sender, load.NewSource(workload.Options{Customers: calls / 10, Concurrent: 200}), ingestWorkers, calls, func(load.Batch) {})
	require.Zero(b, failed)
	sender.Close()
	waitVisible(b, conn)

	customers := customerv1.NewCustomerServiceClient(conn)
	gen := workload.New(workload.Options{})
	var ids []string
	var sample *customerv1.GetCustomerResponse
	for i := range min(1000, calls/10) {
		found, err := customers.LookupCustomer(b.Context(), &customerv1.LookupCustomerRequest{Kind: "user_id", Value: gen.UserID(i)})
		require.NoError(b, err)
		require.Len(b, found.GetMatches(), 1)
		ids = append(ids, found.GetMatches()[0].GetCustomer().GetCustomerId())
		sample = &customerv1.GetCustomerResponse{Customer: found.GetMatches()[0].GetCustomer()}
	}
	idle := startIdle(b, sample)

	for b.Loop() {
		// In turn, so that a machine whose speed drifts treats both alike.
		var mine, theirs time.Duration
		for range 5 {
			mine += timeGets(b, customers, ids, gets/5, workers)
			theirs += timeGets(b, idle, ids, gets/5, workers)
		}
		rate, yardstick := perSecond(gets, mine), perSecond(gets, theirs)
		b.ReportMetric(rate, "gets/s")
		b.ReportMetric(yardstick, "idle-gets/s")
		report(row{
			what:      "GetCustomer, 16 calls in flight",
			figure:    thousands(rate),
			yardstick: "a do-nothing grpc-go server answering the same bytes: " + thousands(yardstick),
			ratio:     ratio(rate / yardstick),
			floor:     "0.5; 0.9",
		})
	}
	require.NoError(b, p.Stop(b.Context()))
}

func timeGets(b *testing.B, client customerv1.CustomerServiceClient, ids []string, gets, workers int) time.Duration {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= gets {
					return
				}
				if _, err := client.GetCustomer(b.Context(), &customerv1.GetCustomerRequest{CustomerId: ids[i%len(ids)]}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// idleServer answers every GetCustomer with the same message.
type idleServer struct {
	customerv1.UnimplementedCustomerServiceServer
	answer *customerv1.GetCustomerResponse
}

func (s *idleServer) GetCustomer(context.Context, *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
	return s.answer, nil
}

// idleVariable makes this test binary the do-nothing server: a process of its
// own, as Parley is one. It names the file with the answer.
const idleVariable = "PARLEY_BENCH_IDLE"

func startIdle(b *testing.B, answer *customerv1.GetCustomerResponse) customerv1.CustomerServiceClient {
	b.Helper()
	data, err := proto.Marshal(answer)
	require.NoError(b, err)
	file := filepath.Join(b.TempDir(), "answer")
	require.NoError(b, os.WriteFile(file, data, 0o600))
	conn, err := grpc.NewClient(startIdleChild(b, idleVariable+"="+file), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	return customerv1.NewCustomerServiceClient(conn)
}

// startIdleChild starts this test binary once more, as the server that a
// variable makes of it, and gives its address.
func startIdleChild(b *testing.B, variable string) string {
	b.Helper()
	child := exec.CommandContext(b.Context(), os.Args[0])
	child.Env = append(os.Environ(), variable)
	stdout, err := child.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, child.Start())
	b.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(b, err)
	return strings.TrimSpace(address)
}

// serveIdle is the do-nothing server; it ends with its process.
func serveIdle(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	answer := &customerv1.GetCustomerResponse{}
	if err := proto.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if _, err := fmt.Fprintln(os.Stdout, listener.Addr()); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	server := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(server, &idleServer{answer: answer})
	return server.Serve(listener)
}

// BenchmarkStart measures an empty process: from its start to serving, and its
// memory once nothing happens.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		p := process.Start(b, dir)
		first := p.Started
		require.NoError(b, p.Stop(b.Context()))
		p = process.Start(b, dir)
		again := p.Started
		resident := settledMemory(b, p)
		require.NoError(b, p.Stop(b.Context()))
		b.ReportMetric(float64(again.Milliseconds()), "start-ms")
		b.ReportMetric(float64(resident>>20), "idle-MiB")
		report(row{
			what:      "start to serving, small log",
			figure:    fmt.Sprintf("%s (first start %s)", again.Round(time.Millisecond), first.Round(time.Millisecond)),
			yardstick: "–", ratio: "–", floor: "1 s; 0.3 s",
		})
		report(row{what: "memory, idle", figure: mebibytes(resident), yardstick: "–", ratio: "–", floor: "120 MB; 80 MB"})
	}
}

// settledMemory is the resident memory once it has not changed for a second.
func settledMemory(b *testing.B, p *process.Process) int64 {
	b.Helper()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	last, same := int64(-1), 0
	for range 80 {
		<-ticker.C
		resident, _, err := p.Memory()
		require.NoError(b, err)
		if resident == last {
			if same++; same == 4 {
				return resident
			}
			continue
		}
		last, same = resident, 0
	}
	return last
}

// BenchmarkLarge replays the customer 360 of a log of ten million calls in a
// process of its own, and measures its memory, its rate against a tenth of the
// log, and the start over the large log.
func BenchmarkLarge(b *testing.B) {
	many := sized(large)
	few := max(1000, many/10/20*20)
	for b.Loop() {
		smallEvents, smallTook, _ := replayServed(b, logOf(b, few))
		events, took, peak := replayServed(b, logOf(b, many))
		growth := (took.Seconds() / float64(events)) / (smallTook.Seconds() / float64(smallEvents))
		b.ReportMetric(growth, "growth")
		b.ReportMetric(float64(peak>>20), "peak-MiB")
		report(row{what: fmt.Sprintf("memory, replay of %d events", events), figure: mebibytes(peak) + " at the peak", yardstick: "–", ratio: "–", floor: "1 GB; 400 MB"})
		report(row{
			what:      fmt.Sprintf("replay cost per event, %d ÷ %d", events, smallEvents),
			figure:    thousands(perSecond(events, took)),
			yardstick: "the smaller log: " + thousands(perSecond(smallEvents, smallTook)),
			ratio:     ratio(growth), floor: "1.5; 1.1",
		})

		p := startOver(b, logOf(b, many))
		b.ReportMetric(float64(p.Started.Milliseconds()), "start-ms")
		report(row{
			what:   fmt.Sprintf("start to serving, %d events in the log", events),
			figure: p.Started.Round(time.Millisecond).String(), yardstick: "–", ratio: "–", floor: "1 s; 0.3 s",
		})
		require.NoError(b, p.Stop(b.Context()))
	}
}

// replayServed deletes a data directory's views and lets a process fill them
// again, or those that flags say.
func replayServed(b *testing.B, dir string, flags ...string) (events int, took time.Duration, peak int64) {
	b.Helper()
	require.NoError(b, os.RemoveAll(filepath.Join(dir, "views")))
	begun := time.Now()
	p := startOver(b, dir, flags...)
	conn := dial(b, p)
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Minute)
	defer cancel()
	position := recordLast(ctx, b, conn)
	took = time.Since(begun)
	_, peak, err := p.Memory()
	require.NoError(b, err)
	require.NoError(b, p.Stop(b.Context()))
	return position, took, peak
}
