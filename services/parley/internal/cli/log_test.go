package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/services/parley/internal/cli"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

// logHouse is a folder with data directories.
type logHouse struct {
	*testing.T
	dir string
}

func newLogHouse(t *testing.T) *logHouse { return &logHouse{T: t, dir: t.TempDir()} }

func (h *logHouse) path(name string) string { return filepath.Join(h.dir, name) }

// with opens the log of a data directory.
func (h *logHouse) with(name string, f func(log *serve.DataLog)) {
	h.Helper()
	log, err := serve.OpenDataLog(h.path(name), serve.DataLogOptions{Create: true, Logger: slog.New(slog.DiscardHandler), Now: clock})
	require.NoError(h, err)
	defer func() { require.NoError(h, log.Close()) }()
	f(log)
}

// fill appends records from a revision on to each of two streams.
func (h *logHouse) fill(name string, from, count int) {
	h.Helper()
	h.with(name, func(log *serve.DataLog) {
		for i := range count {
			for _, stream := range []string{"acme.web-b-1", "acme.email-x"} {
				revision := eventstore.Revision(from + i)
				id := uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s %d", stream, revision))
				_, err := log.Append(h.Context(), stream, revision-1, eventstore.NewRecord{ID: id, Type: "parley.page.viewed", Data: []byte{byte(i)}})
				require.NoError(h, err)
			}
		}
	})
}

var (
	uuids   = regexp.MustCompile(`[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}`)
	folders = regexp.MustCompile(`/\S*/(one|other|third)\b`)
)

// fixed replaces what is another one in every run.
func (h *logHouse) fixed(text string) string {
	text = strings.ReplaceAll(text, h.dir+"/", "DIR/")
	return uuids.ReplaceAllString(folders.ReplaceAllString(text, "DIR/$1"), "UUID")
}

func (h *logHouse) log(args ...string) result {
	h.Helper()
	return run(h.T, append([]string{"log"}, args...)...)
}

func TestLogCopy(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	h.fill("one", 0, 40)
	ends := []string{"--from", h.path("one"), "--to", h.path("other")}
	for _, step := range []struct {
		golden  string
		prepare func()
		args    []string
		code    int
	}{
		{golden: "log_copy", args: append([]string{"copy"}, ends...)},
		{golden: "log_copy_again", args: append([]string{"copy", "--no-verify"}, ends...)},
		{golden: "log_verify", args: append([]string{"verify"}, ends...)},
		{golden: "log_verify_json", args: append([]string{"verify", "-o", "json"}, ends...)},
		{golden: "log_verify_missing", prepare: func() { h.fill("one", 40, 2) }, args: append([]string{"verify"}, ends...), code: cli.ExitFailed},
		{golden: "log_verify_missing_json", args: append([]string{"verify", "-o", "json"}, ends...), code: cli.ExitFailed},
		{golden: "log_copy_json", args: append([]string{"copy", "-o", "json"}, ends...)},
		{golden: "log_verify_more", prepare: func() { h.fill("other", 42, 1) }, args: append([]string{"verify"}, ends...)},
	} {
		if step.prepare != nil {
			step.prepare()
		}
		r := h.log(step.args...)
		require.Equal(t, step.code, r.code, "%s: %s", step.golden, r.stderr)
		golden(t, step.golden, h.fixed(r.stdout))
		if step.golden == "log_copy" {
			golden(t, "log_copy_stderr", h.fixed(r.stderr))
		}
		if strings.HasSuffix(step.golden, "_json") {
			require.True(t, json.Valid([]byte(r.stdout)))
		}
	}
	r := h.log(append([]string{"copy"}, ends...)...)
	require.Equal(t, cli.ExitFailed, r.code)
	golden(t, "log_copy_in_use", h.fixed(r.stderr))
}

// TestLogCopyOnATerminal draws a bar, and leaves nothing of it.
func TestLogCopyOnATerminal(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	h.fill("one", 0, 30)
	r := with{terminal: true, environ: []string{"LC_ALL=C.UTF-8"}}.run(t, "log", "copy", "--from", h.path("one"), "--to", h.path("other"))
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stderr, "█")
	require.Contains(t, r.stderr, "copying: 100.0 %, 60 records")
	require.Contains(t, r.stderr, "comparing: 100.0 %, 60 records")
	s := shownOn(t, 80, 24, r.stderr)
	require.Equal(t, "\n", s.text())
	require.False(t, s.hidden)
}

func TestLogCopyFollows(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	h.fill("one", 0, 30)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := with{ctx: ctx, stdout: &syncBuffer{}, stderr: &syncBuffer{}}
	ended := make(chan result, 1)
	go func() { ended <- w.run(t, "log", "copy", "--follow", "--from", h.path("one"), "--to", h.path("other")) }()
	require.Eventually(t, func() bool { return strings.Contains(w.stderr.String(), "caught up, 60 records") }, deadline, time.Millisecond)
	require.Empty(t, w.stdout.String())
	cancel()
	select {
	case r := <-ended:
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		golden(t, "log_copy_follow", h.fixed(r.stdout))
	case <-time.After(deadline):
		require.Fail(t, "does not end")
	}
}

func TestLogCopyInterrupted(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	h.fill("one", 0, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := with{ctx: ctx}.run(t, "log", "copy", "--from", h.path("one"), "--to", h.path("other"))
	require.Equal(t, cli.ExitFailed, r.code)
	require.Empty(t, r.stdout)
	golden(t, "log_copy_interrupted", h.fixed(r.stderr))
}

// TestLogCopyBringsSecrets has the names of profiles be the same over the copy.
func TestLogCopyBringsSecrets(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	h.fill("one", 0, 1)
	for name, content := range map[string]string{"secret": "a secret", "secret-id": "its id", "blob-secret": "another"} {
		require.NoError(t, os.WriteFile(filepath.Join(h.path("one"), name), []byte(content), 0o600))
	}
	for range 2 {
		r := h.log("copy", "--from", h.path("one"), "--to", h.path("other"))
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		for name, want := range map[string]string{"secret": "a secret", "secret-id": "its id", "blob-secret": "another"} {
			got, err := os.ReadFile(filepath.Join(h.path("other"), name))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
	}
	h.with("third", func(*serve.DataLog) {})
	require.NoError(t, os.WriteFile(filepath.Join(h.path("third"), "secret-id"), []byte("of another"), 0o600))
	r := h.log("copy", "--from", h.path("one"), "--to", h.path("third"))
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "who is who would be lost")
}

// TestLogCopyOverTheWire moves a log into an EventStoreDB and back.
func TestLogCopyOverTheWire(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	h.fill("one", 0, 20)
	h.with("server", func(behind *serve.DataLog) {
		url := esdbservertest.Start(t, esdbserver.Config{Store: behind})
		for _, args := range [][]string{
			{"copy", "--from", h.path("one"), "--to", url},
			{"verify", "--from", h.path("one"), "--to", url},
			{"copy", "--from", url, "--to", h.path("other")},
		} {
			r := h.log(args...)
			require.Equal(t, cli.ExitDone, r.code, r.stderr)
			require.Contains(t, r.stdout, "the same on both sides")
		}
	})
	r := h.log("copy", "--from", h.path("one"), "--to", "esdb://anna:geheim@127.0.0.1:1?tls=false&defaultDeadline=200")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "--to esdb://127.0.0.1:1")
	require.NotContains(t, r.stderr, "geheim")
}

func TestLogRefusals(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	h.fill("one", 0, 1)
	h.fill("other", 0, 1)
	require.NoError(t, os.MkdirAll(h.path("pictures"), 0o750))
	require.NoError(t, os.WriteFile(h.path("pictures")+"/cat.jpg", nil, 0o600))
	for name, tc := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"nothing said":       {[]string{"copy"}, cli.ExitUsage, []string{"--from is missing", "./parley-data"}},
		"half said":          {[]string{"verify", "--from", h.path("one")}, cli.ExitUsage, []string{"--to is missing"}},
		"a scheme":           {[]string{"copy", "--from", "postgres://u:geheim@x", "--to", "y"}, cli.ExitUsage, []string{"postgres:// is neither"}},
		"the same":           {[]string{"copy", "--from", h.path("one"), "--to", h.path("one") + "/"}, cli.ExitUsage, []string{"are the same"}},
		"a form":             {[]string{"copy", "-o", "xml"}, cli.ExitUsage, []string{"table and json"}},
		"impatient":          {[]string{"copy", "--patience", "-1s", "--from", "a", "--to", "b"}, cli.ExitUsage, []string{"--patience"}},
		"arguments":          {[]string{"copy", "a", "b"}, cli.ExitUsage, []string{"takes no arguments"}},
		"nothing there":      {[]string{"copy", "--from", h.path("nowhere"), "--to", h.path("new")}, cli.ExitFailed, []string{"--from " + h.path("nowhere"), "there is no log in it"}},
		"something else":     {[]string{"copy", "--from", h.path("one"), "--to", h.path("pictures")}, cli.ExitFailed, []string{"--to " + h.path("pictures"), "cat.jpg", "choose"}},
		"foreign":            {[]string{"copy", "--from", h.path("one"), "--to", h.path("other")}, cli.ExitFailed, []string{"it is not empty", "copy into an empty event store"}},
		"nothing to compare": {[]string{"verify", "--from", h.path("one"), "--to", h.path("new")}, cli.ExitFailed, []string{"--to " + h.path("new"), "there is no log in it"}},
	} {
		r := h.log(tc.args...)
		require.Equal(t, tc.code, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stdout, name)
		for _, want := range tc.want {
			require.Contains(t, r.stderr, want, name)
		}
		require.NotContains(t, r.stderr, "geheim", name)
		require.NotContains(t, r.stderr, "--data-dir", name)
	}
	require.NoFileExists(t, h.path("nowhere"))
	require.NoFileExists(t, h.path("new"))
	h.with("one", func(*serve.DataLog) {
		r := h.log("copy", "--from", h.path("one"), "--to", h.path("new"))
		require.Equal(t, cli.ExitFailed, r.code)
		require.Contains(t, r.stderr, "in use by another parley")
	})
}

func TestLogHelp(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"log_help": {"log"}, "log_copy_help": {"log", "copy", "--help"}, "log_verify_help": {"log", "verify", "--help"}} {
		r := run(t, args...)
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		golden(t, name, r.stdout)
	}
}
