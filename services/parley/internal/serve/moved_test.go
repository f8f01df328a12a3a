package serve_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

func openLog(t *testing.T, dir string) *serve.DataLog {
	t.Helper()
	log, err := serve.OpenDataLog(dir, serve.DataLogOptions{Create: true, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	require.NoError(t, err)
	return log
}

// TestMoved serves a log from another data directory: what was given out before
// stays valid, and nothing is recorded twice.
func TestMoved(t *testing.T) {
	t.Parallel()
	s := embeddedSettings(t)
	r, stop := run(t, s)
	conn := dial(t, r.Addresses.GRPC)
	var recorded *interactionv1.RecordResponse
	for _, id := range []string{"a", "b", "c"} {
		var err error
		recorded, err = interactionv1.NewInteractionServiceClient(conn).Record(t.Context(), pageView(id))
		require.NoError(t, err)
	}
	start := &feedv1.SubscribeRequest{From: &feedv1.SubscribeRequest_Start{}}
	before := firstItems(t, feedv1.NewEventServiceClient(conn), start, 3)
	require.NoError(t, stop())

	from := openLog(t, s.Storage.DataDir)
	s.Storage.DataDir = filepath.Join(t.TempDir(), "moved")
	to := openLog(t, s.Storage.DataDir)
	require.NoError(t, to.AdoptSecrets(from))
	_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
	require.NoError(t, err)
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())

	r, stop = run(t, s)
	conn = dial(t, r.Addresses.GRPC)
	feed := feedv1.NewEventServiceClient(conn)
	token := recorded.GetConsistencyToken()
	got, err := feed.Get(t.Context(), &feedv1.GetRequest{EventId: recorded.GetResult().GetEventId(), ConsistencyToken: token})
	require.NoError(t, err)
	require.Equal(t, recorded.GetResult().GetEventId(), got.GetEvent().GetEvent().GetId())
	customer, err := customerv1.NewCustomerServiceClient(conn).LookupCustomer(t.Context(), &customerv1.LookupCustomerRequest{
		Kind: "user_id", Value: "u1", ConsistencyToken: token,
	})
	require.NoError(t, err)
	require.Len(t, customer.GetMatches(), 1)
	require.Len(t, customer.GetMatches()[0].GetCustomer().GetRecentInteractions(), 3)
	resumed := firstItems(t, feed, &feedv1.SubscribeRequest{From: &feedv1.SubscribeRequest_ResumeToken{ResumeToken: before[0].GetResumeToken()}}, 2)
	for i := range resumed {
		require.Equal(t, before[i+1].GetEvent().GetEvent().GetId(), resumed[i].GetEvent().GetEvent().GetId())
	}
	again, err := interactionv1.NewInteractionServiceClient(conn).Record(t.Context(), pageView("c"))
	require.NoError(t, err)
	require.Equal(t, interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE, again.GetResult().GetOutcome())
	require.Equal(t, recorded.GetResult().GetStream(), again.GetResult().GetStream())
	require.NoError(t, stop())
}

// firstItems are the first so many events of a subscription.
func firstItems(t *testing.T, client feedv1.EventServiceClient, req *feedv1.SubscribeRequest, count int) []*feedv1.SubscribeResponse {
	t.Helper()
	stream, err := client.Subscribe(t.Context(), req)
	require.NoError(t, err)
	var items []*feedv1.SubscribeResponse
	for len(items) < count {
		item, err := stream.Recv()
		require.NoError(t, err)
		if item.GetEvent() != nil {
			items = append(items, item)
		}
	}
	return items
}

// TestACopyThatWasNotFinished is not served.
func TestACopyThatWasNotFinished(t *testing.T) {
	t.Parallel()
	s := embeddedSettings(t)
	log := openLog(t, s.Storage.DataDir)
	w, err := posmap.OpenWriter(t.Context(), log, uuid.New())
	require.NoError(t, err)
	require.NoError(t, w.Open(t.Context()))
	require.NoError(t, log.Close())
	require.ErrorContains(t, fails(t, s), "`parley log copy`, once more with the same --from and --to, finishes it")

	log = openLog(t, s.Storage.DataDir)
	w, err = posmap.OpenWriter(t.Context(), log, w.Origin().Source)
	require.NoError(t, err)
	require.NoError(t, w.Complete(t.Context()))
	require.NoError(t, log.Close())
	_, stop := run(t, s)
	require.NoError(t, stop())
}
