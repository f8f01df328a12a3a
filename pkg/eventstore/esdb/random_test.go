package esdb_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
)

// The same random operations on the embedded store, and on one behind the wire,
// have the same outcomes and leave the same log.
func TestRandomOperationsAgreeWithTheEmbeddedStore(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	remote, _ := served(t)
	want, got := random(t, seed, memory(t)), random(t, seed, remote)
	require.Equal(t, want.outcomes, got.outcomes)
	require.Equal(t, want.digest(t), got.digest(t))
}

// run is one store under random operations.
type run struct {
	store    eventstore.Store
	random   *rand.Rand
	outcomes []string
	heads    map[string]eventstore.Revision
	// done are the appends that were made, to be made again.
	done []eventstore.StreamAppend
}

func random(t *testing.T, seed uint64, store eventstore.Store) *run {
	t.Helper()
	const operations = 600
	r := &run{store: store, random: rand.New(rand.NewPCG(seed, 7)), heads: map[string]eventstore.Revision{}}
	ctx := deadline(t)
	for range operations {
		r.outcomes = append(r.outcomes, r.operate(ctx))
	}
	return r
}

func (r *run) stream() string {
	return fmt.Sprintf("%s.s-%d", []string{"acme", "acme2", "z"}[r.random.IntN(3)], r.random.IntN(4))
}

func (r *run) filter() eventstore.Filter {
	var f eventstore.Filter
	for _, prefix := range []string{"acme", "acme.", "z.s-1", "none"} {
		if r.random.IntN(4) == 0 {
			f.StreamPrefixes = append(f.StreamPrefixes, prefix)
		}
	}
	for _, kind := range []string{"a", "b", "bb"} {
		if r.random.IntN(4) == 0 {
			f.Types = append(f.Types, kind)
		}
	}
	return f
}

func (r *run) newRecords() []eventstore.NewRecord {
	out := make([]eventstore.NewRecord, 1+r.random.IntN(4))
	for i := range out {
		var id uuid.UUID
		for at := range id {
			id[at] = byte(r.random.Uint32())
		}
		out[i] = eventstore.NewRecord{
			ID: id, Type: []string{"a", "b", "bb"}[r.random.IntN(3)],
			ContentType: eventstore.ContentType(r.random.IntN(2)), Data: fmt.Appendf(nil, "%d", r.random.IntN(1000)),
		}
		if r.random.IntN(2) == 0 {
			out[i].Metadata = []byte(`{"$correlationId":"c"}`)
		}
	}
	return out
}

func (r *run) operate(ctx context.Context) string {
	switch r.random.IntN(10) {
	case 0, 1, 2, 3:
		stream := r.stream()
		a := eventstore.StreamAppend{Stream: stream, Expected: eventstore.Revision(r.random.IntN(12) - 2), Records: r.newRecords()}
		if head, ok := r.heads[stream]; r.random.IntN(4) > 0 {
			a.Expected = eventstore.NoStream
			if ok {
				a.Expected = head
			}
		}
		return r.append(ctx, a)
	case 4:
		if len(r.done) == 0 {
			return "nothing to repeat"
		}
		again := r.done[r.random.IntN(len(r.done))]
		switch r.random.IntN(3) {
		case 0:
			again.Records = again.Records[:1+r.random.IntN(len(again.Records))]
		case 1:
			again.Records = append(append([]eventstore.NewRecord{}, again.Records...), r.newRecords()...)
		}
		return r.append(ctx, again)
	case 5:
		head, err := r.store.StreamHead(ctx, r.stream())
		return fmt.Sprint("stream head ", head, err)
	case 6, 7:
		opts := eventstore.ReadStreamOptions{From: eventstore.Revision(r.random.IntN(20)), Limit: r.random.IntN(5), Direction: eventstore.Direction(r.random.IntN(2))}
		if r.random.IntN(3) == 0 {
			opts.From = eventstore.End
		}
		return "read stream " + read(r.store.ReadStream(ctx, r.stream(), opts))
	default:
		opts := eventstore.ReadAllOptions{Limit: r.random.IntN(20), Direction: eventstore.Direction(r.random.IntN(2)), Filter: r.filter()}
		return "read all " + read(r.store.ReadAll(ctx, opts))
	}
}

func (r *run) append(ctx context.Context, a eventstore.StreamAppend) string {
	appended, err := r.store.Append(ctx, a.Stream, a.Expected, a.Records...)
	var conflict *eventstore.RevisionConflictError
	switch {
	case errors.As(err, &conflict):
		return conflict.Error()
	case err != nil:
		return err.Error()
	}
	if !appended.Repeated {
		r.heads[a.Stream] = appended.Revision
		if a.Expected != eventstore.Any {
			r.done = append(r.done, a)
		}
	}
	return fmt.Sprint("appended ", appended.Revision, appended.Repeated)
}

// read says what comes of a read. Positions are each store's own.
func read(seq func(func(*eventstore.Record, error) bool)) string {
	sum := sha256.New()
	count := 0
	for rec, err := range seq {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return "not found"
		}
		if err != nil {
			return err.Error()
		}
		count++
		write(sum, rec)
	}
	return fmt.Sprint(count, " ", hex.EncodeToString(sum.Sum(nil)))
}

func write(sum hash.Hash, r *eventstore.Record) {
	_, _ = fmt.Fprintf(sum, "%s %d %s %s %d %q %q\n", r.Stream, r.Revision, r.ID, r.Type, r.ContentType, r.Data, r.Metadata)
}

// digest is over the whole log, as a subscription and as reads show it.
func (r *run) digest(t *testing.T) string {
	t.Helper()
	forwards := read(r.store.ReadAll(deadline(t), eventstore.ReadAllOptions{}))
	sub, err := r.store.Subscribe(deadline(t), eventstore.SubscribeOptions{MaxBatch: 7})
	require.NoError(t, err)
	defer func() { require.NoError(t, sub.Close()) }()
	sum := sha256.New()
	count := 0
	for caughtUp := false; !caughtUp; {
		batch, err := sub.Next(deadline(t))
		require.NoError(t, err)
		for _, rec := range batch.Records {
			count++
			write(sum, rec)
		}
		caughtUp = batch.CaughtUp
	}
	require.Equal(t, forwards, fmt.Sprint(count, " ", hex.EncodeToString(sum.Sum(nil))))
	return forwards
}
