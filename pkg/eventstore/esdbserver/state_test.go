package esdbserver

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

func TestStatesAreBoundedButForThoseInUse(t *testing.T) {
	t.Parallel()
	c := newStates(3)
	held := make([]*streamState, 10)
	for i := range held {
		held[i] = c.hold(fmt.Sprint(i))
		require.Same(t, held[i], c.hold(fmt.Sprint(i)))
		c.release(held[i])
	}
	require.Len(t, c.all, 10, "all are in use")
	for i := range held {
		c.release(held[i])
	}
	require.Len(t, c.all, 3)
	require.Same(t, held[7], c.hold("7"), "the last ones stay")
	again := c.hold("0")
	require.NotSame(t, held[0], again)
	require.Len(t, c.all, 4)
	c.release(again)
	require.Len(t, c.all, 4, "three idle, one in use")

	held[7].metaKnown = true
	c.forgetMeta("7")
	require.False(t, held[7].metaKnown)
	c.forgetMeta("never")
}

// There is never a second state of a stream that somebody holds.
func TestStatesAreOnePerStream(t *testing.T) {
	t.Parallel()
	c := newStates(2)
	var users [8]struct {
		sync.Mutex
		count int
		state *streamState
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				i := rand.IntN(len(users))
				st := c.hold(fmt.Sprint(i))
				u := &users[i]
				u.Lock()
				if u.count > 0 && u.state != st {
					t.Errorf("stream %d has two states", i)
				}
				u.state = st
				u.count++
				u.Unlock()
				u.Lock()
				u.count--
				u.Unlock()
				c.release(st)
			}
		})
	}
	wg.Wait()
	require.Len(t, c.all, 2)
}

func TestTailIsBounded(t *testing.T) {
	t.Parallel()
	st := &streamState{seen: eventstore.NoStream}
	ids := make([]uuid.UUID, 1000)
	for i := range ids {
		ids[i] = uuid.New()
		st.remember(ids[i], eventstore.Revision(i))
		require.LessOrEqual(t, len(st.tail), mostTail)
		for j := range ids[:i+1] {
			revision, ok := st.find(ids[j])
			require.Equal(t, j > i-tailRecords, ok)
			if ok {
				require.EqualValues(t, j, revision)
			}
		}
	}
	require.EqualValues(t, 999, st.seen)
}
