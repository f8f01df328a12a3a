package deploytest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// query is what a PromQL expression names. It is read as far as that takes:
// whether the expression is well-formed beyond it, promtool tells.
type query struct {
	selectors []selector
	// groupings are the labels of by, on and the like.
	groupings []string
	functions []string
}

// selector is a metric with the labels that it is selected by.
type selector struct {
	metric string
	labels []string
}

// Words of PromQL that are no metrics.
var (
	operators    = []string{"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"}
	groupers     = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	aggregations = []string{"sum", "min", "max", "avg", "count", "group", "topk", "bottomk", "quantile", "stddev", "stdvar", "count_values"}
)

// readQuery reads an expression.
func readQuery(expr string) (query, error) {
	r := reader{rest: expr}
	for r.skip(); r.rest != ""; r.skip() {
		switch c := r.rest[0]; {
		case c == '"' || c == '\'' || c == '`':
			if _, err := r.upTo(c); err != nil {
				return r.query, err
			}
		case c == '[':
			if _, err := r.upTo(']'); err != nil {
				return r.query, err
			}
		case c >= '0' && c <= '9':
			r.word(isWordByte)
		case isWordByte(c):
			if err := r.name(r.word(isWordByte)); err != nil {
				return r.query, err
			}
		case c == '(':
			r.depth++
			r.rest = r.rest[1:]
		case c == ')':
			if r.depth--; r.depth < 0 {
				return r.query, fmt.Errorf("a bracket too many before %q", r.rest)
			}
			r.rest = r.rest[1:]
		case strings.IndexByte("+-*/%^=!<>,@.", c) >= 0:
			r.rest = r.rest[1:]
		default:
			return r.query, fmt.Errorf("unexpected %q", r.rest)
		}
	}
	if r.depth != 0 {
		return r.query, fmt.Errorf("%d brackets are not closed", r.depth)
	}
	return r.query, nil
}

type reader struct {
	query
	rest  string
	depth int
}

func (r *reader) skip() { r.rest = strings.TrimLeft(r.rest, " \t\n") }

func isWordByte(c byte) bool {
	return c == '_' || c == ':' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (r *reader) word(is func(byte) bool) string {
	n := 0
	for n < len(r.rest) && is(r.rest[n]) {
		n++
	}
	w := r.rest[:n]
	r.rest = r.rest[n:]
	return w
}

// upTo takes what begins here up to end.
func (r *reader) upTo(end byte) (string, error) {
	n := strings.IndexByte(r.rest[1:], end)
	if n < 0 {
		return "", fmt.Errorf("no %q to %q", end, r.rest)
	}
	inner := r.rest[1 : 1+n]
	r.rest = r.rest[n+2:]
	return inner, nil
}

// name takes a word and what belongs to it.
func (r *reader) name(word string) error {
	r.skip()
	switch next := strings.HasPrefix(r.rest, "("); {
	case slices.Contains(groupers, word):
		if !next {
			return fmt.Errorf("%s without labels before %q", word, r.rest)
		}
		inner, err := r.upTo(')')
		for label := range strings.SplitSeq(inner, ",") {
			if label = strings.TrimSpace(label); label != "" {
				r.groupings = append(r.groupings, label)
			}
		}
		return err
	case slices.Contains(operators, word) || slices.Contains(aggregations, word):
		return nil
	case next:
		r.functions = append(r.functions, word)
		return nil
	}
	s := selector{metric: word}
	if strings.HasPrefix(r.rest, "{") {
		r.rest = r.rest[1:]
		for {
			r.skip()
			if strings.HasPrefix(r.rest, "}") {
				r.rest = r.rest[1:]
				break
			}
			label := r.word(isWordByte)
			if r.word(func(c byte) bool { return c == '=' || c == '!' || c == '~' }) == "" || !strings.HasPrefix(r.rest, `"`) {
				return fmt.Errorf("label %q of %s is compared with nothing: %q", label, word, r.rest)
			}
			if _, err := r.upTo('"'); err != nil {
				return err
			}
			s.labels = append(s.labels, label)
			r.skip()
			r.rest = strings.TrimPrefix(r.rest, ",")
		}
	}
	r.selectors = append(r.selectors, s)
	return nil
}

func TestReadQuery(t *testing.T) {
	t.Parallel()
	q, err := readQuery(`histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{job=~"$job", le!="+Inf"}[$__rate_interval])))
		> 1.5e3 and on (x) max(b) == bool 2 unless c offset 5m or d{} / group_left () e{f="}(",}`)
	require.NoError(t, err)
	require.Equal(t, query{
		selectors: []selector{
			{metric: "a_bucket", labels: []string{"job", "le"}}, {metric: "b"}, {metric: "c"}, {metric: "d"}, {metric: "e", labels: []string{"f"}},
		},
		groupings: []string{"job", "le", "x"},
		functions: []string{"histogram_quantile", "rate"},
	}, q)
	for _, wrong := range []string{"max(a", "max(a))", `a{b}`, `a{b="c}`, "rate(a[5m)", "sum by job (a)", "a # b"} {
		_, err := readQuery(wrong)
		require.Error(t, err, wrong)
	}
}
