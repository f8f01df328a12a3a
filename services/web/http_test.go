package web_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/services/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a body is is told by its first bytes, whatever its labels say.
func TestBodiesByWhatTheyAre(t *testing.T) {
	t.Parallel()
	packed := gzipped(t, track)
	for _, tt := range []struct {
		name, body string
		options    []option
		status     int
		code       string
		kept       bool
	}{
		{"plain", track, nil, 200, "", false},
		{"text", track, []option{header("Content-Type", "text/plain;charset=UTF-8")}, 200, "", false},
		{"gzip", packed, []option{header("Content-Encoding", "gzip")}, 200, "", false},
		{"gzip as a form, not labelled", packed, []option{header("Content-Type", "application/x-www-form-urlencoded")}, 200, "", false},
		{"plain, labelled gzip", track, []option{header("Content-Encoding", "gzip")}, 200, "", false},
		{"byte order mark and space", "\xef\xbb\xbf \r\n" + track + "\n\t", nil, 200, "", false},
		{"gzip cut off", packed[:len(packed)-6], nil, 400, "invalid_gzip", true},
		{"gzip with a broken checksum", packed[:len(packed)-8] + "12345678", nil, 400, "invalid_gzip", true},
		{"two bytes of gzip", "\x1f\x8b", nil, 400, "invalid_gzip", true},
		{"gzip of gzip", gzipped(t, packed), nil, 400, "invalid_json", true},
		{"empty", "", nil, 400, "invalid_json", false},
		{"gzip of nothing", gzipped(t, ""), nil, 400, "invalid_json", false},
		{"cut off", track[:40], nil, 400, "invalid_json", true},
		{"two values", track + track, nil, 400, "invalid_json", true},
		{"garbage", "\x00\x01\x02", nil, 400, "invalid_json", true},
		{"deep beyond all reason", strings.Repeat("[", 100_000), nil, 400, "invalid_json", true},
		{"a form", "data=eyJ9", nil, 400, "invalid_json", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			a := f.post("/v1/track", tt.body, append(tt.options, basic(writeKey))...)
			require.Equal(t, tt.status, a.status, a.text)
			require.Equal(t, tt.code, a.body.Code)
			got := f.got.all()
			require.Equal(t, tt.status == 200, len(got.GetEvents()) == 1)
			require.Equal(t, tt.kept, len(got.GetQuarantined()) == 1)
			if tt.kept {
				require.Equal(t, tt.code, got.GetQuarantined()[0].GetCode())
				require.Empty(t, sharedValidator().Check(got.GetQuarantined()[0]))
			}
			// Without a key in the head nobody can say whose garbage it is.
			if tt.status == 400 {
				g := newFixture(t)
				require.Equal(t, 400, g.post("/v1/track", tt.body, header("A", "b")).status)
				require.Empty(t, g.got.all().GetQuarantined())
			}
		})
	}
}

func TestBombIsCutOff(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err := z.Write(make([]byte, 8<<20))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.Less(t, bomb.Len(), web.MaxBodyBytes)
	// Who unpacks it to the end finds that its checksum is wrong.
	bomb.Truncate(bomb.Len() - 8)
	bomb.WriteString("12345678")
	f := newFixture(t)
	a := f.post("/v1/batch", bomb.String())
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status)
	require.Equal(t, "body_too_large", a.body.Code)
	require.Empty(t, f.got.all().GetQuarantined())
}

func serve(t *testing.T, f *fixture) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(f.handler)
	t.Cleanup(server.Close)
	return server
}

func TestOverARealConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	server := serve(t, f)
	client := server.Client()
	post := func(body io.Reader) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/batch", body)
		require.NoError(t, err)
		r.SetBasicAuth(writeKey, "")
		res, err := client.Do(r)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	// Chunked, without a length.
	require.Equal(t, 200, post(io.MultiReader(strings.NewReader(`{"batch":[`+track), strings.NewReader(`]}`))))
	// Endless, without a length: cut off at the limit.
	require.Equal(t, http.StatusRequestEntityTooLarge, post(io.LimitReader(zeroes{}, 4<<20)))
	// Too long by its own account: not even read.
	require.Equal(t, http.StatusRequestEntityTooLarge, post(strings.NewReader(strings.Repeat(" ", 700<<10))))
	require.Equal(t, 200, post(strings.NewReader(`{"batch":[`+track+`]}`)))
	require.Len(t, f.got.all().GetEvents(), 2)
}

// zeroes never end.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestSlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *web.Config) { c.ReadTimeout = 50 * time.Millisecond })
	server := serve(t, f)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /v1/track?writeKey=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"user", writeKey)
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusRequestTimeout, res.StatusCode)
	require.Empty(t, f.got.all().GetQuarantined())
}

func TestBodyThatEndsEarly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	server := serve(t, f)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /v1/track?writeKey=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n%s", writeKey, track)
	require.NoError(t, err)
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	require.NoError(t, tcp.CloseWrite())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Empty(t, f.got.all().GetEvents(), "half a body is none, also where the half is whole JSON")
}

func TestCORS(t *testing.T) {
	t.Parallel()
	anyone := newFixture(t)
	listed := newFixture(t, func(c *web.Config) { c.AllowedOrigins = []string{"https://Shop.example.com", "https://b.example/"} })
	preflight := func(f *fixture, origin string) answer {
		return f.send(http.MethodOptions, "/v1/t", "", header("Origin", origin),
			header("Access-Control-Request-Method", "POST"), header("Access-Control-Request-Headers", "authorization,content-type,x-retry-count"))
	}
	a := preflight(anyone, "https://shop.example.com")
	require.Equal(t, http.StatusNoContent, a.status)
	require.Equal(t, "https://shop.example.com", a.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "authorization,content-type,x-retry-count", a.header.Get("Access-Control-Allow-Headers"))
	require.Contains(t, a.header.Get("Access-Control-Allow-Methods"), "POST")
	require.Equal(t, "true", a.header.Get("Access-Control-Allow-Credentials"))
	require.NotEmpty(t, a.header.Get("Access-Control-Max-Age"))
	require.Contains(t, a.header.Values("Vary"), "Origin")

	a = anyone.send(http.MethodOptions, "/v1/batch", "", header("Origin", "null"), header("Access-Control-Request-Headers", "a\x01b"))
	require.Empty(t, a.header.Get("Access-Control-Allow-Headers"))
	require.Equal(t, http.StatusNoContent, anyone.send(http.MethodOptions, "/v1/batch", "", header("A", "b")).status)

	// A beacon: no preflight, the key in query or body, a label that means nothing.
	a = anyone.post("/v1/t?writeKey="+writeKey, track, header("Origin", "https://shop.example.com"), header("Content-Type", "text/plain"))
	require.Equal(t, 200, a.status)
	require.Equal(t, "https://shop.example.com", a.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "Retry-After", a.header.Get("Access-Control-Expose-Headers"))
	// Errors are for the page to see, too.
	a = anyone.post("/v1/t", track, header("Origin", "https://shop.example.com"), basic("nope"))
	require.Equal(t, 401, a.status)
	require.Equal(t, "https://shop.example.com", a.header.Get("Access-Control-Allow-Origin"))
	// Without an origin there is nothing to allow.
	require.Empty(t, anyone.post("/v1/t", track).header.Get("Access-Control-Allow-Origin"))

	for _, origin := range []string{"https://shop.example.com", "https://b.example"} {
		require.Equal(t, http.StatusNoContent, preflight(listed, origin).status)
		require.Equal(t, 200, listed.post("/v1/t", track, header("Origin", origin), basic(writeKey)).status)
	}
	listed.got.take()
	for _, origin := range []string{"https://evil.example", "http://shop.example.com", "https://shop.example.com.evil.example", "null"} {
		a = preflight(listed, origin)
		require.Equal(t, http.StatusForbidden, a.status)
		require.Empty(t, a.header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, http.StatusForbidden, listed.post("/v1/t", track, header("Origin", origin), basic(writeKey)).status)
		require.Equal(t, http.StatusForbidden, listed.send(http.MethodGet, "/v1/projects/"+writeKey+"/settings", "", header("Origin", origin)).status)
	}
	require.Empty(t, listed.got.all().GetEvents())
	require.Equal(t, 200, listed.post("/v1/t", track).status, "a server has no origin")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.send(http.MethodGet, "http://t.example.com:7380/v1/projects/"+writeKey+"/settings", "", header("Origin", "https://shop.example.com"))
	require.Equal(t, 200, a.status)
	require.Equal(t, "https://shop.example.com", a.header.Get("Access-Control-Allow-Origin"))
	var got struct {
		Integrations map[string]struct {
			APIKey, APIHost, Protocol string
		}
		Plan    map[string]any
		Metrics struct{ SampleRate *float64 }
	}
	require.NoError(t, json.Unmarshal([]byte(a.text), &got))
	io := got.Integrations["Segment.io"]
	require.Equal(t, writeKey, io.APIKey)
	require.Equal(t, "t.example.com:7380/v1", io.APIHost)
	require.Equal(t, "http", io.Protocol)
	require.Contains(t, got.Plan, "track")
	require.Zero(t, *got.Metrics.SampleRate)
	require.NotContains(t, a.text, "null")

	a = f.send(http.MethodGet, "http://t.example.com/v1/projects/"+writeKey+"/settings", "", header("X-Forwarded-Proto", "https"))
	require.Contains(t, a.text, `"protocol":"https"`)
	require.Equal(t, http.StatusNotFound, f.send(http.MethodGet, "/v1/projects/nope/settings", "").status)

	g := newFixture(t, func(c *web.Config) { c.PublicURL = "https://t.example.com/collect/" })
	a = g.send(http.MethodGet, "http://10.0.0.1/v1/projects/"+writeKey+"/settings", "")
	require.Contains(t, a.text, `"apiHost":"t.example.com/collect/v1","protocol":"https"`)
}

func TestAddressOfThePerson(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("10.0.0.0/8")}
	for _, tt := range []struct {
		name      string
		trust     bool
		forwarded string
		browser   bool
		want      string
	}{
		{"browser", false, "203.0.113.5", true, "198.51.100.7"},
		{"server", false, "", false, ""},
		{"behind a proxy", true, "203.0.113.5", true, "203.0.113.5"},
		{"behind two", true, "203.0.113.5, 10.1.2.3", true, "203.0.113.5"},
		{"what the client claims is not believed", true, "1.2.3.4, 203.0.113.5, 10.1.2.3", true, "203.0.113.5"},
		{"garbage", true, "x, 10.1.2.3", true, "10.1.2.3"},
		{"nothing", true, "", true, "198.51.100.7"},
		{"mapped", true, "::ffff:203.0.113.5", true, "203.0.113.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, func(c *web.Config) {
				if tt.trust {
					c.TrustedProxies = proxies
				}
			})
			options := []option{basic(writeKey), header("User-Agent", "agent\xff")}
			if tt.forwarded != "" {
				options = append(options, header("X-Forwarded-For", tt.forwarded))
			}
			if tt.browser {
				options = append(options, header("Origin", "https://a.example"))
			}
			require.Equal(t, 200, f.post("/v1/page", `{"anonymousId":"a"}`, options...).status)
			page := f.one().GetPayload().GetPageViewed()
			require.Equal(t, tt.want, page.GetIpAddress())
			require.Equal(t, tt.browser, page.GetUserAgent() == "agent\uFFFD")
		})
	}
}
