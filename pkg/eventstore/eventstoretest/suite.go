// Package eventstoretest holds every driver of eventstore to its contract.
//
// A driver's test calls Run with a factory. Nothing is assumed of a store but
// the contract: the log need not be empty, others may append beside the test,
// and positions may have gaps. What only some drivers can do is tested where
// Capabilities says that they can; where it says no, the refusal is.
package eventstoretest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Factory opens a store for one test, and closes it with t.Cleanup. Closing it
// before, as some tests do, must be harmless.
type Factory func(t *testing.T) eventstore.Store

// Run runs the whole suite.
func Run(t *testing.T, factory Factory) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests map[string]func(*harness)
	}{
		{"Append", appendTests},
		{"Idempotency", idempotencyTests},
		{"AppendBatch", batchTests},
		{"ReadStream", readStreamTests},
		{"ReadAll", readAllTests},
		{"Subscribe", subscribeTests},
		{"Concurrency", concurrencyTests},
		{"Close", closeTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(newHarness(t, factory(t)))
				})
			}
		})
	}
}

// patience is how long anything may take that is waited for.
const patience = 30 * time.Second

// harness is one test's view of a store: its own part of the log, streams with
// a prefix that no other test has.
type harness struct {
	*testing.T
	store  eventstore.Store
	prefix string
	base   eventstore.Position // the head before the test
}

func newHarness(t *testing.T, store eventstore.Store) *harness {
	t.Helper()
	h := &harness{T: t, store: store, prefix: "t" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16] + "."}
	h.base = h.head()
	return h
}

func (h *harness) stream(name string) string { return h.prefix + name }

func (h *harness) mine() eventstore.Filter {
	return eventstore.Filter{StreamPrefixes: []string{h.prefix}}
}

func (h *harness) head() eventstore.Position {
	h.Helper()
	head, err := h.store.Head(h.Context())
	require.NoError(h, err)
	return head
}

func (h *harness) streamHead(name string) eventstore.Revision {
	h.Helper()
	head, err := h.store.StreamHead(h.Context(), h.stream(name))
	require.NoError(h, err)
	return head
}

func (h *harness) append(name string, expected eventstore.Revision, records ...eventstore.NewRecord) eventstore.Appended {
	h.Helper()
	appended, err := h.store.Append(h.Context(), h.stream(name), expected, records...)
	require.NoError(h, err)
	return appended
}

// fill appends count records to a stream, some at a time.
func (h *harness) fill(name string, count int) []eventstore.NewRecord {
	h.Helper()
	all := records(name, count)
	expected := eventstore.NoStream
	for at, step := 0, 1; at < count; step = step%7 + 1 {
		n := min(step, count-at)
		expected = h.append(name, expected, all[at:at+n]...).Revision
		at += n
	}
	return all
}

func (h *harness) conflict(err error, name string, expected, actual eventstore.Revision) {
	h.Helper()
	var conflict *eventstore.RevisionConflictError
	require.ErrorAs(h, err, &conflict)
	require.Equal(h, eventstore.RevisionConflictError{Stream: h.stream(name), Expected: expected, Actual: actual}, *conflict)
}

func (h *harness) readStream(name string, opts eventstore.ReadStreamOptions) []*eventstore.Record {
	h.Helper()
	found, err := collect(h.store.ReadStream(h.Context(), h.stream(name), opts))
	require.NoError(h, err)
	return found
}

// readMine reads the test's part of the log.
func (h *harness) readMine() []*eventstore.Record {
	h.Helper()
	found, err := collect(h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{From: h.base, Filter: h.mine()}))
	require.NoError(h, err)
	return found
}

func (h *harness) subscribe(opts eventstore.SubscribeOptions) *subscriber {
	h.Helper()
	sub, err := h.store.Subscribe(h.Context(), opts)
	require.NoError(h, err)
	h.Cleanup(func() { require.NoError(h, sub.Close()) })
	return &subscriber{harness: h, sub: sub}
}

// deadline is a context that ends with the test's patience.
func (h *harness) deadline() context.Context {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	h.Cleanup(cancel)
	return ctx
}

// subscriber checks what every batch must keep.
type subscriber struct {
	*harness
	sub  eventstore.Subscription
	at   eventstore.Position
	most int
}

func (s *subscriber) next() eventstore.Batch {
	s.Helper()
	batch, err := s.sub.Next(s.deadline())
	require.NoError(s, err)
	require.GreaterOrEqual(s, batch.Position, s.at, "the position went back")
	for _, r := range batch.Records {
		require.Greater(s, r.Position, s.at, "a record at or below what was looked at")
		s.at = r.Position
	}
	require.GreaterOrEqual(s, batch.Position, s.at, "the position is below its own records")
	s.at = batch.Position
	if s.most > 0 {
		require.LessOrEqual(s, len(batch.Records), s.most)
	}
	return batch
}

// records waits for count records.
func (s *subscriber) records(count int) []*eventstore.Record {
	s.Helper()
	var found []*eventstore.Record
	for len(found) < count {
		found = append(found, s.next().Records...)
	}
	require.Len(s, found, count)
	return found
}

func (s *subscriber) untilCaughtUp() []*eventstore.Record {
	s.Helper()
	var found []*eventstore.Record
	for {
		batch := s.next()
		found = append(found, batch.Records...)
		if batch.CaughtUp {
			return found
		}
	}
}

func record(text string) eventstore.NewRecord {
	return eventstore.NewRecord{
		ID:          uuid.New(),
		Type:        "tested",
		ContentType: eventstore.ContentProtobuf,
		Data:        []byte("data of " + text),
		Metadata:    []byte(`{"of":"` + text + `"}`),
	}
}

func records(text string, count int) []eventstore.NewRecord {
	all := make([]eventstore.NewRecord, count)
	for i := range all {
		all[i] = record(fmt.Sprintf("%s-%d", text, i))
	}
	return all
}

func collect(seq func(func(*eventstore.Record, error) bool)) ([]*eventstore.Record, error) {
	var found []*eventstore.Record
	for r, err := range seq {
		if err != nil {
			return found, err
		}
		found = append(found, r)
	}
	return found, nil
}

// ids is what most comparisons are about.
func ids[R any](all []R, id func(R) uuid.UUID) []uuid.UUID {
	out := make([]uuid.UUID, 0, len(all))
	for _, r := range all {
		out = append(out, id(r))
	}
	return out
}

func newIDs(all []eventstore.NewRecord) []uuid.UUID {
	return ids(all, func(r eventstore.NewRecord) uuid.UUID { return r.ID })
}

func readIDs(all []*eventstore.Record) []uuid.UUID {
	return ids(all, func(r *eventstore.Record) uuid.UUID { return r.ID })
}
