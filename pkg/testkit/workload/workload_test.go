package workload_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/testkit/workload"
)

func TestTheSameSeedGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	first, second := workload.New(workload.Options{Seed: 7}), workload.New(workload.Options{Seed: 7})
	require.Equal(t, string(first.AppendBatch(nil, 500)), string(second.AppendBatch(nil, 500)))
	require.NotEqual(t, string(workload.New(workload.Options{Seed: 8}).AppendBatch(nil, 500)), string(workload.New(workload.Options{Seed: 7}).AppendBatch(nil, 500)))
}

func TestShape(t *testing.T) {
	t.Parallel()
	const customers, calls = 50, 50 * workload.CallsPerSession * 2
	g := workload.New(workload.Options{Customers: customers, Concurrent: 8})
	ids := map[string]bool{}
	kinds := map[string]int{}
	people := map[int]int{}
	size := 0
	for range calls {
		line, who := g.AppendCall(nil)
		var call struct {
			Type, MessageID, AnonymousID, UserID string
			Traits                               map[string]any
		}
		require.NoError(t, json.Unmarshal(line, &call), "%s", line)
		require.False(t, ids[call.MessageID], "message id %s twice", call.MessageID)
		ids[call.MessageID] = true
		require.Equal(t, g.AnonymousID(who), call.AnonymousID)
		if call.UserID != "" {
			require.Equal(t, g.UserID(who), call.UserID)
		}
		if call.Type == "identify" {
			require.Equal(t, g.Email(who), call.Traits["email"])
		}
		kinds[call.Type]++
		people[who]++
		size += len(line)
	}
	require.Equal(t, calls, g.Calls())
	require.Len(t, people, customers)
	require.Positive(t, kinds["identify"])
	require.Positive(t, kinds["page"])
	require.InDelta(t, 300, size/calls, 60, "bytes a call")
}
