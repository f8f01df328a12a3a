package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Calls carry no cookies and a write key is no secret, so by default any
// origin may call. The origin is echoed rather than `*`, because sendBeacon
// always sends with credentials, which browsers do not combine with `*`.

const (
	// preflightSeconds is how long a browser may remember a preflight; most cap it lower.
	preflightSeconds = "86400"
	// maxAskedHeaders bounds what a preflight may ask for, in bytes.
	maxAskedHeaders = 1024
)

// allowOrigin sets what a browser needs to let its page see the answer. It is
// false for an origin that may not call; a request without one may.
func (g *Gateway) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if len(g.origins) > 0 {
		if _, ok := g.origins[strings.ToLower(origin)]; !ok {
			return false
		}
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	return true
}

// preflight answers a browser that asks before it calls.
func (g *Gateway) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	if !g.allowOrigin(w, r) {
		g.refuse(w, forbiddenOrigin())
		return
	}
	h.Set("Allow", "GET, POST, OPTIONS")
	if r.Header.Get("Origin") != "" {
		h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
		h.Set("Access-Control-Max-Age", preflightSeconds)
		if asked := r.Header.Get("Access-Control-Request-Headers"); isHeaderList(asked) {
			// Clients add headers of their own; none means anything here that
			// a page should not be able to say.
			h.Set("Access-Control-Allow-Headers", asked)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// isHeaderList says that s is header names with commas between them.
func isHeaderList(s string) bool {
	if s == "" || len(s) > maxAskedHeaders {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_, ", r)
	})
}

func originSet(allowed []string) (map[string]struct{}, error) {
	var errs []error
	set := make(map[string]struct{}, len(allowed))
	for _, origin := range allowed {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			errs = append(errs, fmt.Errorf("allowed origin %q: want scheme and host, as in https://www.example.com", origin))
			continue
		}
		set[strings.ToLower(u.Scheme+"://"+u.Host)] = struct{}{}
	}
	return set, errors.Join(errs...)
}

func trimCallPath(path string) string { return strings.TrimPrefix(path, "/v1/") }
