package cli

import (
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// strokes are what trees are drawn with: box drawing where the terminal's
// locale is UTF-8, else ASCII. All four have the same width.
type strokes struct {
	branch, last string // before a child
	down, gap    string // before what is below a child
	more         string // for what is left out
}

var (
	boxStrokes   = strokes{branch: "├── ", last: "└── ", down: "│   ", gap: "    ", more: "…"}
	asciiStrokes = strokes{branch: "|-- ", last: "`-- ", down: "|   ", gap: "    ", more: "..."}
)

// strokes by the locale, in the order of POSIX: LC_ALL, LC_CTYPE, LANG.
func (a *App) strokes() strokes {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v, ok := a.env(name); ok && v != "" {
			v = strings.ToLower(v)
			if strings.Contains(v, "utf-8") || strings.Contains(v, "utf8") {
				return boxStrokes
			}
			return asciiStrokes
		}
	}
	return asciiStrokes
}

const (
	minWidth = 40
	maxWidth = 1000
)

// width is how many columns the output has, at least 40: COLUMNS, else the
// terminal's. 0 stands for as many as it takes: nothing is cut in a file.
func (a *App) width() int {
	if v, ok := a.env("COLUMNS"); ok {
		if n, err := strconv.Atoi(v); err == nil && n > 0 {
			return min(max(n, minWidth), maxWidth)
		}
	}
	if f, ok := a.Stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return min(max(n, minWidth), maxWidth)
		}
	}
	return 0
}

// columns is how many columns of a terminal a text takes: none for marks that
// combine, two for the wide letters of East Asia and for pictures (after UAX
// #11, by script and block).
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0xff61 && r <= 0xffdc: // the halfwidth forms
		return 1
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana),
		r >= 0x3000 && r <= 0x303e, r >= 0xff01 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff:
		return 2
	default:
		return 1
	}
}

// fitTo is a text in at most so many columns; more stands for what is cut off.
func fitTo(s string, most int, more string) string {
	if columns(s) <= most {
		return s
	}
	room := most - columns(more)
	for i, r := range s {
		if room -= runeColumns(r); room < 0 {
			return s[:i] + more
		}
	}
	return s
}

// padTo is a text in at least so many columns.
func padTo(s string, least int) string {
	return s + strings.Repeat(" ", max(least-columns(s), 0))
}
