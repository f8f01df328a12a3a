package viewtest

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view"
)

func testControl(t *testing.T, b Backend) {
	store := b.Open(t)
	none, err := store.Control(t.Context(), "suite")
	require.NoError(t, err)
	require.Equal(t, view.Control{}, none, "revision 0 says that there is none")
	_, err = store.SaveControl(t.Context(), "suite", view.Control{Revision: 1, Data: []byte("x")})
	require.ErrorIs(t, err, view.ErrConflict, "there is none to replace")

	revision, err := store.SaveControl(t.Context(), "suite", view.Control{Data: []byte("first \x00\xff")})
	require.NoError(t, err)
	require.Equal(t, uint64(1), revision)
	_, err = store.SaveControl(t.Context(), "suite", view.Control{Data: []byte("again")})
	require.ErrorIs(t, err, view.ErrConflict)
	got, err := store.Control(t.Context(), "suite")
	require.NoError(t, err)
	require.Equal(t, view.Control{Revision: 1, Data: []byte("first \x00\xff")}, got)

	// What is handed out belongs to the caller, and so does what was handed in.
	got.Data[0] = 'F'
	handed := []byte("second")
	revision, err = store.SaveControl(t.Context(), "suite", view.Control{Revision: 1, Data: handed})
	require.NoError(t, err)
	require.Equal(t, uint64(2), revision)
	handed[0] = 'S'
	got, err = store.Control(t.Context(), "suite")
	require.NoError(t, err)
	require.Equal(t, "second", string(got.Data))

	// Every projection has its own, also one whose name begins alike.
	for _, other := range []string{"suit", "suites", "suite_"} {
		got, err := store.Control(t.Context(), other)
		require.NoError(t, err)
		require.Zero(t, got, other)
	}
	largest := []byte(strings.Repeat("x", view.MaxControlBytes))
	_, err = store.SaveControl(t.Context(), "other", view.Control{Data: largest})
	require.NoError(t, err)
	_, err = store.SaveControl(t.Context(), "other", view.Control{Revision: 1, Data: append(largest, 'x')})
	require.ErrorIs(t, err, view.ErrInvalid)
	for _, name := range []string{"", "Not a name", strings.Repeat("x", 65)} {
		_, err = store.SaveControl(t.Context(), name, view.Control{})
		require.ErrorIs(t, err, view.ErrInvalid, name)
		_, err = store.Control(t.Context(), name)
		require.ErrorIs(t, err, view.ErrInvalid, name)
	}
	revision, err = store.SaveControl(t.Context(), "empty", view.Control{})
	require.NoError(t, err)
	require.Equal(t, uint64(1), revision)

	// It is no generation's: none comes of it, and dropping one leaves it.
	all, err := store.Namespaces(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	gen, err := store.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	require.NoError(t, gen.Close())
	require.NoError(t, store.Drop(t.Context(), theNamespace))
	require.NoError(t, store.Close())

	store = b.Open(t)
	got, err = store.Control(t.Context(), "suite")
	require.NoError(t, err)
	require.Equal(t, view.Control{Revision: 2, Data: []byte("second")}, got)
	got, err = store.Control(t.Context(), "other")
	require.NoError(t, err)
	require.Equal(t, largest, got.Data)
	got, err = store.Control(t.Context(), "empty")
	require.NoError(t, err)
	require.Equal(t, uint64(1), got.Revision)
	require.Empty(t, got.Data)
	_, err = store.SaveControl(t.Context(), "suite", view.Control{Revision: 1})
	require.ErrorIs(t, err, view.ErrConflict)
	require.NoError(t, store.Close())
}

// testControlConcurrent counts to a hundred from several goroutines: none of
// the additions is lost.
func testControlConcurrent(t *testing.T, b Backend) {
	store := b.Open(t)
	const workers, each = 5, 20
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			for range each {
				if err := increment(t, store); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
	got, err := store.Control(t.Context(), "suite")
	require.NoError(t, err)
	require.Equal(t, view.Control{Revision: workers * each, Data: []byte(strconv.Itoa(workers * each))}, got)
	require.NoError(t, store.Close())
}

func increment(t *testing.T, store view.Store) error {
	for {
		c, err := store.Control(t.Context(), "suite")
		if err != nil {
			return err
		}
		n := 0
		if c.Revision > 0 {
			if n, err = strconv.Atoi(string(c.Data)); err != nil {
				return err
			}
		}
		c.Data = strconv.AppendInt(nil, int64(n+1), 10)
		revision, err := store.SaveControl(t.Context(), "suite", c)
		if err == nil && revision != c.Revision+1 {
			return errors.New("not the next revision")
		}
		if !errors.Is(err, view.ErrConflict) {
			return err
		}
	}
}

// awake waits for a wake.
func awake(t *testing.T, wake <-chan struct{}) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(time.Minute):
		t.Fatal("not woken")
	}
}

func testWake(t *testing.T, b Backend) {
	f := open(t, b)
	wake, stop := f.store.Wake("suite")
	also, stopAlso := f.store.Wake("suite")
	other, stopOther := f.store.Wake("other")
	defer stopOther()
	f.put("acme", person("c1", "Ada", 1))
	f.commit()
	awake(t, wake)
	awake(t, also)
	_, err := f.store.SaveControl(t.Context(), "suite", view.Control{})
	require.NoError(t, err)
	awake(t, wake)
	// Nobody has to listen all the time.
	for range 10 {
		f.put("acme", person("c1", "Ada", 1))
		f.commit()
	}
	awake(t, wake)
	awake(t, also)
	stop()
	stop()
	for len(wake) > 0 {
		<-wake
	}
	_, err = f.store.SaveControl(t.Context(), "suite", view.Control{Revision: 1})
	require.NoError(t, err)
	awake(t, also)
	stopAlso()
	require.Empty(t, wake, "stopped")
	_, err = f.store.SaveControl(t.Context(), "other", view.Control{})
	require.NoError(t, err)
	awake(t, other)

	// Following a store that is closed by and by is no mistake.
	_, stopLate := f.store.Wake("suite") // may have a hint already, of what was before
	require.NoError(t, f.store.Close())
	stopLate()
	afterwards, stopAfterwards := f.store.Wake("suite")
	require.Empty(t, afterwards)
	stopAfterwards()
}
