package cli_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// terminal is what a terminal shows of what is written to it. It knows what the
// command line uses; anything else fails the test. Colours are left out.
type terminal struct {
	t             *testing.T
	columns, rows int

	lines  []string // those scrolled away first
	row    int      // of the cursor, among lines
	column int
	hidden bool // the cursor
}

var escape = regexp.MustCompile(`^\x1b\[(\??[0-9;]*)([A-Za-z])`)

func shownOn(t *testing.T, columns, rows int, output string) *terminal {
	t.Helper()
	s := &terminal{t: t, columns: columns, rows: rows, lines: []string{""}}
	for output != "" {
		if m := escape.FindStringSubmatch(output); m != nil {
			s.escape(m[1], m[2])
			output = output[len(m[0]):]
			continue
		}
		r := []rune(output)[0]
		s.put(r)
		output = output[len(string(r)):]
	}
	return s
}

func (s *terminal) escape(arg, command string) {
	switch command {
	case "A":
		n, err := strconv.Atoi(arg)
		require.NoError(s.t, err)
		top := max(len(s.lines)-s.rows, 0)
		require.GreaterOrEqual(s.t, s.row-n, top, "the cursor leaves the screen")
		s.row -= n
	case "K":
		s.cut()
	case "J":
		s.cut()
		s.lines = s.lines[:s.row+1]
	case "m":
	case "l", "h":
		require.Equal(s.t, "?25", arg)
		s.hidden = command == "l"
	default:
		require.Fail(s.t, "unknown escape", "%s%s", arg, command)
	}
}

func (s *terminal) cut() {
	line := []rune(s.lines[s.row])
	s.lines[s.row] = string(line[:min(s.column, len(line))])
}

func (s *terminal) put(r rune) {
	switch r {
	case '\r':
		s.column = 0
	case '\n':
		s.row++
		s.column = 0
		if s.row == len(s.lines) {
			s.lines = append(s.lines, "")
		}
	default:
		require.GreaterOrEqual(s.t, r, ' ', "a control character")
		if s.column == s.columns {
			s.put('\n')
		}
		line := []rune(s.lines[s.row])
		for len(line) <= s.column {
			line = append(line, ' ')
		}
		line[s.column] = r
		s.lines[s.row] = string(line)
		s.column++
	}
}

// text is all that the terminal has, what scrolled away too.
func (s *terminal) text() string {
	lines := make([]string, len(s.lines))
	for i, l := range s.lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}
