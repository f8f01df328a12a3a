package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/nats-io/nats-server/v2/server"
)

// embedded is a nats-server in this process. It owns its data directory by a
// lock, writes every message through to the disk before acknowledging it, and
// handles no signals.
type embedded struct {
	server *server.Server
	log    *serverLog
	lock   io.Closer
}

// The memory that JetStream may use for streams in memory; there are none of
// ours.
const embeddedMaxMemory = 16 << 20

// The server reserves a stream's MaxBytes against this and would not bring
// back one that exceeds it, so it must never be the bound that counts.
const embeddedMaxStore = 1 << 50

// startEmbedded fails with ErrInUse and ErrAddressInUse.
func startEmbedded(ctx context.Context, cfg Config, logger *slog.Logger) (_ *embedded, err error) {
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return nil, fmt.Errorf("make the bus's data directory: %w", err)
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	e := &embedded{log: &serverLog{logger: logger}, lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()

	opts, err := serverOptions(cfg)
	if err != nil {
		return nil, err
	}
	if err := probe(ctx, cfg.Listen); err != nil {
		return nil, err
	}
	e.server, err = server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	e.server.SetLoggerV2(e.log, false, false, false)
	e.server.Start()
	for !e.server.ReadyForConnections(20 * time.Millisecond) {
		if err := e.log.fatal(); err != nil {
			return nil, fmt.Errorf("start the embedded NATS server on %s: %w", cfg.Listen, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("start the embedded NATS server on %s: %w", cfg.Listen, err)
		}
	}
	if err := e.log.fatal(); err != nil {
		return nil, fmt.Errorf("start the embedded NATS server on %s: %w", cfg.Listen, err)
	}
	return e, nil
}

func serverOptions(cfg Config) (*server.Options, error) {
	host, port, err := cfg.listenAddress()
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	tlsConfig, err := cfg.TLS.server()
	if err != nil {
		return nil, err
	}
	return &server.Options{
		ServerName:             "parley",
		Host:                   host,
		Port:                   port,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		JetStream:              true,
		StoreDir:               cfg.DataDir,
		SyncAlways:             true,
		JetStreamMaxMemory:     embeddedMaxMemory,
		JetStreamMaxStore:      embeddedMaxStore,
		Username:               cfg.User,
		Password:               string(cfg.Password),
		Authorization:          string(cfg.Token),
		TLS:                    tlsConfig != nil,
		TLSConfig:              tlsConfig,
		TLSVerify:              tlsConfig != nil && tlsConfig.ClientCAs != nil,
	}, nil
}

// addr is where other processes connect.
func (e *embedded) addr() string {
	if a := e.server.Addr(); a != nil {
		return a.String()
	}
	return ""
}

func (e *embedded) healthy() error {
	switch {
	case e.log.fatal() != nil:
		return fmt.Errorf("%w: the embedded NATS server: %w", ErrUnavailable, e.log.fatal())
	case !e.server.Running():
		return fmt.Errorf("%w: the embedded NATS server is down", ErrUnavailable)
	case !e.server.JetStreamEnabled():
		return fmt.Errorf("%w: the embedded NATS server has switched JetStream off, most likely because its disk is full or failing", ErrUnavailable)
	}
	return nil
}

// stop waits for the server to end.
func (e *embedded) stop() error {
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
	if err := e.lock.Close(); err != nil {
		return fmt.Errorf("unlock the bus's data directory: %w", err)
	}
	return nil
}

// probe finds out whether the address is free in a way that names the error;
// the server itself only logs one.
func probe(ctx context.Context, address string) error {
	var conf net.ListenConfig
	l, err := conf.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("embedded NATS server: %w: %s", ErrAddressInUse, address)
	}
	if err != nil {
		return fmt.Errorf("embedded NATS server: listen on %s: %w", address, err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("embedded NATS server: probe %s: %w", address, err)
	}
	return nil
}

// lockDir keeps other processes, and this one, from a second server on dir.
func lockDir(dir string) (io.Closer, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the bus's data directory: %w", err)
	}
	if resolved, err := filepath.EvalSymlinks(abs); err == nil {
		abs = resolved
	}
	lock, err := vfs.Default.Lock(filepath.Join(abs, "LOCK"))
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("lock the bus's data directory: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s belongs to a running process: %w", ErrInUse, abs, err)
	}
	return lock, nil
}

// serverLog is the server's logger: its news are for debugging, and what it
// calls fatal is kept for whoever started it.
type serverLog struct {
	logger *slog.Logger

	mu       sync.Mutex
	fatalErr error
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatalErr
}

// Noticef is the server's everyday news.
func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf is for people.
func (l *serverLog) Warnf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Errorf is what went wrong with one client or stream.
func (l *serverLog) Errorf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Fatalf must not end the process from within a library.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	if l.fatalErr == nil {
		l.fatalErr = fmt.Errorf(format, v...)
	}
	l.mu.Unlock()
	l.write(slog.LevelError, format, v)
}

// Debugf is never asked for.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef is never asked for.
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) write(level slog.Level, format string, v []any) {
	if l.logger.Enabled(context.Background(), level) {
		l.logger.Log(context.Background(), level, "embedded NATS server", "said", fmt.Sprintf(format, v...))
	}
}
