package email_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkTake measures reading a mail and making its event, without disk and
// network.
func BenchmarkTake(b *testing.B) {
	for name, raw := range map[string]string{
		"2kB":   plain("bench@customer.example", strings.Repeat("Some words of a letter.\r\n", 60)+"> quoted\r\n-- \r\nAda"),
		"500kB": plain("bench@customer.example", strings.Repeat("Some words of a letter.\r\n", 20_000)),
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, nil)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_, err := r.Take(b.Context(), bySMTP("support@acme.example"), []byte(strings.Replace(raw, "bench@", fmt.Sprintf("%d@", i), 1)))
				require.NoError(b, err)
				r.publisher.batches, r.blobs.kept = nil, nil
			}
		})
	}
}
