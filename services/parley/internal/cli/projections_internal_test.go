package cli

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

func TestForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 123456: "123,456", 1234567: "1,234,567", math.MaxUint64: "18,446,744,073,709,551,615",
	} {
		require.Equal(t, want, grouped(n))
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 1: "1ms", 240 * time.Millisecond: "240ms", 2190 * time.Millisecond: "2.1s", 9999 * time.Millisecond: "9.9s",
		42 * time.Second: "42s", 60 * time.Second: "1m", 3*time.Minute + 12*time.Second: "3m12s", time.Hour: "1h", 25*time.Hour + 59*time.Minute: "1d1h",
		23*time.Hour + 59*time.Minute + 59*time.Second: "23h59m", math.MaxInt64: "106751d23h",
	} {
		require.Equal(t, want, roughly(d))
	}
	for part, want := range map[float64]string{0: "0.0 %", 0.63217: "63.2 %", 0.99999: "99.9 %", 1: "100.0 %", 2: "100.0 %", -1: "0.0 %", math.Inf(1): "100.0 %"} {
		require.Equal(t, want, share(part))
	}
	require.Equal(t, "0.0 %", share(math.NaN()))
	for rate, want := range map[float64]string{0: "", -3: "", 0.26: "0.3/s", 9.4: "9.4/s", 812.9: "812/s", 41_230: "41,230/s", 1e300: "1,000,000,000,000,000,000/s", math.Inf(1): ""} {
		require.Equal(t, want, perSecond(rate))
	}
	require.Empty(t, perSecond(math.NaN()))
}

func TestGenerationsAsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]uint32{"": {0, 0}, "2": {0, 2}, "g2": {0, 2}, "v3/g2": {3, 2}, "v3/2": {3, 2}} {
		n, err := parseGeneration("generation", "customer", text)
		require.NoError(t, err, text)
		require.Equal(t, want, [2]uint32{n.GetVersion(), n.GetGeneration()}, text)
		require.Equal(t, "customer", n.GetProjection())
	}
}

func FuzzGenerationsAsWritten(f *testing.F) {
	for _, s := range []string{"", "2", "g2", "v3/g2", "v/g", "v0/g0", "v99999999999/g1", "-1", "g-1", "v1/g2/3", " 2", "\x1b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseGeneration("generation", "customer", text)
		if err != nil || text == "" {
			return
		}
		require.NotZero(t, n.GetGeneration())
		if n.GetVersion() != 0 {
			again, err := parseGeneration("generation", "customer", nameOf(n))
			require.NoError(t, err)
			require.True(t, proto.Equal(n, again))
		}
	})
}

// FuzzProjectionPages shows whatever an answer says: without what moves a
// cursor, and never wider than the terminal.
func FuzzProjectionPages(f *testing.F) {
	add := func(p *opsv1.Projection) {
		raw, err := proto.Marshal(p)
		require.NoError(f, err)
		f.Add(raw, uint8(80), "panic(\n\tx:1\n")
		f.Add(raw, uint8(3), "a.b(0x1)\n\t/x/y/z/a.go:12 +0x1\n")
	}
	add(&opsv1.Projection{})
	add(&opsv1.Projection{
		Name: "cust\x1b[2Jomer", Pause: &opsv1.Pause{Reason: "a\nb\u202e"}, ActiveProcess: "\r",
		Generations: []*opsv1.Generation{
			{Version: 3, Generation: 2, Role: 1, State: 2, Error: "a\tb\n\nc\r", Reason: "山田太郎", Fraction: math.NaN(), EventsPerSecond: math.Inf(1), DeadLetters: 3},
			{Role: 77, State: 78, SwitchWhenReady: true, Diverged: true, Fraction: 0.5},
		},
	})
	f.Fuzz(func(t *testing.T, raw []byte, width uint8, stack string) {
		pr := &opsv1.Projection{}
		if proto.Unmarshal(raw, pr) != nil {
			return
		}
		a := &App{Location: time.UTC, Now: time.Now}
		p := page{loc: time.UTC}
		p.projections([]*opsv1.Projection{pr}, time.Now())
		p.projection(pr, time.Now(), func(words ...string) string { return strings.Join(words, " ") })
		for _, g := range pr.GetGenerations() {
			p.line("%s", p.generationLine(pr, g))
		}
		p.stack(stack, false)
		require.Equal(t, clean(p.b.String()), p.b.String(), "nothing that moves a cursor")
		for _, r := range a.bars([]*opsv1.Projection{pr, pr}, int(width)) {
			var b strings.Builder
			n := r.write(&b, false, max(int(width), 1))
			require.LessOrEqual(t, n, max(int(width), 1))
			require.Equal(t, columns(b.String()), n)
			require.NotContains(t, b.String(), "\n")
			require.Equal(t, clean(b.String()), b.String())
		}
	})
}

// TestBarsFit: whatever the width, no line is cut while there is something that
// could go instead, and a bar takes the room that is left.
func TestBarsFit(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var widths [barColumns]int
		for i := range widths {
			widths[i] = rng.IntN(20)
		}
		widths[barName], widths[barShare], widths[barBar] = 1+rng.IntN(20), 7, minBar
		room := 1 + rng.IntN(200)
		before := widths
		fitBars(&widths, room)
		total, only := -2, true
		for i, w := range widths {
			if w > 0 {
				total += w + 2
				only = only && (i == barName || i == barShare)
			}
			if i != barBar {
				require.True(t, w == 0 || w == before[i])
			}
		}
		require.True(t, total <= room || only, "%v in %d: %v", before, room, widths)
		if w := widths[barBar]; w > 0 {
			require.True(t, w == maxBar || total == room, "%v in %d: %v", before, room, widths)
		}
	}
}

// TestScreenResized: where the terminal became narrower the frame is drawn where
// it stood, broken into more lines than it had.
func TestScreenResized(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	width, height := 100, 24
	s := screen{w: &out, size: func() (int, int) { return width, height }}
	full := textRow(styleNone, strings.Repeat("x", 95))
	require.NoError(t, s.draw([]row{full, full, textRow(styleNone, "")}))
	require.NotContains(t, out.String(), "A")
	width = 40
	out.Reset()
	require.NoError(t, s.draw([]row{full}))
	require.Contains(t, out.String(), "\r\x1b[7A", "three lines each, and an empty one")
	require.Contains(t, out.String(), strings.Repeat("x", 39)+"\x1b[K\n")
	require.NotContains(t, out.String(), strings.Repeat("x", 40))
	out.Reset()
	s.close(true)
	require.Equal(t, "\r\x1b[J\x1b[?25h", out.String())
	out.Reset()
	s.close(true)
	require.Empty(t, out.String(), "once")
}

func TestFrames(t *testing.T) {
	t.Parallel()
	all := frames("goroutine 1 [running]:\nmain.(*T[...]).f({0x1, 0x2}, 0x3?)\n\t/a/b.go:12 +0x1d\nmain.g(...)\n\t/a/c.go:9\npanic({0x1, 0x2})\n\t/go/panic.go:1 +0x1\nmain.h()\n\t/a/d.go:1\n" +
		"created by main.start in goroutine 5\n\t/a/e.go:2 +0x5\n")
	require.Equal(t, []frame{
		{"main.(*T[...]).f", "/a/b.go:12"}, {"main.g", "/a/c.go:9"}, {"panic", "/go/panic.go:1"}, {"main.h", "/a/d.go:1"}, {"main.start", "/a/e.go:2"},
	}, all)
	require.Equal(t, all[3:], mattering(all))
	require.Empty(t, frames("no stack\nat all\n"))
}
