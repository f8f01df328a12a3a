package postgres_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// deadline is how long a test waits for what must come.
const deadline = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, deadline, 10*time.Millisecond, what)
}

// failing is a test that may fail without failing the one around it.
type failing struct {
	testing.TB
	mu       sync.Mutex
	messages []string
}

func (f *failing) Fatal(args ...any) {
	f.mu.Lock()
	f.messages = append(f.messages, fmt.Sprint(args...))
	f.mu.Unlock()
	runtime.Goexit()
}

func (f *failing) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// failure runs a test that must fail and returns what it says.
func failure(t *testing.T, test func(tb testing.TB)) string {
	t.Helper()
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	require.Len(t, f.messages, 1, "the test should have failed")
	return f.messages[0]
}
