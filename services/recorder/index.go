package recorder

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/identity/recent"
)

// index is what the log up to a position says, as far as the recorder needs
// it, and above that what the chunk in hand adds. Its keys:
//
//	M                             → format, log id, position: the checkpoint
//	e <tenant> 0 <event id>       → position, content digest
//	s <stream>                    → revision of the last record
//	c <tenant> 0 <hash of mail>   → conversation
//	p <tenant> 0 <profile>        → identity.Profile
//	k <tenant> 0 <customer>       → identity.Customer
//	r <tenant>                    → the tenant's identity rules and the event that brought them
//
// It keeps no log of its own: after a crash the index is as it was at some
// earlier checkpoint, and the event log has the rest. Not for concurrent use.
type index struct {
	table    *table
	logID    uuid.UUID
	position eventstore.Position // of the checkpoint
	graph    *identity.Graph
	resolver *identity.Resolver
	// rulesVersion counts the changes of rules that were committed.
	rulesVersion int

	// What is not committed yet.
	events        map[eventKey]entry
	streams       map[string]eventstore.Revision
	conversations map[mailKey]string
	rules         map[string]*tenantRules

	// What is committed and was used last.
	recentStreams  *recent.Map[string, eventstore.Revision]
	recentProfiles *recent.Map[nameKey, identity.Profile]
	// Also that a customer has no record, as most have none.
	recentCustomers *recent.Map[nameKey, customerRecord]

	key, value []byte // scratch
}

// recentEntries is how many of each are remembered at least: visits in
// progress, with room to spare. About 200 bytes each.
const recentEntries = 8 << 10

type nameKey struct{ tenant, name string }

// customerRecord is a customer's record, if he has one.
type customerRecord struct {
	identity.Customer
	found bool
}

type eventKey struct {
	tenant string
	id     uuid.UUID
}

// entry is what is known of a recorded event.
type entry struct {
	position eventstore.Position
	digest   digest
}

// digest is the first half of an event's content digest; zero for none.
type digest [16]byte

func toDigest(b []byte) digest {
	var d digest
	copy(d[:], b)
	return d
}

// mailKey is a Message-ID within its tenant.
type mailKey struct {
	tenant string
	hash   [16]byte
}

const (
	indexFormat = 3
	indexFolder = "index"

	// memTableBytes holds a layer of the table, which is flushed at once.
	memTableBytes = 8 << 20
)

// errOtherLog says that the index cannot be continued: it is of another log,
// of a log restored from before it, or of a newer format.
var errOtherLog = errors.New("the index does not belong to this log")

type indexOptions struct {
	dir        string
	cacheBytes int64
	resolver   *identity.Resolver
	log        *slog.Logger
	health     *indexHealth
}

// indexHealth is what Pebble says of itself, from goroutines of its own.
type indexHealth struct{ err atomic.Pointer[error] }

func (h *indexHealth) set(err error) { h.err.Store(&err) }

// failure is why the index cannot write now; nil while it can.
func (h *indexHealth) failure() error {
	if err := h.err.Load(); err != nil {
		return *err
	}
	return nil
}

// openIndex opens the index in a folder of its own below dir, and drops it
// where it cannot be continued.
func openIndex(ctx context.Context, opts indexOptions, store eventstore.Store) (*index, error) {
	dir := filepath.Join(opts.dir, indexFolder)
	if err := os.MkdirAll(opts.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the index folder: %w", err)
	}
	x, err := tryIndex(ctx, dir, opts, store)
	if err == nil || !errors.Is(err, errOtherLog) && !pebble.IsCorruptionError(err) {
		return x, err
	}
	opts.log.Warn("dropping the recorder's index; it is made anew from the log", "reason", err.Error())
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("drop the index: %w", err)
	}
	return tryIndex(ctx, dir, opts, store)
}

func tryIndex(ctx context.Context, dir string, opts indexOptions, store eventstore.Store) (_ *index, err error) {
	db, err := pebble.Open(dir, pebbleOptions(opts))
	if err != nil {
		return nil, fmt.Errorf("open the recorder's index in %s: %w", dir, err)
	}
	x := &index{table: newTable(db), logID: store.LogID(), resolver: opts.resolver}
	x.forget()
	x.graph = identity.NewGraph(x.rulesOf, x)
	x.discard()
	if err := x.readCheckpoint(ctx, store); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := x.loadRules(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return x, nil
}

func pebbleOptions(opts indexOptions) *pebble.Options {
	o := &pebble.Options{
		// Given, so that Pebble does not wrap it in health checks, which it
		// leaves running where it fails to open.
		FS: vfs.Default,
		// Pebble takes its memory tables off the cache.
		CacheSize:                   opts.cacheBytes + 2*memTableBytes,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		Logger:                      indexLogger{opts.log, opts.health},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				opts.log.Warn("the recorder's index cannot be written", "error", err)
				opts.health.set(fmt.Errorf("the recorder's index cannot be written: %w", err))
			},
			// What has failed is tried again.
			FlushEnd: func(info pebble.FlushInfo) {
				if info.Err == nil {
					opts.health.set(nil)
				}
			},
		},
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 8 << 10
		// Hashes do not compress.
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		// Most event ids that are looked up are not there.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// indexLogger takes what Pebble says. It must not end the process from within.
type indexLogger struct {
	log    *slog.Logger
	health *indexHealth
}

func (indexLogger) Infof(string, ...any) {}

func (l indexLogger) Errorf(format string, args ...any) {
	l.log.Warn("the recorder's index complains", "message", fmt.Sprintf(format, args...))
}

func (l indexLogger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.log.Error("the recorder's index has failed", "message", message)
	l.health.set(errors.New("the recorder's index has failed: " + message))
}

// close keeps what is committed.
func (x *index) close() error {
	return x.table.close()
}

func (x *index) readCheckpoint(ctx context.Context, store eventstore.Store) error {
	const size = 1 + 16 + 8
	var stored [size]byte
	n := 0
	found, err := x.table.get([]byte{'M'}, func(value []byte) error {
		n = copy(stored[:], value)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the index's checkpoint: %w", err)
	}
	if !found {
		return nil
	}
	if n != size || stored[0] != indexFormat {
		return fmt.Errorf("%w: its format is %d, not %d", errOtherLog, stored[0], indexFormat)
	}
	if id := uuid.UUID(stored[1:17]); id != x.logID {
		return fmt.Errorf("%w: it was made from log %s, this is %s", errOtherLog, id, x.logID)
	}
	x.position = eventstore.Position(binary.BigEndian.Uint64(stored[17:]))
	head, err := store.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the log's head: %w", err)
	}
	if x.position > head {
		return fmt.Errorf("%w: it is at position %d, the log ends at %d", errOtherLog, x.position, head)
	}
	return nil
}

// discard forgets what is not committed.
func (x *index) discard() {
	x.graph.Discard()
	x.table.discard()
	x.events = map[eventKey]entry{}
	x.streams = map[string]eventstore.Revision{}
	x.conversations = map[mailKey]string{}
	x.rules = map[string]*tenantRules{}
}

// commit takes over everything up to position, with the checkpoint, at once.
func (x *index) commit(ctx context.Context, position eventstore.Position) (err error) {
	defer func() {
		if err != nil {
			x.table.discard()
			x.forget()
		}
	}()
	for k, e := range x.events {
		x.setKey('e', k.tenant, k.id[:])
		x.value = binary.AppendUvarint(x.value[:0], uint64(e.position))
		if e.digest != (digest{}) {
			x.value = append(x.value, e.digest[:]...)
		}
		x.table.set(x.key, x.value)
	}
	for stream, revision := range x.streams {
		x.key = append(append(x.key[:0], 's'), stream...)
		x.value = binary.AppendUvarint(x.value[:0], uint64(revision))
		x.table.set(x.key, x.value)
		x.recentStreams.Put(stream, revision)
	}
	for k, conversation := range x.conversations {
		x.setKey('c', k.tenant, k.hash[:])
		x.table.set(x.key, []byte(conversation))
	}
	if err := x.stageRules(); err != nil {
		return err
	}
	if err := x.graph.Flush(graphWriter{x}); err != nil {
		return err
	}
	x.value = append(append(x.value[:0], indexFormat), x.logID[:]...)
	x.value = binary.BigEndian.AppendUint64(x.value, uint64(position))
	x.table.set([]byte{'M'}, x.value)
	if err := x.table.commit(ctx); err != nil {
		return fmt.Errorf("commit to the index: %w", err)
	}
	x.position = position
	if err := x.useRules(); err != nil {
		return err
	}
	clear(x.events)
	clear(x.streams)
	clear(x.conversations)
	return nil
}

// forget empties what is remembered of the committed: it may be ahead of it.
func (x *index) forget() {
	x.recentStreams = recent.New[string, eventstore.Revision](recentEntries)
	x.recentProfiles = recent.New[nameKey, identity.Profile](recentEntries)
	x.recentCustomers = recent.New[nameKey, customerRecord](recentEntries)
}

// event looks a recorded event up, also among those not committed yet.
func (x *index) event(k eventKey) (entry, bool, error) {
	if e, ok := x.events[k]; ok {
		return e, true, nil
	}
	x.setKey('e', k.tenant, k.id[:])
	var e entry
	found, err := x.get(func(value []byte) error {
		position, n := binary.Uvarint(value)
		if n <= 0 {
			return eventstore.ErrCorrupt
		}
		e = entry{eventstore.Position(position), toDigest(value[n:])}
		return nil
	})
	return e, found, err
}

// revision of a stream's last record; NoStream where it has none.
func (x *index) revision(stream string) (eventstore.Revision, error) {
	if r, ok := x.streams[stream]; ok {
		return r, nil
	}
	if r, ok := x.recentStreams.Get(stream); ok {
		return r, nil
	}
	x.key = append(append(x.key[:0], 's'), stream...)
	r := eventstore.NoStream
	found, err := x.get(func(value []byte) error {
		v, n := binary.Uvarint(value)
		if n <= 0 {
			return eventstore.ErrCorrupt
		}
		r = eventstore.Revision(v & (1<<63 - 1))
		return nil
	})
	if found && err == nil {
		x.recentStreams.Put(stream, r)
	}
	return r, err
}

// conversation of a mail; empty where it is not known.
func (x *index) conversation(k mailKey) (string, error) {
	if c, ok := x.conversations[k]; ok {
		return c, nil
	}
	x.setKey('c', k.tenant, k.hash[:])
	var c string
	_, err := x.get(func(value []byte) error {
		c = string(value)
		return nil
	})
	return c, err
}

// setKey makes the key of a tenant's thing. Tenants have no zero byte.
func (x *index) setKey(space byte, tenant string, rest []byte) {
	x.key = append(x.key[:0], space)
	x.key = append(append(x.key, tenant...), 0)
	x.key = append(x.key, rest...)
}

func (x *index) get(read func([]byte) error) (bool, error) {
	found, err := x.table.get(x.key, read)
	if err != nil {
		return false, fmt.Errorf("read the index: %w", err)
	}
	return found, nil
}
