package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestCorrect(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := received.Add
	for _, tt := range []struct {
		name       string
		said, sent time.Time
		retry      bool
		want       time.Time
		corrected  bool
	}{
		{"not said when sent", at(-time.Hour), time.Time{}, false, at(-time.Hour), false},
		{"as good as right", at(-time.Hour), at(-5 * time.Second), false, at(-time.Hour), false},
		{"behind", at(-2 * time.Hour), at(-time.Hour), false, at(-time.Hour), true},
		{"ahead", at(time.Hour), at(2 * time.Hour), false, at(-time.Hour), true},
		{"just off", at(-time.Minute), at(-5*time.Second - time.Nanosecond), false, at(-time.Minute + 5*time.Second + time.Nanosecond), true},
		{"a year and a day", at(-367 * 24 * time.Hour), at(-367 * 24 * time.Hour), false, at(-367 * 24 * time.Hour), false},
		{"happened after it was sent", at(time.Hour), at(-time.Hour), false, at(time.Hour), false},
		{"just after it was sent", at(-time.Hour + time.Minute), at(-time.Hour), false, at(time.Minute), true},
		{"an old sentAt of a retry", at(-2 * time.Hour), at(-time.Hour), true, at(-2 * time.Hour), false},
		{"a clock ahead, retried", at(time.Hour), at(2 * time.Hour), true, at(-time.Hour), true},
		{"year 1 sent", at(0), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), false, at(0), false},
		{"year 9999 sent", at(0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), false, at(0), false},
	} {
		got, corrected := correct(tt.said, tt.sent, received, tt.retry)
		require.Equal(t, tt.want, got, tt.name)
		require.Equal(t, tt.corrected, corrected, tt.name)
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for raw, want := range map[string]time.Time{
		`"2026-01-02T03:04:05Z"`:           day,
		`"2026-01-02T03:04:05.000000000Z"`: day,
		`"2026-01-02T05:04:05+02:00"`:      day,
		`"2026-01-02T05:04:05+0200"`:       day,
		`"2026-01-02T03:04:05"`:            day,
		`"2026-01-02 03:04:05"`:            day,
		`"2026-01-02 03:04:05Z"`:           day,
		`"2026-01-02"`:                     day.Truncate(24 * time.Hour),
		`1767323045`:                       day,
		`1767323045000`:                    day,
		`1767323045.5`:                     day.Add(500 * time.Millisecond),
		`1.767323045e12`:                   day,
		`-1`:                               time.Unix(-1, 0).UTC(),
		`"9999-12-31T23:59:59.999Z"`:       time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC),
	} {
		got, ok := parseTime(raw)
		require.True(t, ok, raw)
		require.Equal(t, want, got, raw)
	}
	for _, raw := range []string{
		`""`, `"now"`, `"2026-13-01T00:00:00Z"`, `true`, `{}`, `[]`, `null`, `1e400`, `99999999999999999999`, `9999999999999999`,
		`"` + strings.Repeat("2", 100) + `"`, `"10000-01-01T00:00:00Z"`,
	} {
		_, ok := parseTime(raw)
		require.False(t, ok, raw)
	}
}

func TestMarketingChannels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		source, medium, click, referrer, want string
	}{
		{"google", "cpc", "", "", "paid_search"},
		{"google", "CPC", "gclid", "www.google.com", "paid_search"},
		{"facebook", "cpc", "", "", "paid_social"},
		{"facebook.com", "paid_social", "fbclid", "", "paid_social"},
		{"instagram", "Social Media", "", "", "social"},
		{"crm", "E-Mail", "", "", "email"},
		{"", "newsletter", "", "", "email"},
		{"network", "display", "", "", "display"},
		{"partner", "affiliate", "", "", "affiliate"},
		{"x", "organic", "", "", "organic_search"},
		{"other.example", "referral", "", "", "referral"},
		{"crm", "sms", "", "", "sms"},
		{"bing", "weird", "", "", "organic_search"},
		{"bing", "weird", "msclkid", "", "paid_search"},
		{"newsletter", "", "", "", "email"},
		{"linkedin", "", "", "", "social"},
		{"(direct)", "(none)", "", "", "direct"},
		{"someone", "", "", "", "other"},
		{"someone", "(none)", "", "", "other"},
		{"", "", "gclid", "", "paid_search"},
		{"", "", "fbclid", "l.facebook.com", "social"},
		{"", "", "", "www.google.co.uk", "organic_search"},
		{"", "", "", "mail.google.com", "email"},
		{"", "", "", "com.google.android.gm", "email"},
		{"", "", "", "duckduckgo.com", "organic_search"},
		{"", "", "", "t.co", "social"},
		{"", "", "", "t.example.com", "referral"},
		{"", "", "", "x.com", "social"},
		{"", "", "", "x.org", "referral"},
		{"", "", "", "old.reddit.com", "social"},
		{"", "", "", "direct.co.uk", "referral"},
		{"", "", "", "google.evil.example", "referral"},
		{"", "", "", "blog.example", "referral"},
	} {
		got := marketingChannel(&campaign{source: tt.source, medium: tt.medium}, &clickID{kind: tt.click}, tt.referrer)
		require.Equal(t, tt.want, got, "%+v", tt)
	}
	require.Equal(t, channelOther, marketingChannel(&campaign{name: "spring"}, &clickID{}, "www.google.com"))
}

func TestTouchpoints(t *testing.T) {
	t.Parallel()
	mp := &Mapper{ignored: []string{"paypal.com"}}
	at := func(url, referrer string) *pageContext { return &pageContext{url: url, referrer: referrer} }
	page := &message{kind: kindPage}
	for referrer, host := range map[string]string{
		"https://www.google.com/":                 "www.google.com",
		"https://shop.example.com/a":              "",
		"https://WWW.EXAMPLE.com:8443/":           "",
		"https://www.paypal.com/pay":              "",
		"https://notpaypal.com/":                  "notpaypal.com",
		"android-app://com.google.android.gm/":    "com.google.android.gm",
		"":                                        "",
		"::not a url":                             "",
		"https://example.com.evil.example/":       "example.com.evil.example",
		"https://xn--mnchen-3ya.example:99/x?y=z": "xn--mnchen-3ya.example",
	} {
		got := mp.touchpoint(page, at("https://shop.example.com/", referrer))
		require.Equal(t, host != "", got != nil, referrer)
		require.Equal(t, host, got.GetReferrerHost(), referrer)
	}
	require.Nil(t, mp.touchpoint(page, at("", "https://www.google.com/")), "nobody can tell whether it is another site")
	require.Nil(t, mp.touchpoint(page, at("http://localhost:3000/b", "http://localhost:3000/a")))
	require.Nil(t, mp.touchpoint(page, at("http://10.0.0.1/b", "http://10.0.0.1:81/a")))

	got := mp.touchpoint(page, at("https://a.example/x?FBCLID=f1&msclkid=m1&gclid=#utm_source=no", ""))
	require.Equal(t, "msclkid", got.GetClickIdKind())
	require.Equal(t, "m1", got.GetClickId())
	require.Empty(t, got.GetSource())
	require.Equal(t, "/x", got.GetLandingPath())
	got = mp.touchpoint(page, &pageContext{search: "utm_source=a%zz&utm_medium=b+c"})
	require.Equal(t, "a%zz", got.GetSource())
	require.Equal(t, "b c", got.GetMedium())
	// The context knows better than the address.
	page = &message{kind: kindPage, context: callContext{campaign: campaign{source: "said"}}}
	got = mp.touchpoint(page, at("https://a.example/?utm_source=other&utm_term=t", ""))
	require.Equal(t, "said", got.GetSource())
	require.Empty(t, got.GetTerm())
	// In a browser the page call has told it.
	track := &message{kind: kindTrack, context: callContext{campaign: campaign{source: "s"}, page: pageContext{path: "/"}}}
	require.Nil(t, mp.touchpoint(track, &track.context.page))
	track.context.page = pageContext{}
	require.NotNil(t, mp.touchpoint(track, &track.context.page))
	require.Nil(t, mp.touchpoint(&message{kind: kindIdentify, context: track.context}, &pageContext{}))
	screen := &message{kind: kindScreen, context: callContext{referrerLink: "https://www.facebook.com/"}}
	require.Equal(t, "social", mp.touchpoint(screen, &pageContext{}).GetMarketingChannel())
}

func TestPreviousKind(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"3f1b5a8e-6f0a-4f7e-9a65-0c2d3e4f5a6b": "anonymous_id", "anon-1": "anonymous_id", "4711": "anonymous_id",
		"ada@example.com": "email", "@x": "anonymous_id", "a b@c": "anonymous_id",
		"+43 664 1234567": "phone", "+1": "anonymous_id", "+abcdefghi": "anonymous_id",
	} {
		require.Equal(t, want, previousKind(id), id)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	require.Equal(t, "äöü", cut("äöü", 3))
	require.Equal(t, "äö", cut("äöü", 2))
	require.Equal(t, "abc", cut("abc", 9))
	require.Empty(t, cut("ä", 0))
}

func TestWalkIsWhatTheDecoderSays(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `[]`, `{ }`, `[ ]`, `{"a":1}`, ` {"a" : [1, {"b":"\"}]"}] , "c\\":"\\\\" ,"d":null}`, `["a",  "\\", "\\\"", -1.5e3 ,true]`,
		`{"":""}`, `"x"`, `12`, `{"\u0061":{"b":{}}}`,
	} {
		sameWalk(t, []byte(text))
	}
}

// FuzzWalk holds the walk over valid JSON against encoding/json.
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"\\\"",{}],"b":{"c":null}}`, `[ "x" , -0.1e+5 ]`, `{"\\":"\\"}`, `"\ud83d"`, `{"a" : 1 , "a":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { sameWalk(t, data) })
}

func sameWalk(t *testing.T, data []byte) {
	t.Helper()
	data = trimJSON(data)
	err := checkJSON(data)
	if json.Valid(data) != (err == nil) {
		// encoding/json allows what nests deeper than the other decoder, and no less.
		if bytes.Count(data, []byte("{"))+bytes.Count(data, []byte("[")) < 9000 {
			t.Fatalf("%q: %v", data, err)
		}
		return
	}
	if err != nil {
		return
	}
	text := string(data)
	if got := skipValue(text, 0); got != len(text) {
		t.Fatalf("%q: the value ends at %d", text, got)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		t.Fatal(err)
	}
	got, _ := appendCompact(nil, text)
	if !bytes.Equal(got, compact.Bytes()) {
		t.Fatalf("%q: %q", compact.Bytes(), got)
	}
	switch {
	case isObject(text):
		dec := json.NewDecoder(strings.NewReader(text))
		_, _ = dec.Token()
		for name, value := range members(text) {
			token, err := dec.Token()
			// What is not UTF-8 is refused before names are looked at; the decoder replaces it.
			if err != nil || (utf8.Valid(data) && fmt.Sprint(token) != unquote(name)) {
				t.Fatalf("%q: name %q, decoder says %q, %v", text, name, token, err)
			}
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil || string(raw) != value {
				t.Fatalf("%q: value %q, decoder says %q, %v", text, value, raw, err)
			}
		}
		if dec.More() {
			t.Fatalf("%q: the decoder has more members", text)
		}
	case isArray(text):
		var all []json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
		i := 0
		for value := range elements(text) {
			if i >= len(all) || string(all[i]) != value {
				t.Fatalf("%q: element %d is %q", text, i, value)
			}
			i++
		}
		if i != len(all) {
			t.Fatalf("%q: %d elements of %d", text, i, len(all))
		}
	}
}
