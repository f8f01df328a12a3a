package deploytest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/projection"
)

// dashboard is what is checked of one.
type dashboard struct {
	ID            *int   `json:"id"`
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name       string          `json:"name"`
			Type       string          `json:"type"`
			Definition string          `json:"definition"`
			Query      json.RawMessage `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Expr string `json:"expr"`
		} `json:"list"`
	} `json:"annotations"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Datasource  *struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	} `json:"datasource"`
	GridPos     struct{ X, Y, W, H int } `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Mappings []struct {
				Type    string `json:"type"`
				Options map[string]struct {
					Text string `json:"text"`
				} `json:"options"`
			} `json:"mappings"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

var (
	variable = regexp.MustCompile(`\$\{?([a-zA-Z_]+)\}?`)
	sourceOf = regexp.MustCompile(`"uid": "([^"]*)"`)
	ofValues = regexp.MustCompile(`^label_values\((.+), ([a-z]+)\)$`)
)

func checkDashboard(t *testing.T, e exposed) {
	text, err := os.ReadFile(filepath.Join(deploy, "grafana", "projections.json"))
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	require.Nil(t, d.ID, "an id belongs to one Grafana")
	require.Equal(t, "parley-projections", d.UID)
	require.NotEmpty(t, d.Title)
	const recent = 39 // Grafana 11
	require.GreaterOrEqual(t, d.SchemaVersion, recent)
	for _, m := range sourceOf.FindAllStringSubmatch(string(text), -1) {
		require.Contains(t, []string{"parley-projections", "${datasource}", "-- Grafana --"}, m[1], "a data source of one Grafana")
	}
	require.NotContains(t, string(text), `"__inputs"`)

	// Grafana's own.
	defined := map[string]bool{"__rate_interval": true, "__all": true}
	for _, v := range d.Templating.List {
		defined[v.Name] = true
		if v.Type != "query" {
			continue
		}
		m := ofValues.FindStringSubmatch(v.Definition)
		require.NotNil(t, m, "variable %s: %s", v.Name, v.Definition)
		require.Contains(t, e.check(t, "variable "+v.Name, m[1]), m[2], "variable %s", v.Name)
	}
	require.True(t, defined["datasource"] && defined["projection"], defined)
	for _, m := range variable.FindAllStringSubmatch(string(text), -1) {
		require.True(t, defined[m[1]], "variable %s is not defined", m[0])
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			e.check(t, "annotation", a.Expr)
		}
	}
	shown := map[string]bool{}
	for i := range d.Panels {
		p := &d.Panels[i]
		for _, other := range d.Panels[:i] {
			require.NotEqual(t, other.ID, p.ID, "%s and %s have one id", other.Title, p.Title)
			apart := other.GridPos.X+other.GridPos.W <= p.GridPos.X || p.GridPos.X+p.GridPos.W <= other.GridPos.X ||
				other.GridPos.Y+other.GridPos.H <= p.GridPos.Y || p.GridPos.Y+p.GridPos.H <= other.GridPos.Y
			require.True(t, apart, "%s lies over %s", p.Title, other.Title)
		}
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.NotEmpty(t, p.Title)
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotNil(t, p.Datasource, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		refs := map[string]bool{}
		for _, target := range p.Targets {
			require.False(t, refs[target.RefID], "%s: two queries %s", p.Title, target.RefID)
			refs[target.RefID] = true
			e.check(t, p.Title, target.Expr)
			require.Contains(t, target.Expr, `job="$job", projection=~"$projection"`, p.Title)
			q, err := readQuery(target.Expr)
			require.NoError(t, err)
			for _, s := range q.selectors {
				shown[s.metric] = true
			}
		}
		// Mappings of states say what the states are called.
		if strings.HasPrefix(p.Title, "State") {
			require.Len(t, p.FieldConfig.Defaults.Mappings, 1, p.Title)
			for s := projection.Stopped; s <= projection.Frozen; s++ {
				require.Equal(t, s.String(), p.FieldConfig.Defaults.Mappings[0].Options[itoa(s)].Text, p.Title)
			}
		}
	}
	for metric := range e.labels {
		if strings.HasPrefix(metric, "parley_projection_") && !strings.HasSuffix(metric, "_sum") {
			require.True(t, shown[metric], "%s is measured and not shown", metric)
		}
	}
}

func itoa(s projection.State) string { return strconv.Itoa(int(s)) }
