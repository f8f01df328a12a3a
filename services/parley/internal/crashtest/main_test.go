package crashtest

import (
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take before a test gives up: for a machine
// that runs other tests meanwhile.
const patience = 2 * time.Minute

// rounds is how often something is done to the process: PARLEY_CRASH_ROUNDS, else few.
func rounds(few int) int { return fromEnvironment("PARLEY_CRASH_ROUNDS", few) }

// calls is how many calls there are in a log that is replayed, at least:
// PARLEY_CRASH_CALLS, else few, unless there are many rounds anyway.
func calls() int {
	otherwise := 3_000
	if os.Getenv("PARLEY_CRASH_ROUNDS") != "" {
		otherwise = 10_000
	}
	return fromEnvironment("PARLEY_CRASH_CALLS", otherwise)
}

func fromEnvironment(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// wait lets time pass; false says that until was closed first.
func wait(d time.Duration, until <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-until:
		return false
	}
}
