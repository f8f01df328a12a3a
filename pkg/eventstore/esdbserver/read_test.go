package esdbserver_test

import (
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
)

func TestReadStreamBothWays(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("a", 5)
	for name, tc := range map[string]struct {
		from  esdb.StreamPosition
		back  bool
		count uint64
		want  []string
	}{
		"all":                    {esdb.Start{}, false, 100, []string{"0 a a-0", "1 a a-1", "2 a a-2", "3 a a-3", "4 a a-4"}},
		"count":                  {esdb.Start{}, false, 2, []string{"0 a a-0", "1 a a-1"}},
		"count of nothing":       {esdb.Start{}, false, 0, []string{}},
		"from a revision":        {esdb.Revision(3), false, 100, []string{"3 a a-3", "4 a a-4"}},
		"beyond the end":         {esdb.Revision(9), false, 100, []string{}},
		"from the end":           {esdb.End{}, false, 100, []string{}},
		"backwards":              {esdb.End{}, true, 2, []string{"4 a a-4", "3 a a-3"}},
		"backwards, a revision":  {esdb.Revision(1), true, 9, []string{"1 a a-1", "0 a a-0"}},
		"backwards, beyond":      {esdb.Revision(77), true, 1, []string{"4 a a-4"}},
		"backwards, the start":   {esdb.Start{}, true, 5, []string{"0 a a-0"}},
		"the largest count":      {esdb.Revision(4), false, 1<<64 - 1, []string{"4 a a-4"}},
		"the largest revision":   {esdb.Revision(1<<64 - 1), true, 1, []string{"4 a a-4"}},
		"the largest, forwards":  {esdb.Revision(1<<63 - 1), false, 1, []string{}},
		"backwards, no count":    {esdb.End{}, true, 0, []string{}},
		"backwards, all of them": {esdb.End{}, true, 1<<64 - 1, []string{"4 a a-4", "3 a a-3", "2 a a-2", "1 a a-1", "0 a a-0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := esdb.ReadStreamOptions{From: tc.from}
			if tc.back {
				opts.Direction = esdb.Backwards
			}
			require.Equal(t, tc.want, f.texts(f.client.ReadStream(t.Context(), "a", opts, tc.count)))
		})
	}
}
