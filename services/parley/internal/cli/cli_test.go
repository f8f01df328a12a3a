package cli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/services/parley/internal/cli"
	"github.com/parleyhq/parley/services/parley/internal/demo"
	"github.com/parleyhq/parley/services/parley/internal/process"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock stands still, so that what is shown is the same every time.
func clock() time.Time { return time.Date(2026, 3, 13, 9, 0, 0, 0, time.UTC) }

const deadline = 60 * time.Second

// start serves the demo's day until the test ends and returns where gRPC is.
func start(t *testing.T) string {
	t.Helper()
	s := serve.DefaultSettings()
	s.Storage.DataDir = filepath.Join(t.TempDir(), "data")
	s.Storage.EventStore = config.Location(process.EventStore(t))
	s.Storage.ProfileSecret = "the same in every run of it"
	s.Listen = serve.Listen{GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", SMTP: "127.0.0.1:0", Admin: "127.0.0.1:0", NATS: "127.0.0.1:0"}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan *serve.Running, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Options{
			Settings: s, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Now: clock,
			OnReady: func(ctx context.Context, r *serve.Running) error {
				ctx, cancel := context.WithTimeout(ctx, deadline)
				defer cancel()
				if _, err := demo.Play(ctx, "http://"+r.Addresses.HTTP, serve.DevKey); err != nil {
					return err
				}
				if err := r.Settled(ctx); err != nil {
					return err
				}
				ready <- r
				return nil
			},
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(deadline):
			t.Error("did not stop in time")
		}
	})
	select {
	case r := <-ready:
		return r.Addresses.GRPC
	case err := <-ended:
		ended <- err
		require.NoError(t, err)
	case <-time.After(deadline):
	}
	t.Fatal("did not serve")
	return ""
}

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
}

// runWith runs one command line.
func runWith(t *testing.T, stdin string, environ []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var stdout, stderr syncBuffer
	app := &cli.App{
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr, Environ: environ,
		Now: clock, Location: time.UTC, Random: rand.Reader,
	}
	code := app.Run(ctx, args)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	return runWith(t, "", nil, args...)
}

// syncBuffer may be written to from several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A token holds the log's id, which is drawn anew for every log.
var tokens = regexp.MustCompile(`E[a-zA-Z0-9_-]{41}`)

// golden compares an output with the one kept.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = tokens.ReplaceAllString(got, "TOKEN")
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	if process.Elsewhere(t) {
		got, want = elsewhere.ReplaceAllString(got, "$1"), elsewhere.ReplaceAll(want, []byte("$1"))
	}
	require.Equal(t, string(want), got, "%s; -update writes it anew", path)
}

// elsewhere finds what an event store decides that is in another process: its
// clock is its own, and the order in which streams are written to it, too.
var elsewhere = regexp.MustCompile(`(position "?|"position": "|recorded +|"recordedTime": ")[0-9][-0-9:TZ. ]*`)

func TestCommandsAgainstAServer(t *testing.T) {
	t.Parallel()
	addr := start(t)
	for name, args := range map[string][]string{
		"customer_get_email":    {"customer", "get", "--email", "ADA@example.com"},
		"customer_get_phone":    {"customer", "get", "--phone", "+43 660 123-4567", "-o", "json"},
		"customer_get_user":     {"customer", "get", "--user-id", "u-1006"},
		"customer_get_anon":     {"customer", "get", "--anonymous-id", "b-elif-work"},
		"customer_get_shared":   {"customer", "get", "--user-id", "u-1010"},
		"customer_find":         {"customer", "find", "weber"},
		"customer_find_json":    {"customer", "find", "okafor", "-o", "json"},
		"customer_find_limit":   {"customer", "find", "example", "--limit", "2"},
		"customer_find_nobody":  {"customer", "find", "zzzzzz"},
		"customer_timeline":     {"customer", "timeline", "--email", "ada@example.com"},
		"customer_timeline_one": {"customer", "timeline", "--user-id", "u-1005", "--limit", "1", "--oldest-first", "-o", "json"},
		"customer_timeline_day": {"customer", "timeline", "--user-id", "u-1005", "--since", "2026-03-12T12:00", "--until", "2026-03-12T13:00", "--channel", "web"},
		"events_orders":         {"events", "tail", "--from", "start", "--no-follow", "--type", "parley.order.*"},
		"events_identity":       {"events", "tail", "--from", "start", "--no-follow", "--stream", "identity", "--limit", "3"},
		"events_json":           {"events", "tail", "--from", "start", "--limit", "2", "-o", "json"},
	} {
		r := run(t, append(args, "--addr", addr)...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stderr, name)
		if (strings.HasPrefix(name, "events_") || name == "customer_find_limit") && process.Elsewhere(t) {
			continue // the order of the log shows
		}
		golden(t, name, r.stdout)
	}
}

func TestTailResumesBehindAToken(t *testing.T) {
	t.Parallel()
	addr := start(t)
	all := run(t, "events", "tail", "--from", "start", "--no-follow", "-o", "json", "--addr", addr)
	require.Equal(t, cli.ExitDone, all.code, all.stderr)
	lines := strings.Split(strings.TrimSpace(all.stdout), "\n")
	require.Greater(t, len(lines), 150)
	half := len(lines) / 2
	_, behind, _ := strings.Cut(lines[half-1], `"resumeToken"`)
	token := tokens.FindString(behind)
	rest := run(t, "events", "tail", "--from", token, "--no-follow", "-o", "json", "--addr", addr)
	require.Equal(t, strings.Join(lines[half:], "\n")+"\n", rest.stdout)
}

func TestSendShowAndReadYourWrite(t *testing.T) {
	t.Parallel()
	addr := start(t)
	env := []string{"PARLEY_ADDR=" + addr}
	sent := runWith(t, "", env, "send", "--type", "page", "--user-id", "u-1001", "--set", "path=/hello", "--set", "title=Hello", "--source-id", "by-hand-1", "--occurred", "2026-03-13T08:00:00Z")
	require.Equal(t, cli.ExitDone, sent.code, sent.stderr)
	golden(t, "send_page", sent.stdout)
	again := runWith(t, "", env, "send", "--type", "page", "--user-id", "u-1001", "--set", "path=/hello", "--set", "title=Hello", "--source-id", "by-hand-1", "--occurred", "2026-03-13T08:00:00Z", "-o", "json")
	require.Equal(t, cli.ExitDone, again.code, again.stderr)
	golden(t, "send_again", again.stdout)
	token := tokens.FindString(sent.stdout)
	id := regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).FindString(sent.stdout)
	for name, args := range map[string][]string{
		"send_timeline":    {"customer", "timeline", "--user-id", "u-1001", "--limit", "1", "--token", token},
		"events_show":      {"events", "show", id, "--token", token},
		"events_show_json": {"events", "show", id, "-o", "json"},
	} {
		r := runWith(t, "", env, args...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		golden(t, name, r.stdout)
	}

	other := runWith(t, "", env, "send", "--type", "page", "--user-id", "u-1001", "--set", "path=/changed", "--source-id", "by-hand-1")
	require.Equal(t, cli.ExitFailed, other.code)
	require.Contains(t, other.stderr, "CONTENT_DIFFERS")

	file := filepath.Join(t.TempDir(), "interaction.json")
	whole := `{"sourceId":"by-hand-2","channel":"in_person","identifiers":[{"kind":"email","value":"ada@example.com"}],"payload":{"activityLogged":{"activity":"visit","subject":"Came by"}}}`
	require.NoError(t, os.WriteFile(file, []byte(whole), 0o600))
	for _, args := range [][]string{{"send", "--json", "@" + file}, {"send", "--json", whole}} {
		r := runWith(t, "", env, args...)
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
	}
	r := runWith(t, whole, env, "send", "--json", "@-", "-o", "json")
	require.Contains(t, r.stdout, "RECORD_OUTCOME_DUPLICATE")

	identify := runWith(t, "", env, "send", "--type", "identify", "--user-id", "u-77", "--email", "grace@example.com", "--trait", "firstName=Grace", "--trait", "visits=3")
	require.Equal(t, cli.ExitDone, identify.code, identify.stderr)
	got := runWith(t, "", env, "customer", "get", "--email", "grace@example.com", "--token", tokens.FindString(identify.stdout))
	require.Contains(t, got.stdout, "Grace")
	require.Contains(t, got.stdout, "visits")
}

func TestImport(t *testing.T) {
	t.Parallel()
	addr := start(t)
	file := filepath.Join(t.TempDir(), "history.jsonl")
	var lines strings.Builder
	for i := range 1200 {
		lines.WriteString(`{"type":"track","event":"Visited","userId":"h-` + string(rune('a'+i%26)) + `","timestamp":"2025-01-02T03:04:05Z","messageId":"h` + strings.Repeat("x", i%7) + time.Duration(i).String() + `"}` + "\n")
	}
	require.NoError(t, os.WriteFile(file, []byte(lines.String()), 0o600))
	first := run(t, "import", file, "--addr", addr, "-o", "json")
	require.Equal(t, cli.ExitDone, first.code, first.stderr)
	require.Contains(t, first.stdout, `"recorded": 1200`)
	again := run(t, "import", file, "--addr", addr)
	require.Equal(t, cli.ExitDone, again.code, again.stderr)
	golden(t, "import_again", again.stdout)

	got := run(t, "customer", "get", "--user-id", "h-a", "--addr", addr, "-o", "json", "--token", tokens.FindString(first.stdout))
	require.Contains(t, got.stdout, `"backfill": true`)

	bad := runWith(t, `{"type":"track","event":"Fine","userId":"h-a","timestamp":"2025-01-02T03:04:05Z"}

not JSON
{"type":"track"}
{"type":"track","event":"`+strings.Repeat("x", 2<<20)+`"}
{"type":"page","userId":"h-b","timestamp":"2025-01-02T03:04:05Z"}`, nil, "import", "-", "--addr", addr)
	require.Equal(t, cli.ExitFailed, bad.code)
	golden(t, "import_bad", bad.stdout)
	golden(t, "import_bad_stderr", bad.stderr)

	missing := run(t, "import", filepath.Join(t.TempDir(), "nowhere"), "--addr", addr)
	require.Equal(t, cli.ExitFailed, missing.code)
	require.Contains(t, missing.stderr, "no such file")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	addr := start(t)
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"nobody":   {[]string{"customer", "get", "--email", "nobody@example.com"}, "nobody has the email nobody@example.com"},
		"no id":    {[]string{"customer", "get", "--id", "aaaaaaaaaaaaaaaaaaaaaaaaaa"}, "CUSTOMER_NOT_FOUND"},
		"token":    {[]string{"customer", "get", "--email", "ada@example.com", "--token", "rubbish"}, "INVALID_TOKEN"},
		"event":    {[]string{"events", "show", "rubbish"}, "event_id: "},
		"no event": {[]string{"events", "show", "00000000-0000-4000-8000-000000000000"}, "EVENT_NOT_FOUND"},
		"resume":   {[]string{"events", "tail", "--from", "rubbish"}, "INVALID_TOKEN"},
		"send":     {[]string{"send", "--type", "track", "--user-id", "u"}, "payload.tracked.name"},
	} {
		r := run(t, append(tc.args, "--addr", addr)...)
		require.Equal(t, cli.ExitFailed, r.code, name)
		require.Contains(t, r.stderr, tc.want, name)
		require.Empty(t, r.stdout, name)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"frob"}, `no command "frob"`},
		{[]string{"customer", "gett"}, `no command "gett" under "parley customer"; did you mean "get"?`},
		{[]string{"customer", "get"}, "name the customer by one of"},
		{[]string{"customer", "get", "--email", "a@b.c", "--id", "x"}, "name the customer by one of"},
		{[]string{"customer", "get", "--mail", "x"}, "unknown flag: --mail"},
		{[]string{"customer", "get", "x"}, "takes no arguments"},
		{[]string{"customer", "find", "a"}, "at least 2 characters"},
		{[]string{"customer", "find", "ab", "--limit", "0"}, "--limit 0"},
		{[]string{"customer", "find", "ab", "-o", "xml"}, "there are table and json"},
		{[]string{"customer", "find", "ab", "--timeout", "-1s"}, "--timeout"},
		{[]string{"customer", "timeline", "--id", "x", "--since", "yesterday"}, "--since yesterday"},
		{[]string{"events", "tail", "--limit", "-1"}, "--limit -1"},
		{[]string{"events", "show"}, "name one event"},
		{[]string{"send"}, "say what happened"},
		{[]string{"send", "--type", "frob"}, "there is no such type"},
		{[]string{"send", "--type", "survey.answered"}, "--channel"},
		{[]string{"send", "--type", "page", "--set", "pth=/"}, "there is no such field; there are"},
		{[]string{"send", "--type", "page", "--set", "path"}, "want field=value"},
		{[]string{"send", "--type", "page", "--trait", "a=b"}, "--trait is for"},
		{[]string{"send", "--type", "page", "--direction", "up"}, "--direction up"},
		{[]string{"send", "--type", "page", "--json", "{"}, "--json"},
		{[]string{"send", "--json", "@/nowhere/at/all"}, "no such file"},
		{[]string{"import"}, "name the files"},
		{[]string{"serve", "mail"}, `no service "mail"`},
		{[]string{"serve", "web", "web"}, "named twice"},
		{[]string{"serve", "customer"}, "belong to one process"},
		{[]string{"serve", "--event-store", "sqlite://x"}, "want embedded, or the URL of an EventStoreDB"},
		{[]string{"serve", "log", "recorder"}, "log runs by itself"},
		{[]string{"serve", "recorder", "--event-store", "esdb://x", "--nats", "nats://x"}, "--profile-secret"},
		{[]string{"serve", "--config", "/nowhere/at/all.yaml"}, "--config /nowhere/at/all.yaml: there is no such file"},
		{[]string{"serve", "--config", "testdata/no_configuration"}, "is no configuration"},
		{[]string{"serve", "--nats-replicas", "many"}, "--nats-replicas"},
		{[]string{"key", "new"}, "name: want"},
		{[]string{"key", "new", "--name", "a", "--scope", "root"}, `scope "root"`},
		{[]string{"version", "-o", "xml"}, "there are table and json"},
	} {
		r := run(t, tc.args...)
		require.Equal(t, cli.ExitUsage, r.code, "%v: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.want, "%v", tc.args)
		require.Contains(t, r.stderr, "--help` says how it is used", "%v", tc.args)
		require.Empty(t, r.stdout, "%v", tc.args)
	}
	exposed := run(t, "serve", "--grpc-listen", "0.0.0.0:0")
	require.Equal(t, cli.ExitFailed, exposed.code)
	require.Contains(t, exposed.stderr, "--api-keys")
	r := runWith(t, "", []string{"PARLEY_TIMEOUT=soon"}, "customer", "find", "ab")
	require.Equal(t, cli.ExitUsage, r.code)
	require.Contains(t, r.stderr, "PARLEY_TIMEOUT=soon")
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"customer", "get", "--email", "a@b.c"}, {"events", "tail"}, {"send", "--type", "page", "--user-id", "u"}, {"import", "-"},
	} {
		r := runWith(t, `{"type":"page","userId":"u"}`, nil, append(args, "--addr", "127.0.0.1:1")...)
		require.Equal(t, cli.ExitFailed, r.code)
		require.Contains(t, r.stderr, "Is `parley serve` running at 127.0.0.1:1?", "%v", args)
	}
}

func TestHelpVersionKeyAndConfig(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"serve", "--help"}, {"customer"}, {"customer", "get", "--help"}, {"import", "--help"}, {"completion", "bash"}, {"config"}, {"key"}} {
		r := run(t, args...)
		require.Equal(t, cli.ExitDone, r.code, args)
		require.Contains(t, r.stdout, "parley", args)
	}
	v := run(t, "version")
	require.Equal(t, cli.ExitDone, v.code)
	require.Contains(t, v.stdout, "parley ")
	v = run(t, "version", "-o", "json")
	require.Contains(t, v.stdout, `"go": "go`)

	key := run(t, "key", "new", "--name", "shop", "--tenant", "acme", "--scope", "record,read")
	require.Equal(t, cli.ExitDone, key.code, key.stderr)
	file := filepath.Join(t.TempDir(), "parley.yaml")
	_, settings, _ := strings.Cut(key.stdout, "\n")
	require.NoError(t, os.WriteFile(file, []byte(settings), 0o600), "what it prints is a configuration")
	check := run(t, "config", "check", "--config", file, "--grpc-listen", "0.0.0.0:7300", "--allow-plain-text")
	require.Equal(t, cli.ExitDone, check.code, check.stderr)
	show := run(t, "config", "show", "--config", file)
	require.Contains(t, show.stdout, "name: shop")
	require.Equal(t, cli.ExitFailed, run(t, "config", "check", "--http-listen", ":80").code)
}

// TestInterruptedTail ends as asked to, not as a failure.
func TestInterruptedTail(t *testing.T) {
	t.Parallel()
	addr := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	app := &cli.App{Stdin: strings.NewReader(""), Stdout: writer, Stderr: io.Discard, Now: clock, Location: time.UTC, Random: rand.Reader}
	code := make(chan int, 1)
	go func() {
		code <- app.Run(ctx, []string{"events", "tail", "--from", "start", "--addr", addr})
	}()
	first := make([]byte, 20)
	_, err := io.ReadFull(reader, first)
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	cancel()
	require.Equal(t, cli.ExitDone, <-code)
	require.NoError(t, writer.Close())
}
