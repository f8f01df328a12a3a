package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestSafeName(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"bill.pdf":              "01-bill.pdf",
		"":                      "01-attachment",
		"../../etc/passwd":      "01-passwd",
		`C:\Users\x\evil.exe`:   "01-evil.exe",
		"a\x1b[31mred\x07.txt":  "01-a[31mred.txt",
		"...":                   "01-attachment",
		"Rechnung März.pdf":     "01-Rechnung März.pdf",
		"exe.\u202efdp.invoice": "01-exe.fdp.invoice",
		"bad\xff.txt":           "01-bad.txt",
	} {
		require.Equal(t, want, safeName(said, 0), "%q", said)
	}
	long := safeName(strings.Repeat("ä", 300)+".pdf", 11)
	require.LessOrEqual(t, len(long), maxNameBytes+3)
	require.True(t, utf8.ValidString(long))
	require.True(t, strings.HasSuffix(long, ".pdf"))
	require.True(t, strings.HasPrefix(long, "12-"))
}
