package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// The bounds of an HTTP connection. Bodies are bounded by the handlers, who
// know how much each may have.
const (
	httpHeaderTimeout = 5 * time.Second
	httpReadTimeout   = 30 * time.Second
	httpWriteTimeout  = 60 * time.Second
	httpIdleTimeout   = 2 * time.Minute
	httpHeaderBytes   = 32 << 10
)

// HTTP is an HTTP server with bounds that keep slow and hostile peers from
// holding it.
type HTTP struct {
	server *http.Server
}

// NewHTTP builds a server for a handler. A panic in it costs one request. TLS
// may be nil for plain text.
func NewHTTP(handler http.Handler, log *slog.Logger, tlsConfig *tls.Config) *HTTP {
	return &HTTP{server: &http.Server{
		Handler:           recoverHTTP(handler, log),
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: httpHeaderTimeout,
		ReadTimeout:       httpReadTimeout,
		WriteTimeout:      httpWriteTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Serve answers requests until Stop. It takes the listener over.
func (h *HTTP) Serve(lis net.Listener) error {
	var err error
	if h.server.TLSConfig != nil {
		err = h.server.ServeTLS(lis, "", "")
	} else {
		err = h.server.Serve(lis)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP on %s: %w", lis.Addr(), err)
}

// Stop lets requests in flight finish until ctx is done, and then cuts them off.
func (h *HTTP) Stop(ctx context.Context) error {
	err := h.server.Shutdown(ctx)
	if err == nil {
		return nil
	}
	if closeErr := h.server.Close(); closeErr != nil {
		return fmt.Errorf("stop HTTP: %w", errors.Join(err, closeErr))
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil // cut off, as promised
	}
	return fmt.Errorf("stop HTTP: %w", err)
}

func recoverHTTP(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			log.Error("panic in a handler", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			http.Error(w, `{"error":"internal error"}`, http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}
