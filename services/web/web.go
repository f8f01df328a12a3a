package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/event"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Publisher takes what one request brought. It returns nil once all of it is
// safe. Its errors are told apart by bus.ErrFull, bus.ErrTooLarge and
// bus.ErrUnavailable; any other counts as the last. Called concurrently.
type Publisher interface {
	Publish(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) error
}

// Config of the gateway.
type Config struct {
	// PublicURL is where browsers reach this gateway, scheme and host, for
	// example `https://t.example.com`. Links in mails need it. Defaults to the
	// scheme and host of the request.
	PublicURL string
	// AllowedOrigins that browsers may call from, each scheme and host as a
	// browser writes them. Defaults to any.
	AllowedOrigins []string
	// TrustedProxies whose X-Forwarded-For is believed. Defaults to none.
	TrustedProxies []netip.Prefix
	// IgnoredReferrers are domains that bring nobody: payment and login pages on
	// which a visit is interrupted. They count with their subdomains. Defaults to none.
	IgnoredReferrers []string
	// LinkSecret signs and hides what is in the links of mails; at least 16
	// bytes. Defaults to none: no pixels and no links.
	LinkSecret config.Secret
	// PreviousLinkSecrets are accepted in links that went out before. Defaults to none.
	PreviousLinkSecrets []config.Secret
	// EventsPerSecond that a write key without a rate of its own may send.
	// Defaults to 0: as many as it likes.
	EventsPerSecond float64
	// ReadTimeout for a whole body. Defaults to 15s.
	ReadTimeout time.Duration
	// PublishTimeout for handing on what a request brought. Defaults to 15s.
	PublishTimeout time.Duration
}

// Deps are what the gateway needs of others.
type Deps struct {
	// Publisher takes the events. Required.
	Publisher Publisher
	// Keys know the write keys. Required.
	Keys Keys
	// Validator of events. Defaults to a new one.
	Validator *event.Validator
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// NewID makes ids for what has none of its source. Defaults to UUIDs of version 7.
	NewID func() uuid.UUID
	// Logger gets no personal data. Defaults to slog.Default.
	Logger *slog.Logger
	// Registerer of the metrics. Defaults to none.
	Registerer prometheus.Registerer
}

const (
	defaultReadTimeout    = 15 * time.Second
	defaultPublishTimeout = 15 * time.Second
)

// Gateway is the tracking API. Its methods may be called concurrently. It
// starts no goroutines and needs no closing.
type Gateway struct {
	cfg     Config
	deps    Deps
	mapper  *Mapper
	links   *Links
	public  *url.URL
	origins map[string]struct{}
	limits  *limiters
	metrics *metrics
	log     *slog.Logger
}

// New makes a gateway. All that is wrong with the configuration is in the error.
func New(cfg Config, deps Deps) (*Gateway, error) {
	if deps.Publisher == nil || deps.Keys == nil {
		return nil, errors.New("web gateway: a publisher and keys are required")
	}
	if cfg.ReadTimeout <= 0 {
		cfg.ReadTimeout = defaultReadTimeout
	}
	if cfg.PublishTimeout <= 0 {
		cfg.PublishTimeout = defaultPublishTimeout
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	g := &Gateway{cfg: cfg, deps: deps, limits: newLimiters(), log: deps.Logger}
	var errs []error
	var err error
	if g.mapper, err = NewMapper(MapperConfig{
		Validator: deps.Validator, NewID: deps.NewID, IgnoredReferrers: cfg.IgnoredReferrers,
	}); err != nil {
		errs = append(errs, err)
	}
	if cfg.PublicURL != "" {
		if g.public, err = parsePublicURL(cfg.PublicURL); err != nil {
			errs = append(errs, err)
		}
	}
	if g.origins, err = originSet(cfg.AllowedOrigins); err != nil {
		errs = append(errs, err)
	}
	if cfg.LinkSecret != "" {
		if g.links, err = NewLinks(cfg.PublicURL, cfg.LinkSecret, cfg.PreviousLinkSecrets...); err != nil {
			errs = append(errs, err)
		}
	}
	if g.metrics, err = newMetrics(deps.Registerer); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("web gateway: %w", err)
	}
	return g, nil
}

// Links signs links for mails; nil without LinkSecret.
func (g *Gateway) Links() *Links { return g.links }

// Handler serves everything under /v1/. The server that it runs in bounds the
// time for headers; bodies are bounded here.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, k := range callPaths {
		mux.Handle("POST /v1/"+path, g.observed(k.String(), g.call(k)))
	}
	mux.Handle("GET /v1/projects/{key}/settings", g.observed("settings", g.settings))
	mux.Handle("GET /v1/o/{token}", g.observed("open", g.open))
	mux.Handle("GET /v1/c/{token}", g.observed("click", g.click))
	mux.Handle("OPTIONS /v1/", g.observed("preflight", g.preflight))
	mux.Handle("/v1/", g.observed("unknown", g.unknown))
	return mux
}

// callPaths are the calls by the path under /v1/. The short ones are those of
// the browser library; import is the historic one of batch.
var callPaths = map[string]kind{
	"identify": kindIdentify, "track": kindTrack, "page": kindPage, "screen": kindScreen,
	"group": kindGroup, "alias": kindAlias, "batch": kindBatch,
	"i": kindIdentify, "t": kindTrack, "p": kindPage, "s": kindScreen,
	"g": kindGroup, "a": kindAlias, "b": kindBatch,
	"import": kindBatch,
}

// unknown answers for paths and methods that there are not.
func (g *Gateway) unknown(w http.ResponseWriter, r *http.Request) {
	if !g.allowOrigin(w, r) {
		g.refuse(w, forbiddenOrigin())
		return
	}
	if _, call := callPaths[trimCallPath(r.URL.Path)]; call {
		w.Header().Set("Allow", "POST, OPTIONS")
		g.refuse(w, problem{status: http.StatusMethodNotAllowed, code: codeMethod, message: "use POST"})
		return
	}
	g.refuse(w, problem{status: http.StatusNotFound, code: codeNotFound, message: "there is nothing here"})
}

func parsePublicURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("public URL %q: want http or https, a host, and at most a path", s)
	}
	return u, nil
}
