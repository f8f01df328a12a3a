package web

import (
	"encoding/json"
	"net/http"
	"strings"
)

// settings answers the browser library's first question: what to load and
// where to send. The shape is the one that @segment/analytics-next reads; it
// loads nothing besides, and sends no metrics of its own.
func (g *Gateway) settings(w http.ResponseWriter, r *http.Request) {
	if !g.allowOrigin(w, r) {
		g.refuse(w, forbiddenOrigin())
		return
	}
	writeKey := r.PathValue("key")
	if _, ok := g.deps.Keys.Lookup(writeKey); !ok {
		g.refuse(w, problem{status: http.StatusNotFound, code: codeWriteKey, message: "the write key is unknown"})
		return
	}
	scheme, host := g.address(r)
	text, err := json.Marshal(newSettings(writeKey, scheme, host))
	if err != nil {
		g.log.Error("write settings", "error", err)
		g.refuse(w, problem{status: http.StatusInternalServerError, code: codeUnavailable, message: "settings cannot be written"})
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	// Not in shared caches: without a PublicURL the answer depends on the way that the request took.
	h.Set("Cache-Control", "private, max-age=120")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(text); err != nil {
		g.log.Debug("client left before its answer", "error", err)
	}
}

// address is where browsers reach this gateway: the configured address, or
// the one that this request came to. Host is what the client itself said, so
// that it can only mislead itself.
func (g *Gateway) address(r *http.Request) (scheme, host string) {
	if g.public != nil {
		return g.public.Scheme, g.public.Host + strings.TrimSuffix(g.public.Path, "/")
	}
	if r.TLS != nil {
		return "https", r.Host
	}
	if peer := r.Header.Get("X-Forwarded-Proto"); peer == "https" {
		return "https", r.Host
	}
	return "http", r.Host
}

// settingsAnswer is what the library reads; the empty members are there
// because some of its versions look into them unasked.
type settingsAnswer struct {
	Integrations              map[string]segmentSettings `json:"integrations"`
	Plan                      map[string]planDefault     `json:"plan"`
	EdgeFunction              struct{}                   `json:"edgeFunction"`
	AnalyticsNextEnabled      bool                       `json:"analyticsNextEnabled"`
	MiddlewareSettings        struct{}                   `json:"middlewareSettings"`
	EnabledMiddleware         struct{}                   `json:"enabledMiddleware"`
	Metrics                   metricsSettings            `json:"metrics"`
	LegacyVideoPluginsEnabled bool                       `json:"legacyVideoPluginsEnabled"`
	RemotePlugins             []struct{}                 `json:"remotePlugins"`
}

type segmentSettings struct {
	APIKey                string          `json:"apiKey"`
	APIHost               string          `json:"apiHost"`
	Protocol              string          `json:"protocol"`
	AddBundledMetadata    bool            `json:"addBundledMetadata"`
	UnbundledIntegrations []string        `json:"unbundledIntegrations"`
	MaybeBundledConfigIDs struct{}        `json:"maybeBundledConfigIds"`
	VersionSettings       versionSettings `json:"versionSettings"`
	RetryQueue            bool            `json:"retryQueue"`
	Type                  string          `json:"type"`
	BundlingStatus        string          `json:"bundlingStatus"`
	UnbundledConfigIDs    []string        `json:"unbundledConfigIds"`
	BundledConfigIDs      []string        `json:"bundledConfigIds"`
}

type versionSettings struct {
	ComponentTypes []string `json:"componentTypes"`
}

type planDefault struct {
	Default planEvent `json:"__default"`
}

type planEvent struct {
	Enabled      bool     `json:"enabled"`
	Integrations struct{} `json:"integrations"`
}

type metricsSettings struct {
	// SampleRate 0 keeps the library from reporting about itself.
	SampleRate float64 `json:"sampleRate"`
}

func newSettings(writeKey, scheme, host string) *settingsAnswer {
	all := planDefault{Default: planEvent{Enabled: true}}
	return &settingsAnswer{
		Integrations: map[string]segmentSettings{"Segment.io": {
			APIKey:                writeKey,
			APIHost:               host + "/v1",
			Protocol:              scheme,
			UnbundledIntegrations: []string{},
			VersionSettings:       versionSettings{ComponentTypes: []string{"browser"}},
			RetryQueue:            true,
			Type:                  "browser",
			BundlingStatus:        "bundled",
			UnbundledConfigIDs:    []string{},
			BundledConfigIDs:      []string{},
		}},
		Plan:                 map[string]planDefault{"track": all, "identify": all, "group": all},
		AnalyticsNextEnabled: true,
		RemotePlugins:        []struct{}{},
	}
}
