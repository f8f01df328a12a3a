package cli

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

func TestURLsAreShownWithoutUsers(t *testing.T) {
	t.Parallel()
	for where, want := range map[string]string{
		"./parley-data":                              "./parley-data",
		"esdb://es1:2113":                            "esdb://es1:2113",
		"esdb://u:p@es1:2113,es2:2113?tls=true":      "esdb://es1:2113,es2:2113?tls=true",
		"esdb://u:p@@es1/?tlsCaFile=a@b":             "esdb://es1/?tlsCaFile=a@b",
		"esdb+discover://admin:changeit@cluster:113": "esdb+discover://cluster:113",
	} {
		require.Equal(t, want, withoutUser(where))
	}
}

func TestProgressOfACopy(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 3, 13, 9, 0, 0, 0, time.UTC)
	now := began.Add(10 * time.Second)
	l := &logEnds{app: &App{Now: func() time.Time { return now }}, began: began, first: 1000}
	for want, p := range map[string]logcopy.Progress{
		"copying: 25.0 %, 21,000 records, 2,000/s, 31s left": {Position: 500_000, Head: 2_000_000, Records: 21_000},
		"copying: 100.0 %, 84,000 records, 8,300/s":          {Position: 2_000_000, Head: 2_000_000, Records: 84_000},
		"copying: 0.0 %, 1,000 records":                      {Position: 3, Head: 2_000_000, Records: 1000},
		"copying: 0.0 %, 1,001 records, 0.1/s":               {Head: 2_000_000, Records: 1001},
		"copying: caught up, 1 record; ctrl-c ends it":       {Position: 9, Head: 9, Records: 1, CaughtUp: true},
	} {
		require.Equal(t, want, l.progressText("copying", p))
		for width := range 100 {
			taken := 0
			for _, sp := range l.progressRow("copying", p, width) {
				taken += columns(sp.text)
			}
			require.LessOrEqual(t, taken, max(width, columns(want)))
		}
	}
	require.LessOrEqual(t, timeLeft(logcopy.Progress{Position: 1, Head: 1 << 62, Records: 1 << 60}, 1e-9), 300_000*time.Hour)
}

func TestHintsOfACopy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("copy: %w", logcopy.ErrUnfinished), "goes on where it was"},
		{fmt.Errorf("copy: %w", eventstore.ErrUnavailable), "goes on where it was"},
		{fmt.Errorf("copy: %w", posmap.ErrTwoWriters), "Wait for that one"},
		{fmt.Errorf("copy: %w", eventstore.ErrFull), "Make room there"},
		{fmt.Errorf("copy: %w", logcopy.ErrSameLog), "two different logs"},
	} {
		require.Contains(t, explain(copyHint(tc.err)), tc.want)
	}
	other := errors.New("other")
	require.Equal(t, other, copyHint(other))
}
