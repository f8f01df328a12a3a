package embedded_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

func TestReopenedStoreIsTheSame(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b", "store")
	store, err := embedded.Open(dir, crashOptions(nil))
	require.NoError(t, err)
	id := store.LogID()
	w := &writer{t: t, store: store, name: "a"}
	for range 200 {
		require.NoError(t, w.append(t.Context()))
	}
	require.NoError(t, store.Close())
	for range 3 {
		store, err = embedded.Open(dir, crashOptions(nil))
		require.NoError(t, err)
		require.Equal(t, id, store.LogID())
		audit(t, store, w.acks)
		w.store = store
		require.NoError(t, w.append(t.Context()))
		require.NoError(t, store.Close())
	}
}

func TestRecordedTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	now := time.Date(2030, 1, 2, 3, 4, 5, 6789, time.UTC)
	opts := embedded.Options{FS: fs, Now: func() time.Time { return now }}
	store, err := embedded.Open("store", opts)
	require.NoError(t, err)
	add := func(stream string) {
		records, _ := audited(1)
		_, err := store.Append(t.Context(), stream, eventstore.NoStream, records...)
		require.NoError(t, err)
	}
	add("a")
	now = now.Add(-time.Hour)
	add("b")
	require.NoError(t, store.Close())
	store, err = embedded.Open("store", opts)
	require.NoError(t, err)
	add("c")
	now = now.Add(2 * time.Hour)
	add("d")
	var recorded []time.Time
	for r, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		recorded = append(recorded, r.Recorded)
	}
	first := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	require.Equal(t, []time.Time{first, first, first, first.Add(time.Hour)}, recorded)
	require.NoError(t, store.Close())
}

func TestASecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := open(t, dir, embedded.Options{})
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(dir, link))
	for _, name := range []string{dir, dir + "/.", link} {
		_, err := embedded.Open(name, embedded.Options{})
		require.ErrorIs(t, err, eventstore.ErrInUse, name)
		require.ErrorContains(t, err, dir)
	}
	// The refused ones took nothing from it.
	records, _ := audited(1)
	_, err := first.Append(t.Context(), "a", eventstore.NoStream, records...)
	require.NoError(t, err)

	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), childVariable+"="+dir)
	out, err := other.CombinedOutput()
	require.Error(t, err, "another process")
	require.Contains(t, string(out), eventstore.ErrInUse.Error())
	require.NoError(t, first.Close())
	require.NoError(t, open(t, dir, embedded.Options{}).Close())
}

func TestASecondOpenInMemoryIsRefused(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	open(t, "store", embedded.Options{FS: fs})
	_, err := embedded.Open("store", embedded.Options{FS: fs})
	require.ErrorIs(t, err, eventstore.ErrInUse)
}

func TestWhatIsNoStoreIsRefused(t *testing.T) {
	t.Parallel()
	made := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		require.NoError(t, open(t, dir, embedded.Options{}).Close())
		return dir
	}
	change := func(t *testing.T, dir string, change func(map[string]any)) {
		t.Helper()
		name := filepath.Join(dir, "STORE")
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		var who map[string]any
		require.NoError(t, json.Unmarshal(text, &who))
		change(who)
		text, err = json.Marshal(who)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(name, text, 0o600))
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T) string
		want    error
		says    string
	}{
		"other files": {
			prepare: func(t *testing.T) string {
				dir := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600))
				return dir
			},
			want: eventstore.ErrInvalid, says: "thesis.txt",
		},
		"no name": {prepare: func(*testing.T) string { return "" }, want: eventstore.ErrInvalid, says: "no folder"},
		"a newer format": {
			prepare: func(t *testing.T) string {
				dir := made(t)
				change(t, dir, func(who map[string]any) { who["format"] = 2 })
				return dir
			},
			want: eventstore.ErrNewerFormat, says: "format 2",
		},
		"another kind": {
			prepare: func(t *testing.T) string {
				dir := made(t)
				change(t, dir, func(who map[string]any) { who["kind"] = "diary" })
				return dir
			},
			want: eventstore.ErrCorrupt, says: "diary",
		},
		"no id": {
			prepare: func(t *testing.T) string {
				dir := made(t)
				change(t, dir, func(who map[string]any) { delete(who, "log_id") })
				return dir
			},
			want: eventstore.ErrCorrupt, says: "log id",
		},
		"garbage": {
			prepare: func(t *testing.T) string {
				dir := made(t)
				require.NoError(t, os.WriteFile(filepath.Join(dir, "STORE"), []byte("garbage"), 0o600))
				return dir
			},
			want: eventstore.ErrCorrupt, says: "STORE",
		},
		"no log": {
			prepare: func(t *testing.T) string {
				dir := made(t)
				require.NoError(t, os.RemoveAll(filepath.Join(dir, "log")))
				return dir
			},
			want: eventstore.ErrCorrupt, says: "gone",
		},
		"no STORE": {
			prepare: func(t *testing.T) string {
				dir := made(t)
				require.NoError(t, os.Remove(filepath.Join(dir, "STORE")))
				return dir
			},
			want: eventstore.ErrCorrupt, says: "STORE",
		},
		"a newer Pebble": {
			prepare: func(t *testing.T) string {
				dir := made(t)
				markers, err := filepath.Glob(filepath.Join(dir, "log", "marker.format-version.*"))
				require.NoError(t, err)
				require.Len(t, markers, 1)
				require.NoError(t, os.Rename(markers[0], filepath.Join(dir, "log", "marker.format-version.999999.999")))
				return dir
			},
			want: eventstore.ErrNewerFormat, says: "999",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := c.prepare(t)
			for range 2 {
				_, err := embedded.Open(dir, embedded.Options{})
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}

// tamper changes what Pebble holds of a closed store.
func tamper(t *testing.T, fs vfs.FS, change func(*pebble.DB)) {
	t.Helper()
	db, err := pebble.Open("store/log", &pebble.Options{FS: fs, Logger: quiet{}, FormatMajorVersion: pebble.FormatTableFormatV6})
	require.NoError(t, err)
	change(db)
	require.NoError(t, db.Close())
}

func TestCorruptRecordsNameTheirPosition(t *testing.T) {
	t.Parallel()
	segment := func(position byte) []byte { return []byte{'r', 0, 0, 0, 0, 0, 0, 0, position} }
	for name, c := range map[string]struct {
		change func(*testing.T, *pebble.DB)
		want   error
		says   string
	}{
		"record": {
			change: func(t *testing.T, db *pebble.DB) {
				value, closer, err := db.Get(segment(3))
				require.NoError(t, err)
				value = append([]byte(nil), value[:len(value)-3]...)
				require.NoError(t, closer.Close())
				require.NoError(t, db.Set(segment(3), value, pebble.Sync))
			},
			want: eventstore.ErrCorrupt, says: "position 3",
		},
		"missing": {
			change: func(t *testing.T, db *pebble.DB) { require.NoError(t, db.Delete(segment(3), pebble.Sync)) },
			want:   eventstore.ErrCorrupt, says: "position 3",
		},
		"newer": {
			change: func(t *testing.T, db *pebble.DB) {
				require.NoError(t, db.Set(segment(3), []byte{9, 1, 1}, pebble.Sync))
			},
			want: eventstore.ErrNewerFormat, says: "position 3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			store, err := embedded.Open("store", embedded.Options{FS: fs})
			require.NoError(t, err)
			for i := range 5 {
				records, _ := audited(1)
				_, err := store.Append(t.Context(), "a", eventstore.Revision(i-1), records...)
				require.NoError(t, err)
			}
			require.NoError(t, store.Close())
			tamper(t, fs, func(db *pebble.DB) { c.change(t, db) })

			store = open(t, "store", embedded.Options{FS: fs})
			check := func(err error) {
				t.Helper()
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, c.says)
			}
			var found []eventstore.Position
			for r, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
				if err != nil {
					check(err)
					break
				}
				found = append(found, r.Position)
			}
			require.Equal(t, []eventstore.Position{1, 2}, found)
			for _, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{Direction: eventstore.Backwards}) {
				if err != nil {
					check(err)
				}
			}
			for _, err := range store.ReadStream(t.Context(), "a", eventstore.ReadStreamOptions{}) {
				if err != nil {
					check(err)
				}
			}
			sub, err := store.Subscribe(t.Context(), eventstore.SubscribeOptions{})
			require.NoError(t, err)
			batch, err := sub.Next(t.Context())
			require.NoError(t, err)
			require.Len(t, batch.Records, 2)
			_, err = sub.Next(t.Context())
			check(err)
			require.NoError(t, sub.Close())
		})
	}
}

func TestFiftyStartsAndStopsFromTenGoroutines(t *testing.T) {
	t.Parallel()
	for range 50 {
		store, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				sub, err := store.Subscribe(context.Background(), eventstore.SubscribeOptions{Heartbeat: time.Hour})
				if err == nil {
					wg.Go(func() {
						for {
							if _, err := sub.Next(context.Background()); err != nil {
								return
							}
						}
					})
				}
				records, _ := audited(1)
				_, err = store.Append(context.Background(), fmt.Sprintf("s%d", i), eventstore.NoStream, records...)
				if err == nil && i%3 > 0 {
					_, err = store.StreamHead(context.Background(), fmt.Sprintf("s%d", i))
				}
				_ = err // it may be closed already
				if err := store.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		wg.Wait()
	}
}

func TestLogIDIsDrawn(t *testing.T) {
	t.Parallel()
	want := uuid.MustParse("11111111-2222-4333-8444-555555555555")
	store := open(t, "store", embedded.Options{FS: vfs.NewMem(), NewLogID: func() (uuid.UUID, error) { return want, nil }})
	require.Equal(t, want, store.LogID())
	_, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem(), NewLogID: func() (uuid.UUID, error) { return uuid.Nil, errBroken }})
	require.ErrorIs(t, err, errBroken)
}
