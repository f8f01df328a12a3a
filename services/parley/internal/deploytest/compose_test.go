package deploytest_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// composeDir has the installation on one machine.
var composeDir = filepath.Join(deploy, "compose")

// composeFile is what is checked of compose.yaml.
type composeFile struct {
	Services map[string]*composeService `yaml:"services"`
	Volumes  map[string]any             `yaml:"volumes"`
	Networks map[string]any             `yaml:"networks"`
	Secrets  map[string]struct {
		Environment string `yaml:"environment"`
	} `yaml:"secrets"`
}

type composeService struct {
	Image       string            `yaml:"image"`
	User        string            `yaml:"user"`
	Restart     string            `yaml:"restart"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	SecurityOpt []string          `yaml:"security_opt"`
	MemLimit    string            `yaml:"mem_limit"`
	GracePeriod time.Duration     `yaml:"stop_grace_period"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Networks    []string          `yaml:"networks"`
	NetworkMode string            `yaml:"network_mode"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Secrets     []string          `yaml:"secrets"`
	Logging     struct {
		Options map[string]string `yaml:"options"`
	} `yaml:"logging"`
	Build *struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
	DependsOn map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck *struct {
		Test     []string      `yaml:"test"`
		Interval time.Duration `yaml:"interval"`
		Timeout  time.Duration `yaml:"timeout"`
	} `yaml:"healthcheck"`
}

// once says that a service runs, ends, and others then start.
func (s *composeService) once() bool { return s.Restart == "no" }

// runsParley says that a service is a process of ours.
func (s *composeService) runsParley() bool { return s.Build != nil }

// secretsOf lets `up` make .env in a copy of the folder and reads it, as
// Compose does.
func secretsOf(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"up", "lib.sh", ".env.example"} {
		content, err := os.ReadFile(filepath.Join(composeDir, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	// In place of the binary: what it prints, once for each key.
	for _, key := range []string{"operator", "metrics"} {
		var out bytes.Buffer
		app := &cli.App{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Now: time.Now, Location: time.UTC, Random: rand.Reader}
		require.Equal(t, cli.ExitDone, app.Run(t.Context(), []string{"key", "new", "--name", key}), out.String())
		require.NoError(t, os.WriteFile(filepath.Join(dir, key), out.Bytes(), 0o600))
	}
	fake, err := filepath.Abs(filepath.Join("testdata", "parley"))
	require.NoError(t, err)
	run := func() []byte {
		cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "up"), "--secrets")
		cmd.Env = append(os.Environ(), "PARLEY="+fake, "KEYS="+dir)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		file := filepath.Join(dir, ".env")
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "others may not read it")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return text
	}
	text := run()
	require.Equal(t, string(text), string(run()), "what is there stays")
	values := map[string]string{}
	seen := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		require.NotEmpty(t, value, "%s was not made", name)
		require.Empty(t, seen[value], "%s and %s are the same", name, seen[value])
		values[name], seen[value] = value, name
		if strings.HasSuffix(name, "_PASSWORD") {
			require.Regexp(t, `^[a-z][a-z0-9]{19,}$`, value, "%s stands in URLs and in NATS's configuration", name)
		}
	}
	return values
}

var composeVariable = regexp.MustCompile(`\$\$|\$\{([A-Z0-9_]+)(?:(:[-?])([^}]*))?\}|\$`)

// interpolate puts values where Compose does.
func interpolate(values map[string]string, text string) (string, error) {
	var err error
	out := composeVariable.ReplaceAllStringFunc(text, func(found string) string {
		m := composeVariable.FindStringSubmatch(found)
		name, kind, rest := m[1], m[2], m[3]
		value := values[name]
		switch {
		case found == "$$":
			return "$"
		case name == "":
			err = fmt.Errorf("a lone $ in %q: Compose wants $$ for one", text)
		case value != "":
			return value
		case kind == ":-":
			return rest
		default:
			err = fmt.Errorf("%s is in no .env: %s", name, rest)
		}
		return ""
	})
	return out, err
}

func interpolateNode(t *testing.T, values map[string]string, n *yaml.Node) {
	t.Helper()
	if n.Kind == yaml.ScalarNode {
		var err error
		n.Value, err = interpolate(values, n.Value)
		require.NoError(t, err, "line %d", n.Line)
	}
	for _, child := range n.Content {
		interpolateNode(t, values, child)
	}
}

// loadCompose reads compose.yaml with the values of an .env.
func loadCompose(t *testing.T, values map[string]string) *composeFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(composeDir, "compose.yaml"))
	require.NoError(t, err)
	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &doc))
	interpolateNode(t, values, &doc)
	var c composeFile
	require.NoError(t, doc.Decode(&c))
	require.NotEmpty(t, c.Services)
	return &c
}

// TestCompose checks what can be checked of the installation without Docker.
func TestCompose(t *testing.T) {
	t.Parallel()
	values := secretsOf(t)
	c := loadCompose(t, values)
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.checkService(t, name)
			if c.Services[name].runsParley() {
				c.checkParley(t, name)
			}
		})
	}
	t.Run("everything is used", func(t *testing.T) {
		t.Parallel()
		c.checkUsed(t, values)
	})
	t.Run("every service runs, and twice what keeps something", func(t *testing.T) {
		t.Parallel()
		c.checkServices(t)
	})
	t.Run("Prometheus", func(t *testing.T) {
		t.Parallel()
		c.checkPrometheus(t)
	})
	t.Run("scripts", func(t *testing.T) {
		t.Parallel()
		c.checkScripts(t)
	})
}

var pinned = regexp.MustCompile(`^[a-z0-9./-]+:[A-Za-z0-9][A-Za-z0-9._-]+$`)

// checkService checks what every container is to have.
func (c *composeFile) checkService(t *testing.T, name string) {
	t.Helper()
	s := c.Services[name]
	require.Regexp(t, pinned, s.Image)
	require.NotContains(t, s.Image, ":latest")
	require.NotEmpty(t, s.MemLimit, "memory is bounded")
	require.Contains(t, s.CapDrop, "ALL")
	require.Contains(t, s.SecurityOpt, "no-new-privileges:true")
	require.NotEmpty(t, s.Logging.Options["max-size"], "logs are bounded")
	if s.once() {
		require.Equal(t, "none", s.NetworkMode)
		require.Empty(t, s.Networks)
	} else {
		require.Equal(t, "unless-stopped", s.Restart)
		require.NotNil(t, s.Healthcheck)
		require.Contains(t, []string{"CMD", "CMD-SHELL"}, s.Healthcheck.Test[0])
		require.Positive(t, s.Healthcheck.Interval)
		require.Positive(t, s.Healthcheck.Timeout)
		require.GreaterOrEqual(t, s.GracePeriod, 30*time.Second, "time to stop in order")
		require.NotEmpty(t, s.Networks)
	}
	for _, n := range s.Networks {
		require.Contains(t, c.Networks, n)
	}
	for _, p := range s.Ports {
		require.Regexp(t, `^127\.0\.0\.1:\d+:\d+$`, p, "reached from this machine alone")
	}
	for needed, how := range s.DependsOn {
		other := c.Services[needed]
		require.NotNil(t, other, "it waits for %s", needed)
		switch how.Condition {
		case "service_healthy":
			require.NotNil(t, other.Healthcheck, "it waits for %s to be healthy", needed)
		case "service_completed_successfully":
			require.True(t, other.once(), "it waits for %s to end", needed)
		default:
			t.Errorf("it waits for %s until %q", needed, how.Condition)
		}
	}
	for _, secret := range s.Secrets {
		require.Contains(t, c.Secrets, secret)
		require.False(t, s.ReadOnly, "Compose cannot put a secret of the environment where nothing can be written")
	}
	targets := map[string]bool{}
	for _, v := range s.Volumes {
		source, rest, ok := strings.Cut(v, ":")
		require.True(t, ok, v)
		target, _, _ := strings.Cut(rest, ":")
		require.True(t, filepath.IsAbs(target), v)
		require.False(t, targets[target], "two volumes at %s", target)
		targets[target] = true
		if !strings.HasPrefix(source, ".") {
			require.Contains(t, c.Volumes, source)
			continue
		}
		require.True(t, strings.HasSuffix(v, ":ro"), "%s: our files are not for containers to write", v)
		_, err := os.Stat(filepath.Join(composeDir, source))
		require.NoError(t, err)
	}
}

// checkUsed checks that nothing is declared and of no use, and that each port,
// volume and variable is there once.
func (c *composeFile) checkUsed(t *testing.T, values map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(composeDir, "compose.yaml"))
	require.NoError(t, err)
	volumes, ports := map[string]int{}, map[string]string{}
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			volumes[source]++
		}
		for _, p := range s.Ports {
			host := p[:strings.LastIndexByte(p, ':')]
			require.Empty(t, ports[host], "%s and %s have the same port", name, ports[host])
			ports[host] = name
		}
	}
	for v := range c.Volumes {
		require.Positive(t, volumes[v], "volume %s is nobody's", v)
	}
	used := map[string]bool{"PARLEY_OPERATOR_KEY": true} // of those who call
	for _, m := range composeVariable.FindAllStringSubmatch(string(text), -1) {
		used[m[1]] = true
	}
	for _, s := range c.Secrets {
		require.NotEmpty(t, values[s.Environment])
		used[s.Environment] = true
	}
	for name := range values {
		require.True(t, used[name], "%s of .env is of no use", name)
	}
}

// checkPrometheus checks that it scrapes each process of ours, with a key that
// is mounted.
func (c *composeFile) checkPrometheus(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(composeDir, "prometheus", "prometheus.yaml"))
	require.NoError(t, err)
	var p struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			Authorization struct {
				CredentialsFile string `yaml:"credentials_file"`
			} `yaml:"authorization"`
			StaticConfigs []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal(text, &p))
	require.Len(t, p.ScrapeConfigs, 1, "one installation is one job")
	var want []string
	for name, s := range c.Services {
		if s.runsParley() {
			want = append(want, name+":"+portOf(s.Environment["PARLEY_ADMIN_LISTEN"]))
		}
	}
	require.ElementsMatch(t, want, p.ScrapeConfigs[0].StaticConfigs[0].Targets)
	s := c.Services["prometheus"]
	require.Contains(t, s.Secrets, strings.TrimPrefix(p.ScrapeConfigs[0].Authorization.CredentialsFile, "/run/secrets/"))
	mounted := strings.Join(s.Volumes, "\n")
	for _, rules := range p.RuleFiles {
		require.Contains(t, mounted, ":/etc/prometheus/"+rules+":ro")
	}
	require.Contains(t, s.Command, "--config.file=/etc/prometheus/prometheus.yaml")
	require.Contains(t, mounted, ":/etc/prometheus/prometheus.yaml:ro")
}

var addressOnThisMachine = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// checkScripts checks that bash can read them, and that they name what there is.
func (c *composeFile) checkScripts(t *testing.T) {
	t.Helper()
	ports := map[string]bool{}
	for _, s := range c.Services {
		for _, p := range s.Ports {
			ports[p[:strings.LastIndexByte(p, ':')]] = true
		}
	}
	for _, name := range []string{"up", "smoke.sh", "lib.sh"} {
		file := filepath.Join(composeDir, name)
		out, err := exec.CommandContext(t.Context(), "bash", "-n", file).CombinedOutput()
		require.NoError(t, err, string(out))
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, address := range addressOnThisMachine.FindAllString(string(text), -1) {
			require.True(t, ports[address], "%s: nobody has %s", name, address)
		}
		if name == "lib.sh" {
			continue
		}
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.NotZero(t, info.Mode()&0o100, "%s can be run", name)
	}
	lib, err := os.ReadFile(filepath.Join(composeDir, "lib.sh"))
	require.NoError(t, err)
	awaited := regexp.MustCompile(`(?m)^  await_healthy (.+)$`).FindStringSubmatch(string(lib))
	require.NotNil(t, awaited)
	var want []string
	for name, s := range c.Services {
		if !s.once() && name != "prometheus" && name != "grafana" {
			want = append(want, name)
		}
	}
	require.ElementsMatch(t, want, strings.Fields(awaited[1]), "what is waited for")
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
