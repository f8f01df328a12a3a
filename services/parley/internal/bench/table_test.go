package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// row is one line of the performance table.
type row struct{ what, figure, yardstick, ratio, floor string }

var table struct {
	sync.Mutex
	rows []row
}

// report adds a line to the table that is printed at the end.
func report(r row) {
	table.Lock()
	defer table.Unlock()
	for i := range table.rows {
		if table.rows[i].what == r.what {
			table.rows[i] = r
			return
		}
	}
	table.rows = append(table.rows, r)
}

func TestMain(m *testing.M) {
	if file := os.Getenv(idleVariable); file != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveIdle(file))
		os.Exit(1)
	}
	if os.Getenv(idleMailVariable) != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveIdleMail())
		os.Exit(1)
	}
	code := m.Run()
	for _, cleanup := range cleanups {
		cleanup()
	}
	if len(table.rows) > 0 {
		var b strings.Builder
		fmt.Fprintf(&b, "\n%s, %d processors, %s, scale %g\n\n", cpuModel(), runtime.NumCPU(), runtime.Version(), scale)
		b.WriteString("| what | measured | yardstick in the same run | ratio | floor; goal |\n|---|---|---|---|---|\n")
		for _, r := range table.rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.what, r.figure, r.yardstick, r.ratio, r.floor)
		}
		_, _ = os.Stdout.WriteString(b.String())
		if path := os.Getenv("PARLEY_BENCH_OUT"); path != "" {
			if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// cleanups run behind the last benchmark: fixtures outlive the one that made
// them.
var cleanups []func()

var scale = func() float64 {
	if s, err := strconv.ParseFloat(os.Getenv("PARLEY_BENCH_SCALE"), 64); err == nil && s > 0 {
		return s
	}
	return 1
}()

// sized scales a number of calls, to whole batches and at least a thousand.
func sized(n int) int {
	n = max(1000, int(float64(n)*scale))
	return n / 20 * 20
}

var large = func() int {
	if n, err := strconv.Atoi(os.Getenv("PARLEY_BENCH_LARGE")); err == nil && n > 0 {
		return n
	}
	return 10_000_000
}()

func cpuModel() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

func thousands(f float64) string { return fmt.Sprintf("%.1fk/s", f/1000) }

func ratio(f float64) string { return fmt.Sprintf("%.2f", f) }

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
