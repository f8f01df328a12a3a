package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/testkit/workload"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/parley/internal/process"
	"github.com/parleyhq/parley/services/recorder"
	"github.com/parleyhq/parley/services/web"
)

// secret of the profile ids in logs that are made here.
const secret = "a secret for measurements, 32 by"

// logs made so far, by their number of calls.
var logs = map[int]string{}

// logOf returns a data directory whose log holds the workload's first calls,
// recorded by the real recorder: ten calls for each customer. It is made once
// for a size and must not be changed.
func logOf(b *testing.B, calls int) string {
	b.Helper()
	if dir, ok := logs[calls]; ok {
		return dir
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("parley-bench-%d-", calls))
	require.NoError(b, err)
	cleanups = append(cleanups, func() { _ = os.RemoveAll(dir) })
	// A process makes it a data directory; what follows is as if it had served.
	require.NoError(b, startOver(b, dir).Stop(b.Context()))
	begun := time.Now()

	log, err := embedded.Open(filepath.Join(dir, "log"), embedded.Options{})
	require.NoError(b, err)
	resolver, err := identity.NewResolver(identity.DefaultRules(), []byte(secret))
	require.NoError(b, err)
	rec, err := recorder.New(recorder.Deps{
		Log:      log,
		Bus:      &feed{tb: b, calls: calls},
		Codec:    event.NewCodec(),
		Resolver: resolver,
		IndexDir: filepath.Join(dir, "recorder"),
		Logger:   slog.New(slog.DiscardHandler),
	})
	require.NoError(b, err)
	require.NoError(b, rec.Run(b.Context()))
	head, err := log.Head(b.Context())
	require.NoError(b, err)
	require.NoError(b, log.Close())
	b.Logf("made a log of %d events from %d calls in %s", head, calls, time.Since(begun).Round(time.Millisecond))
	logs[calls] = dir
	return dir
}

// startOver starts a process over a data directory of logOf's.
func startOver(b *testing.B, dir string, flags ...string) *process.Process {
	b.Helper()
	return process.Start(b, dir, append([]string{"--profile-secret", secret}, flags...)...)
}

// feed stands in for NATS between the gateway's mapping and the recorder: it
// hands over the workload as fast as it is taken.
type feed struct {
	tb    testing.TB
	calls int
}

func (f *feed) Consume(ctx context.Context, _ bus.ConsumeOptions, handler bus.Handler) error {
	mapper, err := web.NewMapper(web.MapperConfig{})
	if err != nil {
		return err
	}
	gen := workload.New(workload.Options{Customers: max(1, f.calls/10), Concurrent: 1000})
	var sequence uint64
	for gen.Calls() < f.calls {
		messages := make([]bus.Message, 0, 32)
		for len(messages) < cap(messages) && gen.Calls() < f.calls {
			sequence++
			messages = append(messages, bus.Message{
				Subject: "ingress.default.web", Tenant: "default", Channel: "web",
				Header: ingressHeader(f.tb), Data: ingressBatch(f.tb, mapper, gen, 20), Sequence: sequence, Published: time.Now(),
			})
		}
		if err := handler(ctx, messages); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) Reply(string, *interactionv1.IngressReply) error { return nil }
func (f *feed) Healthy() error                                  { return nil }

// ingressBatch maps the next calls as the gateway does.
func ingressBatch(tb testing.TB, mapper *web.Mapper, gen *workload.Generator, calls int) []byte {
	tb.Helper()
	batch := &interactionv1.IngressBatch{}
	received := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	var line []byte
	for range calls {
		line, _ = gen.AppendCall(line[:0])
		events, violations := mapper.ParseLine(line, web.Key{Tenant: "default", Source: "dev"}, received)
		require.Empty(tb, violations)
		batch.Events = append(batch.Events, events...)
	}
	data, err := proto.Marshal(batch)
	require.NoError(tb, err)
	return data
}

func ingressHeader(tb testing.TB) map[string][]string {
	tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(tb, err)
	return map[string][]string{
		"ce-specversion": {"1.0"}, "ce-type": {event.TypeIngressBatch}, "ce-source": {"bench"},
		"ce-id": {id.String()}, "content-type": {"application/protobuf"},
	}
}
