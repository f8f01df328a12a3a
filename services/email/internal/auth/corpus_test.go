package auth_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/auth"
)

// Real mail of before DKIM and DMARC has no verdict: nothing speaks for it, and
// nothing about its From is amiss.
func TestJudgeCorpus(t *testing.T) {
	t.Parallel()
	root := os.Getenv("PARLEY_SHARED_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "..", "shared", "data")
	}
	files, err := filepath.Glob(filepath.Join(root, "email", "easy_ham", "*"))
	require.NoError(t, err)
	if len(files) == 0 {
		t.Skip("no mails under PARLEY_SHARED_DATA")
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		in := auth.Input{Raw: raw, Report: auth.ReportFromHeaders(raw, []auth.TrustedServer{{AuthservID: "mx.google.com"}})}
		got := auth.Judge(in)
		require.Equal(t, auth.None.String(), got.Verdict.String(), "%s: %s", filepath.Base(name), got.Reason)
		require.NotEmpty(t, got.Authors, filepath.Base(name))
	}
	t.Logf("%d mails", len(files))
}
