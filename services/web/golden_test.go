package web_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// given is a file of testdata/calls: a request.
type given struct {
	// Path under the gateway, for example /v1/track.
	Path string `json:"path"`
	// Header of the request besides the write key.
	Header map[string]string `json:"header"`
	// Body as it is sent.
	Body json.RawMessage `json:"body"`
	// Status that is answered.
	Status int `json:"status"`
}

// Each testdata/calls/<name>.json is a request, and <name>.golden.json the IngressBatch
// that it becomes.
func TestCallsBecomeEvents(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/calls/*.json")
	require.NoError(t, err)
	count := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".golden.json") {
			continue
		}
		count++
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var in given
			require.NoError(t, json.Unmarshal(text, &in))
			f := newFixture(t)
			options := append(make([]option, 0, 1+len(in.Header)), basic(writeKey))
			for name, value := range in.Header {
				options = append(options, header(name, value))
			}
			var compact bytes.Buffer
			require.NoError(t, json.Compact(&compact, in.Body))
			a := f.post(in.Path, compact.String(), options...)
			want := in.Status
			if want == 0 {
				want = http.StatusOK
			}
			require.Equal(t, want, a.status, a.text)
			got := f.got.all()
			for _, ev := range got.GetEvents() {
				require.Empty(t, sharedValidator().Check(ev))
			}
			golden := strings.TrimSuffix(file, ".json") + ".golden.json"
			if *update {
				writeGolden(t, golden, got)
			}
			text, err = os.ReadFile(golden)
			require.NoError(t, err)
			var expected interactionv1.IngressBatch
			require.NoError(t, protojson.Unmarshal(text, &expected))
			require.Empty(t, cmp.Diff(&expected, got, protocmp.Transform()))
		})
	}
	require.Greater(t, count, 15)
}

func writeGolden(t *testing.T, file string, batch *interactionv1.IngressBatch) {
	t.Helper()
	text, err := protojson.Marshal(batch)
	require.NoError(t, err)
	var b bytes.Buffer
	// The marshaller varies its spaces on purpose.
	require.NoError(t, json.Compact(&b, text))
	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, b.Bytes(), "", "  "))
	indented.WriteByte('\n')
	require.NoError(t, os.WriteFile(file, indented.Bytes(), 0o600))
}
