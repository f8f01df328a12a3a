package web_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzBody: whatever comes, the gateway does not panic, answers with JSON, keeps
// what it does not understand, and hands on only events that are valid.
func FuzzBody(f *testing.F) {
	files, err := filepath.Glob("testdata/calls/*.json")
	require.NoError(f, err)
	paths := []string{"track", "page", "screen", "identify", "group", "alias", "batch"}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		var in given
		require.NoError(f, json.Unmarshal(text, &in))
		for i, path := range paths {
			if in.Path == "/v1/"+path {
				f.Add(uint8(i), []byte(in.Body))
			}
		}
	}
	f.Add(uint8(0), []byte(gzipped(f, track)))
	f.Add(uint8(6), []byte("\x1f\x8b\x08"))
	f.Add(uint8(6), []byte(`{"batch":[{"type":"identify","userId":"\u0000","traits":{"\u0000":"\ud800","email":"a@b"}}],"context":{"page":1}}`))
	f.Add(uint8(0), []byte(`{"userId":-0.5e3,"event":"Order Completed","properties":{"currency":"eur","total":-1e9,"products":[{"price":1e99}]}}`))
	f.Add(uint8(1), []byte(`{"userId":"u","context":{"page":{"url":"%","referrer":"https://[::1","search":"?utm_source=%"},"sessionId":""}}`))
	fixture := newFixture(f)
	f.Fuzz(func(t *testing.T, path uint8, body []byte) {
		fixture.t = t
		fixture.log.Reset()
		a := fixture.post("/v1/"+paths[int(path)%len(paths)], string(body))
		got := fixture.got.take()
		for _, ev := range got.GetEvents() {
			if broken := sharedValidator().Check(ev); len(broken) > 0 {
				t.Fatalf("%q gives an invalid event: %v", body, broken)
			}
		}
		for _, q := range got.GetQuarantined() {
			if broken := sharedValidator().Check(q); len(broken) > 0 {
				t.Fatalf("%q gives an invalid body in quarantine: %v", body, broken)
			}
		}
		if !slices.Contains([]int{http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge}, a.status) {
			t.Fatalf("%q: status %d", body, a.status)
		}
		if len(a.body.Rejected) > len(got.GetQuarantined()) {
			t.Fatalf("%q: %d rejected, %d kept", body, len(a.body.Rejected), len(got.GetQuarantined()))
		}
		// The same again is the same, where the client gave it an id.
		again := fixture.post("/v1/"+paths[int(path)%len(paths)], string(body))
		repeated := fixture.got.take()
		if again.status != a.status || len(repeated.GetEvents()) != len(got.GetEvents()) {
			t.Fatalf("%q: another answer the second time", body)
		}
		for i, ev := range got.GetEvents() {
			other := repeated.GetEvents()[i]
			if string(ev.GetContentDigest()) != string(other.GetContentDigest()) {
				t.Fatalf("%q: another digest the second time", body)
			}
		}
	})
}
