package logcopy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/logid"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second

func read(t *testing.T, store eventstore.Store) []*eventstore.Record {
	t.Helper()
	var all []*eventstore.Record
	for rec, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		all = append(all, rec)
	}
	return all
}

// isCopy looks at every record, every position and both digests.
func isCopy(t *testing.T, from, to eventstore.Store) {
	t.Helper()
	want := read(t, from)
	var got []*eventstore.Record
	for _, rec := range read(t, to) {
		if rec.Stream != posmap.StreamOf(to.LogID()) {
			got = append(got, rec)
		}
	}
	require.Len(t, got, len(want))
	m, err := posmap.Load(t.Context(), to)
	require.NoError(t, err)
	require.True(t, m.Origins()[0].Complete)
	old, position := eventstore.Position(0), eventstore.Position(0)
	resolves := func(old eventstore.Position) {
		found, err := m.Resolve(t.Context(), from.LogID(), old)
		require.NoError(t, err)
		require.Equal(t, position, found, "position %d", old)
	}
	for i := range want {
		copied := *got[i]
		copied.Position, copied.Recorded = want[i].Position, want[i].Recorded
		require.True(t, bytes.Equal(want[i].Data, copied.Data), "record %d", i)
		copied.Data = want[i].Data // comparing much of it once more takes its time
		require.Equal(t, *want[i], copied)
		resolves(want[i].Position - 1)
		old, position = want[i].Position, got[i].Position
		resolves(old)
	}
	resolves(old + 5)
	verified, err := logcopy.Verify(t.Context(), from, to, nil)
	require.NoError(t, err)
	require.Nil(t, verified.Difference)
	require.Equal(t, verified.Source, verified.Target)
	require.EqualValues(t, len(want), verified.Records)
}

// TestCopies goes from each kind of store to each.
func TestCopies(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(*testing.T) eventstore.Store{"dense": open, "sparse": openSparse}
	for fromName, openFrom := range kinds {
		for toName, openTo := range kinds {
			t.Run(fromName+" to "+toName, func(t *testing.T) {
				t.Parallel()
				from, to := openFrom(t), openTo(t)
				w := newWriter(testseed.Rand(t), from)
				w.write(t, 1500)
				var told []logcopy.Progress
				opts := logcopy.Options{MapRecords: 100, BatchRecords: 300, Progress: func(p logcopy.Progress) { told = append(told, p) }}
				result, err := logcopy.Copy(t.Context(), from, to, opts)
				require.NoError(t, err)
				isCopy(t, from, to)
				count := uint64(len(read(t, from)))
				require.Equal(t, count, result.Copied)
				require.Zero(t, result.Found)
				require.Equal(t, count, result.Origin.Records)
				require.True(t, result.Origin.Complete)
				require.NotEmpty(t, told)
				head, err := from.Head(t.Context())
				require.NoError(t, err)
				last := told[len(told)-1]
				require.Equal(t, logcopy.Progress{Position: head, Head: head, Records: count}, last)

				before := read(t, to)
				again, err := logcopy.Copy(t.Context(), from, to, opts)
				require.NoError(t, err)
				require.Zero(t, again.Copied)
				require.Equal(t, count, again.Found)
				require.Equal(t, before, read(t, to), "nothing was written")

				w.write(t, 200)
				more, err := logcopy.Copy(t.Context(), from, to, opts)
				require.NoError(t, err)
				require.Equal(t, count, more.Found)
				isCopy(t, from, to)
			})
		}
	}
}

// TestIDs has logs that keep their id among their records.
func TestIDs(t *testing.T) {
	t.Parallel()
	from, to := open(t), openSparse(t)
	for _, store := range []eventstore.Store{from, to} {
		_, err := store.Append(t.Context(), logid.Stream, eventstore.NoStream, eventstore.NewRecord{ID: uuid.New(), Type: "log"})
		require.NoError(t, err)
	}
	newWriter(testseed.Rand(t), from).write(t, 30)
	for range 2 {
		_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
		require.NoError(t, err)
		v, err := logcopy.Verify(t.Context(), from, to, nil)
		require.NoError(t, err)
		require.Nil(t, v.Difference)
		require.False(t, v.More)
	}
}

func TestNothingToCopy(t *testing.T) {
	t.Parallel()
	from, to := open(t), openSparse(t)
	result, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
	require.NoError(t, err)
	require.Zero(t, result.Copied)
	require.True(t, result.Origin.Complete)
	isCopy(t, from, to)
}

// TestChain moves a log twice, back and forth between kinds of stores.
func TestChain(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	a, b, c := open(t), openSparse(t), open(t)
	newWriter(rnd, a).write(t, 400)
	_, err := logcopy.Copy(t.Context(), a, b, logcopy.Options{MapRecords: 50})
	require.NoError(t, err)
	newWriter(rnd, b).write(t, 300) // it is in use from here on
	_, err = logcopy.Copy(t.Context(), b, c, logcopy.Options{MapRecords: 70})
	require.NoError(t, err)
	isCopy(t, b, c)
	first, err := posmap.Load(t.Context(), b)
	require.NoError(t, err)
	both, err := posmap.Load(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, both.Origins(), 2)
	where := map[uuid.UUID]eventstore.Position{}
	for _, rec := range read(t, c) {
		where[rec.ID] = rec.Position
	}
	for _, rec := range read(t, a) {
		middle, err := first.Resolve(t.Context(), a.LogID(), rec.Position)
		require.NoError(t, err)
		want, err := both.Resolve(t.Context(), b.LogID(), middle)
		require.NoError(t, err)
		got, err := both.Resolve(t.Context(), a.LogID(), rec.Position)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.GreaterOrEqual(t, where[rec.ID], got) // an id may come again
	}

	_, err = logcopy.Copy(t.Context(), c, a, logcopy.Options{})
	var foreign *logcopy.ForeignError
	require.ErrorAs(t, err, &foreign, "a log does not go back into one that is there")
}

// TestKilled ends copies at random appends, before and after they took place,
// until one comes to the end.
func TestKilled(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	for name, openTo := range map[string]func(*testing.T) eventstore.Store{"dense": open, "sparse": openSparse} {
		from, to := open(t), openTo(t)
		newWriter(rnd, from).write(t, 1200)
		opts := logcopy.Options{MapRecords: 40, BatchRecords: 25}
		kills := 0
		for {
			killed := &faulty{Store: to, left: rnd.IntN(60), applied: rnd.IntN(2) == 0, final: true, err: errKilled}
			_, err := logcopy.Copy(t.Context(), from, killed, opts)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errKilled)
			kills++
			require.Less(t, kills, 5000, "it does not come along")
		}
		require.Positive(t, kills, name)
		isCopy(t, from, to)
	}
}

// TestInterrupted ends copies by their context.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	from, to := open(t), openSparse(t)
	newWriter(rnd, from).write(t, 2500)
	for interrupted := 0; ; interrupted++ {
		ctx, cancel := context.WithCancel(t.Context())
		after := 1 + rnd.IntN(300) // appends
		result, err := logcopy.Copy(ctx, from, to, logcopy.Options{MapRecords: 100, Progress: func(logcopy.Progress) {
			if after--; after == 0 {
				cancel()
			}
		}})
		cancel()
		if err == nil {
			require.Positive(t, interrupted)
			break
		}
		require.ErrorIs(t, err, logcopy.ErrUnfinished)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, result.Origin.Complete)
		require.Equal(t, result.Found+result.Copied, result.Origin.Records, "what was copied is mapped")
		require.Less(t, interrupted, 5000, "it does not come along")
	}
	isCopy(t, from, to)
}

// TestUnavailable has a target that goes away and comes back; what became of the
// append in between is not known.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	for _, applied := range []bool{true, false} {
		from, to := open(t), open(t)
		newWriter(rnd, from).write(t, 600)
		away := &faulty{Store: to, left: 3, applied: applied, err: eventstore.ErrUnavailable}
		opts := logcopy.Options{MapRecords: 50, BatchRecords: 30}
		_, err := logcopy.Copy(t.Context(), from, away, opts)
		require.ErrorIs(t, err, eventstore.ErrUnavailable, "without patience")
		away.left = 4
		waited := 0
		opts.Patience = patience
		opts.Retrying = func(err error, wait time.Duration) {
			require.ErrorIs(t, err, eventstore.ErrUnavailable)
			require.Positive(t, wait)
			waited++
		}
		_, err = logcopy.Copy(t.Context(), from, away, opts)
		require.NoError(t, err)
		require.Equal(t, 1, waited)
		isCopy(t, from, to)
	}
}

// TestFollow copies while the source is written to, and what it has at the end.
func TestFollow(t *testing.T) {
	t.Parallel()
	from, to := open(t), openSparse(t)
	w := newWriter(testseed.Rand(t), from)
	w.write(t, 300)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	caughtUp := make(chan struct{}, 1)
	type outcome struct {
		result logcopy.Result
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		result, err := logcopy.Copy(ctx, from, to, logcopy.Options{Follow: true, MapRecords: 50, Progress: func(p logcopy.Progress) {
			if p.CaughtUp {
				select {
				case caughtUp <- struct{}{}:
				default:
				}
			}
		}})
		ended <- outcome{result, err}
	}()
	for range 5 {
		select {
		case <-caughtUp:
		case o := <-ended:
			require.Fail(t, "ended", "%v", o.err)
		case <-time.After(patience):
			require.Fail(t, "has not caught up")
		}
		w.write(t, 40)
	}
	cancel()
	select {
	case o := <-ended:
		require.NoError(t, o.err)
		require.True(t, o.result.Origin.Complete)
	case <-time.After(patience):
		require.Fail(t, "does not end")
	}
	isCopy(t, from, to)
}

// TestAsOfTheStart does not run after a source that is being written to.
func TestAsOfTheStart(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	w := newWriter(testseed.Rand(t), from)
	w.write(t, 500)
	head, err := from.Head(t.Context())
	require.NoError(t, err)
	writing := true
	result, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{BatchRecords: 100, Progress: func(logcopy.Progress) {
		if writing {
			w.write(t, 50)
		}
		writing = false
	}})
	require.NoError(t, err)
	require.False(t, writing)
	require.Equal(t, head, result.Origin.Old)
	require.EqualValues(t, head, result.Copied)
	_, err = logcopy.Copy(t.Context(), from, to, logcopy.Options{})
	require.NoError(t, err)
	isCopy(t, from, to)
}

func TestForeignTargets(t *testing.T) {
	t.Parallel()
	copied := func(t *testing.T, from, to eventstore.Store) {
		_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
		require.NoError(t, err)
	}
	for name, tc := range map[string]struct {
		// prepare fills the target, and gives what is to be copied.
		prepare func(t *testing.T, from, to eventstore.Store) eventstore.Store
		want    string
	}{
		"not empty": {func(t *testing.T, from, to eventstore.Store) eventstore.Store {
			newWriter(testseed.Rand(t), to).write(t, 1)
			return from
		}, "it is not empty"},
		"of another source": {func(t *testing.T, from, to eventstore.Store) eventstore.Store {
			copied(t, open(t), to)
			return from
		}, "is a copy of log"},
		"in use": {func(t *testing.T, from, to eventstore.Store) eventstore.Store {
			copied(t, from, to)
			newWriter(testseed.Rand(t), to).write(t, 1)
			return from
		}, "in use already"},
		"in use, and so is the source": {func(t *testing.T, from, to eventstore.Store) eventstore.Store {
			copied(t, from, to)
			rnd := testseed.Rand(t)
			newWriter(rnd, to).write(t, 1)
			newWriter(rnd, from).write(t, 1)
			return from
		}, "is not what the source has at position"},
		"ahead of the source": {func(t *testing.T, from, to eventstore.Store) eventstore.Store {
			copied(t, from, to)
			return restored{open(t), from.LogID()}
		}, "restored from a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := open(t), open(t)
			newWriter(testseed.Rand(t), from).write(t, 20)
			source := tc.prepare(t, from, to)
			before := read(t, to)
			_, err := logcopy.Copy(t.Context(), source, to, logcopy.Options{})
			var foreign *logcopy.ForeignError
			require.ErrorAs(t, err, &foreign)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "copy into an empty event store")
			require.Equal(t, before, read(t, to), "nothing was written")
		})
	}
}

// restored is a store that claims to be another log.
type restored struct {
	eventstore.Store
	id uuid.UUID
}

func (r restored) LogID() uuid.UUID { return r.id }

// TestForeignMeanwhile has somebody append to the target in the middle of it.
func TestForeignMeanwhile(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{"another stream": "other.web-1", "a stream of the source": "acme.web-busy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rnd := testseed.Rand(t)
			from, to := open(t), openSparse(t)
			newWriter(rnd, from).write(t, 2500)
			intruder := newWriter(rnd, to)
			once := false
			_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{Progress: func(logcopy.Progress) {
				if !once {
					_, err := to.Append(t.Context(), stream, eventstore.Any, intruder.record())
					require.NoError(t, err)
				}
				once = true
			}})
			var foreign *logcopy.ForeignError
			require.ErrorAs(t, err, &foreign)
			m, err := posmap.Load(t.Context(), to)
			require.NoError(t, err)
			require.False(t, m.Origins()[0].Complete)
		})
	}
}

// TestTwoCopies has two copies at work on the same target.
func TestTwoCopies(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	for _, openTo := range []func(*testing.T) eventstore.Store{open, openSparse} {
		from, to := open(t), openTo(t)
		newWriter(rnd, from).write(t, 1500)
		ended := make(chan error, 2)
		for i := range 2 {
			go func() {
				_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{MapRecords: 64, BatchRecords: 20 + 3*i})
				ended <- err
			}()
		}
		for range 2 {
			var foreign *logcopy.ForeignError
			if err := <-ended; err != nil && !errors.As(err, &foreign) {
				require.ErrorIs(t, err, posmap.ErrTwoWriters)
			}
		}
		_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
		require.NoError(t, err)
		isCopy(t, from, to)
	}
}

func TestTheSameLog(t *testing.T) {
	t.Parallel()
	store := open(t)
	_, err := logcopy.Copy(t.Context(), store, store, logcopy.Options{})
	require.ErrorIs(t, err, logcopy.ErrSameLog)
	_, err = logcopy.Verify(t.Context(), store, store, nil)
	require.ErrorIs(t, err, logcopy.ErrSameLog)
}

// TestLargeRecords has more in a row than one append takes.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	for _, openTo := range []func(*testing.T) eventstore.Store{open, openSparse} {
		from, to := openSparse(t), openTo(t)
		for i := range 12 {
			data := make([]byte, eventstore.MaxRecordBytes/(1+i%3))
			data[0] = byte(i)
			_, err := from.Append(t.Context(), "acme.web-large", eventstore.Revision(i-1), eventstore.NewRecord{ID: uuid.New(), Type: "t", Data: data})
			require.NoError(t, err)
		}
		_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
		require.NoError(t, err)
		isCopy(t, from, to)
	}
}

func TestVerifyFindsTheFirstDifference(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	from := open(t)
	newWriter(rnd, from).write(t, 1200)
	records := read(t, from)
	at := rnd.IntN(len(records) - 1)
	for field, change := range map[string]func(r *eventstore.Record){
		"stream":       func(r *eventstore.Record) { r.Stream += "x" },
		"event id":     func(r *eventstore.Record) { r.ID[3]++ },
		"type":         func(r *eventstore.Record) { r.Type += "x" },
		"content type": func(r *eventstore.Record) { r.ContentType = 1 - r.ContentType },
		"data":         func(r *eventstore.Record) { r.Data = append([]byte{1}, r.Data...) },
		"metadata":     func(r *eventstore.Record) { r.Metadata = append([]byte{' '}, r.Metadata...) },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			to := openSparse(t)
			for i, rec := range records[:at+1] {
				other := *rec
				if i == at {
					change(&other)
				}
				_, err := to.Append(t.Context(), other.Stream, eventstore.Any, other.NewRecord)
				require.NoError(t, err)
			}
			v, err := logcopy.Verify(t.Context(), from, to, nil)
			require.NoError(t, err)
			require.NotNil(t, v.Difference)
			require.Equal(t, field, v.Difference.Field)
			require.Equal(t, records[at].Position, v.Difference.Want.Position)
			require.EqualValues(t, at+1, v.Records)
			require.NotEqual(t, v.Source, v.Target)
			require.Contains(t, v.Difference.String(), fmt.Sprintf("position %d of the source", records[at].Position))
		})
	}
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		to := open(t)
		for _, rec := range records[:at] {
			_, err := to.Append(t.Context(), rec.Stream, eventstore.Any, rec.NewRecord)
			require.NoError(t, err)
		}
		v, err := logcopy.Verify(t.Context(), from, to, nil)
		require.NoError(t, err)
		require.Equal(t, &logcopy.Difference{Field: "missing", Want: records[at]}, v.Difference)
		require.NotEqual(t, v.Source, v.Target)
	})
	t.Run("order", func(t *testing.T) {
		t.Parallel()
		one, other := open(t), open(t)
		w := newWriter(testseed.Rand(t), one)
		x, y := w.record(), w.record()
		for _, a := range []struct {
			store  eventstore.Store
			stream string
			rec    eventstore.NewRecord
		}{{one, "a", x}, {one, "b", y}, {other, "b", y}, {other, "a", x}} {
			_, err := a.store.Append(t.Context(), a.stream, eventstore.NoStream, a.rec)
			require.NoError(t, err)
		}
		v, err := logcopy.Verify(t.Context(), one, other, nil)
		require.NoError(t, err)
		require.Equal(t, "stream", v.Difference.Field)
	})
	t.Run("more", func(t *testing.T) {
		t.Parallel()
		to := open(t)
		for _, rec := range append(records[:len(records):len(records)], records[0]) {
			_, err := to.Append(t.Context(), rec.Stream, eventstore.Any, rec.NewRecord)
			require.NoError(t, err)
		}
		var last logcopy.Progress
		v, err := logcopy.Verify(t.Context(), from, to, func(p logcopy.Progress) { last = p })
		require.NoError(t, err)
		require.Nil(t, v.Difference)
		require.True(t, v.More)
		require.Equal(t, logcopy.Progress{Position: v.Head, Head: v.Head, Records: v.Records}, last)
	})
}

func TestVerifyEnds(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	newWriter(testseed.Rand(t), from).write(t, 3000)
	_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = logcopy.Verify(ctx, from, to, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, to.Close())
	_, err = logcopy.Verify(t.Context(), from, to, nil)
	require.ErrorIs(t, err, eventstore.ErrClosed)
}

// TestTheMapsPlaceIsTaken has a source that holds what would be the target's map.
func TestTheMapsPlaceIsTaken(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	_, err := from.Append(t.Context(), posmap.StreamOf(to.LogID()), eventstore.NoStream, eventstore.NewRecord{ID: uuid.New(), Type: "t"})
	require.NoError(t, err)
	_, err = logcopy.Copy(t.Context(), from, to, logcopy.Options{})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.Empty(t, read(t, to))
}
