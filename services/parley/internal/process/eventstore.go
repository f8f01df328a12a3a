package process

import (
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// EventStore is what a test is to give as `--event-store`. It is `embedded`,
// unless PARLEY_TEST_EVENT_STORE is `esdb`: then the URL of an event store in a
// process of its own, over EventStoreDB's protocol. That process is killed at
// random moments and started again, until the test ends.
func EventStore(tb testing.TB) string {
	tb.Helper()
	if Elsewhere(tb) {
		return killedEventStore(tb)
	}
	return "embedded"
}

// Elsewhere says that EventStore is in a process of its own.
func Elsewhere(tb testing.TB) bool {
	tb.Helper()
	const variable = "PARLEY_TEST_EVENT_STORE"
	kind := os.Getenv(variable)
	require.Contains(tb, []string{"", "embedded", "esdb"}, kind, variable)
	return kind == "esdb"
}

// FixedAddr is a free address for a process that comes back to it after a kill.
// The system gives its port to nobody who asks for any, or connects from one:
// a client that dials a port of those nobody listens at may be given that very
// port, and is connected to itself.
func FixedAddr(tb testing.TB) string {
	tb.Helper()
	const lowest, ephemeral = 20_000, 32_768
	for {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.N(ephemeral-lowest)))
		if l, err := net.Listen("tcp", addr); err == nil {
			require.NoError(tb, l.Close())
			return addr
		}
	}
}

// The time between two kills: long enough that most of what is asked is
// answered, short enough that each test sees some.
const (
	leastBetweenKills = 500 * time.Millisecond
	mostBetweenKills  = 2500 * time.Millisecond
)

func killedEventStore(tb testing.TB) (url string) {
	tb.Helper()
	dir := tb.TempDir()
	addr := FixedAddr(tb)
	start := func() (*Process, error) {
		p, err := begin(tb, dir, "log", "--eventstore-listen", addr)
		if err == nil {
			err = p.Await()
		}
		return p, err
	}
	p, err := start()
	require.NoError(tb, err)
	kills, ended := 0, make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			timer.Reset(leastBetweenKills + rand.N(mostBetweenKills-leastBetweenKills))
			select {
			case <-tb.Context().Done():
				return
			case <-timer.C:
			}
			p.Kill()
			kills++
			next, err := start()
			if !assert.NoError(tb, err, "the event store, killed before") {
				return
			}
			p = next
		}
	}()
	// It outlives what the test itself cleans up.
	tb.Cleanup(func() {
		<-ended
		p.Kill()
		tb.Logf("the event store was killed %d times", kills)
	})
	return "esdb://" + addr + "?tls=false"
}
