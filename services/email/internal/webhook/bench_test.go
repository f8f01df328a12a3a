package webhook_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/webhook"
)

// A parsed request with an attachment of 1 MB, with the rebuilding.
func BenchmarkSendGrid(b *testing.B) {
	pairs := sendGridWithFiles()
	pairs[len(pairs)-1] = strings.Repeat("0123456789abcdef", 1<<16)
	req := webhook.Request{ContentType: typeMulti, Body: multi(pairs...)}
	b.SetBytes(int64(len(req.Body)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := webhook.SendGrid{}.Decode(req)
		require.NoError(b, err)
	}
}
