package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
)

type door struct {
	Key    string   `key:"key"`
	Tenant string   `key:"tenant"`
	Scopes []string `key:"scopes"`
}

type inner struct {
	// Wait between tries. Defaults to 5s.
	Wait time.Duration `flag:"wait" usage:"wait between tries"`
}

type settings struct {
	// Listen is where. Defaults to 127.0.0.1:1.
	Listen string `flag:"grpc-listen" usage:"where to listen"`
	Inner  inner
	// Verbose defaults to false.
	Verbose bool `flag:"verbose" usage:"say more"`
	// Ratio defaults to 0.5.
	Ratio  float64       `flag:"ratio" usage:"share"`
	Most   int           `flag:"most" usage:"at most"`
	Size   config.Bytes  `flag:"size" usage:"size of it"`
	Token  config.Secret `flag:"token" usage:"secret"`
	Topics []string      `flag:"topics" usage:"which ones"`
	Doors  []door        `flag:"door" usage:"who may come in"`
	// Other is no setting.
	Other string
}

func defaults() settings {
	return settings{Listen: "127.0.0.1:1", Inner: inner{Wait: 5 * time.Second}, Ratio: 0.5, Most: 3, Size: 1 << 20, Doors: []door{{Key: "dev", Tenant: "default"}}}
}

// load fills the settings from all three places.
func load(t *testing.T, file string, env, args []string) (settings, error) {
	t.Helper()
	s := defaults()
	l, err := config.New(&s)
	require.NoError(t, err)
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	l.Bind(flags)
	if file != "" {
		name := filepath.Join(t.TempDir(), "parley.yaml")
		require.NoError(t, os.WriteFile(name, []byte(file), 0o600))
		args = append([]string{"--config", name}, args...)
	}
	require.NoError(t, flags.Parse(args))
	return s, l.Load(env)
}

// TestThreeSpellingsAreEqual gives every setting by flag, by environment and by
// file, and wants the same struct.
func TestThreeSpellingsAreEqual(t *testing.T) {
	t.Parallel()
	texts := map[string]string{
		"grpc-listen": "0.0.0.0:99", "wait": "1m30s", "verbose": "true", "ratio": "0.25", "most": "12",
		"size": "64KiB", "token": "s3cret", "topics": "a,b", "door": "key=k,tenant=acme,scopes=record+read;key=l",
	}
	want := settings{
		Listen: "0.0.0.0:99", Inner: inner{Wait: 90 * time.Second}, Verbose: true, Ratio: 0.25, Most: 12, Size: 64 << 10,
		Token: "s3cret", Topics: []string{"a", "b"}, Doors: []door{{Key: "k", Tenant: "acme", Scopes: []string{"record", "read"}}, {Key: "l"}},
	}
	s := defaults()
	l, err := config.New(&s)
	require.NoError(t, err)
	var file strings.Builder
	var env, args []string
	for _, name := range l.Names() {
		require.Contains(t, texts, name, "every setting is in this test")
		args = append(args, "--"+name+"="+texts[name])
		env = append(env, config.EnvName(name)+"="+texts[name])
		fmt.Fprintf(&file, "%s: %q\n", name, texts[name])
	}
	long := `
grpc-listen: 0.0.0.0:99
wait: 1m30s
verbose: true
ratio: 0.25
most: 12
size: 64KiB
token: s3cret
topics: [a, b]
door:
  - key: k
    tenant: acme
    scopes: [record, read]
  - key=l
`
	for name, got := range map[string]func() (settings, error){
		"flags":       func() (settings, error) { return load(t, "", nil, args) },
		"environment": func() (settings, error) { return load(t, "", env, nil) },
		"file":        func() (settings, error) { return load(t, file.String(), nil, nil) },
		"YAML lists":  func() (settings, error) { return load(t, long, nil, nil) },
		"repeated": func() (settings, error) {
			return load(t, "", env[:len(env)-2], []string{"--topics=a", "--topics", "b", "--door=key=k,tenant=acme,scopes=record+read", "--door", "key=l"})
		},
	} {
		s, err := got()
		require.NoError(t, err, name)
		require.Empty(t, cmp.Diff(want, s), name)
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	s, err := load(t, "", nil, nil)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(defaults(), s))

	file := "grpc-listen: file\nmost: 7\nratio: 0.1\n"
	env := []string{"PARLEY_GRPC_LISTEN=env", "PARLEY_MOST=8", "PARLEY_UNRELATED=x", "PARLEY_PORT=tcp://10.0.0.1:7300", "HOME=/"}
	s, err = load(t, file, env, []string{"--grpc-listen", "flag"})
	require.NoError(t, err)
	require.Equal(t, "flag", s.Listen)
	require.Equal(t, 8, s.Most)
	require.InDelta(t, 0.1, s.Ratio, 1e-9)
	require.Equal(t, 5*time.Second, s.Inner.Wait)
}

func TestFileByEnvironment(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(name, []byte("most: 4"), 0o600))
	s, err := load(t, "", []string{"PARLEY_CONFIG=" + name}, nil)
	require.NoError(t, err)
	require.Equal(t, 4, s.Most)
}

func TestWhatIsWrongSaysWhere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file string
		env  []string
		want []string
	}{
		"unknown key":      {file: "most: 1\ngrpc_lissten: x\n", want: []string{"parley.yaml:2: grpc_lissten", `did you mean "grpc-listen"`}},
		"far from any":     {file: "nothing-like-it: x\n", want: []string{":1: nothing-like-it", "parley serve --help"}},
		"config in config": {file: "config: other.yaml\n", want: []string{"no such setting"}},
		"twice":            {file: "most: 1\nmost: 2\n", want: []string{":2: most", "twice"}},
		"wrong type":       {file: "most: many\n", want: []string{":1: most", "whole number"}},
		"list for one":     {file: "most: [1]\n", want: []string{"single value"}},
		"map for list":     {file: "topics: {a: b}\n", want: []string{"want a list"}},
		"element key":      {file: "door:\n  - key: a\n    tennant: b\n", want: []string{"line 3", `"tennant"`, "key, tenant, scopes"}},
		"element twice":    {file: "door:\n  - key: a\n    key: b\n", want: []string{"line 3", "twice"}},
		"element list":     {file: "door: [[a]]\n", want: []string{"key=…,tenant=…"}},
		"no mapping":       {file: "- a\n- b\n", want: []string{"--config", "is no configuration", "one setting a line"}},
		"a sentence":       {file: "hello there", want: []string{"is no configuration"}},
		"not YAML":         {file: "a: [1\nb: {", want: []string{"--config", "is no configuration"}},
		"binary":           {file: "\x7fELF\x00\x01", want: []string{"is no text"}},
		"two documents":    {file: "most: 1\n---\nmost: 2\n", want: []string{"more than one YAML document"}},
		"huge":             {file: strings.Repeat("# filler\n", 150_000), want: []string{"bytes"}},
		"environment":      {env: []string{"PARLEY_MOST=x", "PARLEY_WAIT=5"}, want: []string{"PARLEY_MOST", "PARLEY_WAIT", "want a duration"}},
		"element text":     {env: []string{"PARLEY_DOOR=dev"}, want: []string{"PARLEY_DOOR", "key=…"}},
		"element text key": {env: []string{"PARLEY_DOOR=lock=dev"}, want: []string{`"lock"`}},
		"size":             {env: []string{"PARLEY_SIZE=-1"}, want: []string{"want a size"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tc.file, tc.env, nil)
			require.Error(t, err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			var e *config.Error
			require.ErrorAs(t, err, &e)
		})
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	_, err := load(t, "", []string{"PARLEY_CONFIG=" + filepath.Join(t.TempDir(), "missing.yaml")}, nil)
	require.ErrorContains(t, err, "there is no such file")
	_, err = load(t, "", []string{"PARLEY_CONFIG=" + t.TempDir()}, nil)
	require.ErrorContains(t, err, "is a directory")
}

func TestEmptyFileAndEmptyValues(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"# nothing\n", "---\n", "most:\ntopics: ~\n", "base: &b\n"} {
		s, err := load(t, file, nil, nil)
		if strings.HasPrefix(file, "base") {
			require.ErrorContains(t, err, "no such setting")
			continue
		}
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(defaults(), s))
	}
}

func TestWrongFlagFailsAtOnce(t *testing.T) {
	t.Parallel()
	s := defaults()
	l, err := config.New(&s)
	require.NoError(t, err)
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	l.Bind(flags)
	require.ErrorContains(t, flags.Parse([]string{"--most", "x"}), "whole number")
	usage := flags.FlagUsages()
	require.Contains(t, usage, `where to listen (default "127.0.0.1:1")`)
	require.NotContains(t, usage, "--other")
}

func TestWrongStructs(t *testing.T) {
	t.Parallel()
	_, err := config.New(settings{})
	require.ErrorContains(t, err, "pointer to a struct")
	_, err = config.New(&struct {
		F func() `flag:"f"`
	}{})
	require.ErrorContains(t, err, "not supported")
	_, err = config.New(&struct {
		A string `flag:"a"`
		B string `flag:"a"`
	}{})
	require.ErrorContains(t, err, "twice")
}

func TestWriteGivesAFileThatLoadsEqual(t *testing.T) {
	t.Parallel()
	s := defaults()
	s.Topics = []string{"x", "y: z"}
	s.Doors = append(s.Doors, door{Key: "second", Scopes: []string{"read"}})
	l, err := config.New(&s)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, l.Write(&out))
	require.Contains(t, out.String(), "# where to listen")
	got, err := load(t, out.String(), nil, nil)
	require.NoError(t, err, out.String())
	require.Empty(t, cmp.Diff(s, got))
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	s := settings{Token: "s3cret"}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, s.Token)
	}
	b, err := json.Marshal(s)
	require.NoError(t, err)
	out.Write(b)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", s.Token, "all", s)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "token", s.Token, "all", s)
	l, err := config.New(&s)
	require.NoError(t, err)
	require.NoError(t, l.Write(&out))
	require.NotContains(t, out.String(), "s3cret")
	require.NotContains(t, out.String(), fmt.Sprintf("%x", "s3cret"))
	require.Contains(t, out.String(), "***")
	require.Equal(t, "s3cret", s.Token.Reveal())
	require.Empty(t, config.Secret("").String())
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Bytes{"0": 0, "17": 17, "17B": 17, "1KiB": 1024, "1.5 MiB": 3 << 19, "2GB": 2e9, "10kB": 10_000} {
		var b config.Bytes
		require.NoError(t, b.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, b, text)
		var again config.Bytes
		require.NoError(t, again.UnmarshalText([]byte(b.String())))
		require.Equal(t, b, again)
	}
	for _, text := range []string{"", "x", "-1", "NaN", "1e300", "5 apples"} {
		var b config.Bytes
		require.Error(t, b.UnmarshalText([]byte(text)), text)
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"most: 1", "door:\n  - {key: a, scopes: [x]}", "a: &a [*a]", "? {a: b}\n: c", "topics: [a, *b]", "<<: {most: 1}", "most: !!int 3"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(dir, "fuzz.yaml")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		s := defaults()
		l, err := config.New(&s)
		require.NoError(t, err)
		// What it holds does not matter: it must come back, with settings that can be written.
		if l.Load([]string{"PARLEY_CONFIG=" + name}) == nil {
			require.NoError(t, l.Write(&bytes.Buffer{}))
		}
	})
}
