package deploytest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// ruleFile is a file of rules, as Prometheus reads it.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func readYAML(t *testing.T, into any, path ...string) {
	t.Helper()
	f, err := os.Open(filepath.Join(slices.Concat([]string{deploy}, path)...))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	decoder := yaml.NewDecoder(f)
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(into))
}

func rules(t *testing.T) []rule {
	t.Helper()
	var file ruleFile
	readYAML(t, &file, "prometheus", "alerts.yaml")
	var all []rule
	for _, g := range file.Groups {
		require.NotEmpty(t, g.Rules, g.Name)
		all = append(all, g.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

var (
	labelInTemplate = regexp.MustCompile(`\$labels\.([a-z_]+)`)
	template        = regexp.MustCompile(`\{\{[^}]*\}\}`)
	command         = regexp.MustCompile("`parley ([^`]+)`")
	bareState       = regexp.MustCompile(`parley_projection_state (==|<|>) ([0-9]+)`)
)

// What the numbers of states stand for that the rules compare with: equal to it, or below it.
var statesMeant = map[string]projection.State{
	"== 1": projection.CatchingUp, "== 2": projection.Live, "< 3": projection.Retrying,
	"== 4": projection.Halted, "< 4": projection.Halted, "== 5": projection.Paused,
}

func checkRules(t *testing.T, e exposed) {
	seen := map[string]bool{}
	for _, r := range rules(t) {
		require.Regexp(t, `^Parley[A-Z][A-Za-z]+$`, r.Alert)
		require.False(t, seen[r.Alert], "%s stands there twice", r.Alert)
		seen[r.Alert] = true
		labels := e.check(t, r.Alert, r.Expr)
		for _, m := range bareState.FindAllStringSubmatch(r.Expr, -1) {
			state, known := statesMeant[m[1]+" "+m[2]]
			require.True(t, known, "%s: what is meant by %s?", r.Alert, m[0])
			require.Equal(t, strconv.Itoa(int(state)), m[2], "%s: %s is %d", r.Alert, state, state)
		}

		lasts, err := time.ParseDuration(r.For)
		require.NoError(t, err, "%s: for", r.Alert)
		require.GreaterOrEqual(t, lasts, 30*time.Second, "%s fires at once", r.Alert)
		require.Contains(t, []string{"page", "warn"}, r.Labels["severity"], "%s: severity", r.Alert)
		require.Len(t, r.Labels, 1, "%s: labels", r.Alert)
		require.Len(t, r.Annotations, 3, "%s: annotations", r.Alert)
		for _, name := range []string{"summary", "description", "runbook"} {
			text := r.Annotations[name]
			require.NotEmpty(t, text, "%s: %s", r.Alert, name)
			for _, m := range labelInTemplate.FindAllStringSubmatch(text, -1) {
				require.Contains(t, labels, m[1], "%s: %s", r.Alert, name)
			}
		}
		all := r.Annotations["description"] + " " + r.Annotations["runbook"]
		if strings.Contains(r.Expr, "parley_projection_") {
			require.Regexp(t, "`parley projections ", r.Annotations["description"], "%s says no command to begin with", r.Alert)
		}
		for _, m := range command.FindAllStringSubmatch(all, -1) {
			requireCommand(t, r.Alert, m[1])
		}
	}
}

// requireCommand checks that the command line has a command with its flags.
func requireCommand(t *testing.T, where, text string) {
	t.Helper()
	var words, flags []string
	named := true
	for _, word := range strings.Fields(template.ReplaceAllString(text, "X")) {
		switch {
		case strings.HasPrefix(word, "--"):
			flags = append(flags, word)
			named = false
		case !regexp.MustCompile(`^[a-z-]+$`).MatchString(word):
			named = false
		case named:
			words = append(words, word)
		}
	}
	var out bytes.Buffer
	app := &cli.App{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Now: time.Now, Location: time.UTC, Random: rand.Reader}
	require.Zero(t, app.Run(context.WithoutCancel(t.Context()), append(slices.Clone(words), "--help")), "%s: parley %s: %s", where, text, out.String())
	require.Contains(t, out.String(), "\n  parley "+strings.Join(words, " "), "%s: there is no such command", where)
	for _, flag := range flags {
		require.Contains(t, out.String(), flag+" ", "%s: parley %s has no such flag", where, strings.Join(words, " "))
	}
}

// ruleTests is a file of tests, as promtool reads it.
type ruleTests struct {
	RuleFiles          []string `yaml:"rule_files"`
	EvaluationInterval string   `yaml:"evaluation_interval"`
	Tests              []struct {
		Name        string
		Interval    string
		InputSeries []struct{ Series, Values string } `yaml:"input_series"`
		PromQLTests []struct {
			EvalTime string `yaml:"eval_time"`
			Expr     string
			Samples  []struct {
				Labels string
				Value  float64
			} `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
		AlertTests []struct {
			EvalTime string `yaml:"eval_time"`
			Alert    string `yaml:"alertname"`
			Alerts   []struct {
				Labels      map[string]string `yaml:"exp_labels"`
				Annotations map[string]string `yaml:"exp_annotations"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

var alertIn = regexp.MustCompile(`alertname="([^"]+)"`)

// checkRuleTests checks that each alert is seen to fire, and that what it fires at is what processes say.
func checkRuleTests(t *testing.T, e exposed) {
	var file ruleTests
	readYAML(t, &file, "prometheus", "alerts_test.yaml")
	require.Equal(t, []string{"alerts.yaml"}, file.RuleFiles)
	fires := map[string]bool{}
	for _, test := range file.Tests {
		for _, s := range test.InputSeries {
			e.check(t, test.Name, s.Series)
		}
		for _, p := range test.PromQLTests {
			e.check(t, test.Name, p.Expr)
			for _, s := range p.Samples {
				fires[alertIn.FindStringSubmatch(s.Labels)[1]] = true
			}
		}
	}
	var alerts []string
	for _, r := range rules(t) {
		alerts = append(alerts, r.Alert)
		require.True(t, fires[r.Alert], "no test shows %s firing", r.Alert)
	}
	for name := range fires {
		require.Contains(t, alerts, name, "a test of an alert that there is not")
	}
}
