package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Reconnecting waits reconnectFirst, doubled up to reconnectMost, and up to half
// of it more so that many clients do not come back at once.
const (
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 5 * time.Second
	dialTimeout    = 5 * time.Second
	// An external server that says nothing for two of these is taken for dead.
	pingInterval = 20 * time.Second
)

// connect opens a connection that reconnects for ever. To an external server
// it tries until ctx ends, except where the credentials are refused. lost is
// called each time that the connection breaks.
func connect(ctx context.Context, cfg Config, e *embedded, lost func(error), logger *slog.Logger) (*nats.Conn, error) {
	opts, err := connectOptions(cfg, e, lost, logger)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		nc, err := nats.Connect(cfg.URL, opts...)
		if err == nil {
			return nc, nil
		}
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrNoUserCB) {
			return nil, fmt.Errorf("connect to NATS: the credentials were refused: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to NATS: %w: %w", ErrUnavailable, err)
		case <-time.After(backoff(attempt, reconnectFirst, reconnectMost)):
		}
	}
}

func connectOptions(cfg Config, e *embedded, lost func(error), logger *slog.Logger) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name("parley"),
		nats.CustomInboxPrefix(cfg.InboxPrefix),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			var some [1]byte
			_, _ = rand.Read(some[:]) // never fails
			d := backoff(attempts, reconnectFirst, reconnectMost)
			return d + d/2*time.Duration(some[0])/256
		}),
		// Nothing is kept for later while there is no connection: whoever
		// publishes is told so and repeats it.
		nats.ReconnectBufSize(-1),
		nats.Timeout(min(dialTimeout, cfg.ConnectTimeout)),
		nats.PingInterval(pingInterval),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			lost(nats.ErrDisconnected)
			if err != nil {
				logger.Warn("connection to NATS lost", "url", nc.ConnectedUrlRedacted(), "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			logger.Info("connection to NATS is back", "url", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Warn("NATS reports an error", "error", err)
		}),
	}
	if e != nil {
		opts = append(opts, nats.InProcessServer(e.server))
	} else {
		conf, err := cfg.TLS.client()
		if err != nil {
			return nil, err
		}
		if conf != nil {
			opts = append(opts, nats.Secure(conf))
		}
		if cfg.CredentialsFile != "" {
			opts = append(opts, nats.UserCredentials(cfg.CredentialsFile))
		}
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, string(cfg.Password)))
	}
	if cfg.Token != "" {
		opts = append(opts, nats.Token(string(cfg.Token)))
	}
	return opts, nil
}

// backoff doubles low with each attempt, from 0 on, up to high.
func backoff(attempt int, low, high time.Duration) time.Duration {
	// 2^20 times any low is beyond any high, and shifts no bits out.
	return min(low<<min(attempt, 20), high)
}
