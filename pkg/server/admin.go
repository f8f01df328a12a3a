package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/tenant"
)

// AdminConfig is what the HTTP surface for the inside is built from.
type AdminConfig struct {
	// Logger is required.
	Logger *slog.Logger
	// Metrics are served under /metrics.
	Metrics prometheus.Gatherer
	// Readiness is served under /readyz.
	Readiness *Readiness
	// Keys, where there are any, keep /metrics from peers elsewhere that have
	// none with the scope ops.
	Keys *credential.Keys
}

// NewAdmin is the HTTP surface for the inside: /metrics, /healthz (the process
// lives), /readyz (it can serve, or why not, as JSON) and, for peers on this
// machine only, /debug/pprof/.
func NewAdmin(cfg AdminConfig) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", opsOnly(cfg.Keys, promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		report := cfg.Readiness.Report(r.Context())
		code := http.StatusOK
		if !report.Ready {
			code = http.StatusServiceUnavailable
		}
		writeJSON(w, code, report)
	})
	for pattern, h := range map[string]http.HandlerFunc{
		"/debug/pprof/":        pprof.Index,
		"/debug/pprof/cmdline": pprof.Cmdline,
		"/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol":  pprof.Symbol,
		"/debug/pprof/trace":   pprof.Trace,
	} {
		mux.Handle(pattern, loopbackOnly(h))
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		// A peer that has gone needs no answer.
		_, _ = fmt.Fprintln(w, "Parley\n\n/readyz   can it serve, and if not, why\n/healthz  does it live\n/metrics  for Prometheus")
	})
	return mux
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	// A peer that has gone needs no answer.
	_, _ = w.Write(append(body, '\n'))
}

// fromHere says whether a request was made on this machine, to this machine:
// the name that was asked for counts too, so that a web page elsewhere cannot
// reach in through a browser here.
func fromHere(r *http.Request) bool {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !loopbackHost(peer) {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return loopbackHost(host) && r.Header.Get("X-Forwarded-For") == ""
}

func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromHere(r) {
			http.Error(w, "profiles are for this machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func opsOnly(keys *credential.Keys, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !keys.Empty() && !fromHere(r) {
			key, _ := credential.Bearer(r.Header.Get("Authorization"))
			id, ok := keys.Identify(key)
			if !ok {
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "an API key is needed: Authorization: Bearer <key>", http.StatusUnauthorized)
				return
			}
			if !id.Scopes.Has(tenant.Ops) {
				http.Error(w, "the API key needs the scope ops", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
