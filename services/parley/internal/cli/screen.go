package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// screen is the part of a terminal that is drawn anew in place: the lines that
// it wrote last, at the bottom. A frame goes out in one write and each line
// overwrites the one that stood there, so that nothing flickers; no line is
// longer than the terminal is wide, and no frame higher, as of each drawing.
// While it draws, the cursor is hidden, until close.
//
// It is used by one goroutine.
type screen struct {
	w     io.Writer
	size  func() (columns, rows int)
	paint painter
	// drawn has the columns of each line that stands there; the cursor is on
	// the line below them.
	drawn  []int
	hidden bool
}

// style is how a terminal shows a text.
type style string

// The styles, by their meaning.
const (
	styleNone style = ""
	styleGood style = "32"
	styleWarn style = "33"
	styleBad  style = "31"
	styleDim  style = "2"
	styleBold style = "1"
)

// span is a text in one style, row a line of them.
type (
	span struct {
		text  string
		style style
	}
	row []span
)

// textRow is a row in one style.
func textRow(s style, text string) row { return row{{text: text, style: s}} }

// draw replaces what stands there. Where there are more rows than the terminal
// has, the last line says how many there are.
func (s *screen) draw(rows []row) error {
	columns, lines := s.size()
	var b strings.Builder
	if !s.hidden {
		b.WriteString("\x1b[?25l")
		s.hidden = true
	}
	s.home(&b, columns)
	// The cursor's line below the frame counts too.
	if room := max(lines-1, 1); len(rows) > room {
		hidden := len(rows) - room + 1
		rows = append(rows[:room-1:room-1], textRow(styleDim, fmt.Sprintf("and %d more", hidden)))
	}
	s.drawn = s.drawn[:0]
	for _, r := range rows {
		// One less than there are: a full line leaves some terminals' cursors behind its end.
		s.drawn = append(s.drawn, r.write(&b, s.paint, max(columns-1, 1)))
		b.WriteString("\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	return write(s.w, b.String())
}

// home brings the cursor to the first line that was drawn. Where the terminal
// became narrower since, it has broken lines into several.
func (s *screen) home(b *strings.Builder, columns int) {
	up := 0
	for _, n := range s.drawn {
		up += max((n+columns-1)/max(columns, 1), 1)
	}
	b.WriteByte('\r')
	if up > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(up) + "A")
	}
}

// say writes a line that stays, above what is drawn next.
func (s *screen) say(r row) error {
	columns, _ := s.size()
	var b strings.Builder
	s.home(&b, columns)
	r.write(&b, s.paint, 0)
	b.WriteString("\x1b[K\n\x1b[J")
	s.drawn = s.drawn[:0]
	return write(s.w, b.String())
}

// close ends the drawing and gives the cursor back. What stands there stays
// with keep, else it goes.
func (s *screen) close(keep bool) {
	if !s.hidden {
		return
	}
	var b strings.Builder
	if !keep {
		columns, _ := s.size()
		s.home(&b, columns)
		s.drawn = s.drawn[:0]
	}
	// A terminal echoes ctrl-c where the cursor is.
	b.WriteString("\r\x1b[J\x1b[?25h")
	s.hidden = false
	_ = write(s.w, b.String()) // nobody to tell where that fails
}

// write writes a row of at most so many columns, 0 for all of it, and says how
// many it took.
func (r row) write(b *strings.Builder, p painter, most int) int {
	taken := 0
	for _, sp := range r {
		text := oneLine(sp.text)
		if most > 0 {
			text = fitTo(text, most-taken, "")
		}
		if text == "" {
			continue
		}
		taken += columns(text)
		b.WriteString(p.paint(sp.style, text))
	}
	return taken
}

// oneLine is a text without what would move a terminal's cursor.
func oneLine(s string) string { return clean(strings.ReplaceAll(s, "\n", " ")) }

// painter gives texts a style, where it is on.
type painter bool

func (p painter) paint(s style, text string) string {
	if !bool(p) || s == styleNone || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// terminal says that what is written to w appears on a terminal that can redraw.
func (a *App) terminal(w io.Writer) bool {
	if t, _ := a.env("TERM"); t == "dumb" {
		return false
	}
	if f, ok := w.(*os.File); ok {
		return term.IsTerminal(int(f.Fd()))
	}
	return a.Terminal
}

// painter for a writer: colours are for terminals, unless NO_COLOR is set.
func (a *App) painter(w io.Writer) painter {
	none, _ := a.env("NO_COLOR")
	return painter(none == "" && a.terminal(w))
}

// screenOn is a screen on a terminal.
func (a *App) screenOn(w io.Writer) *screen {
	return &screen{w: w, size: func() (int, int) { return a.sizeOf(w) }, paint: a.painter(w)}
}

// sizeOf is how many columns and rows a terminal has at present; one that does
// not say, and what is none, has those of COLUMNS and LINES, or 80 and 24.
func (a *App) sizeOf(w io.Writer) (columns, rows int) {
	if f, ok := w.(*os.File); ok {
		if c, r, err := term.GetSize(int(f.Fd())); err == nil && c > 0 && r > 0 {
			return c, r
		}
	}
	const usualColumns, usualRows = 80, 24
	number := func(name string, usual int) int {
		if v, ok := a.env(name); ok {
			if n, err := strconv.Atoi(v); err == nil && n > 0 {
				return min(n, maxWidth)
			}
		}
		return usual
	}
	return number("COLUMNS", usualColumns), number("LINES", usualRows)
}

// bar is a bar of so many columns, filled to a part.
func (a *App) bar(part float64, width int) string {
	full, empty := "#", "."
	if a.strokes() == boxStrokes {
		full, empty = "█", "░"
	}
	n := 0
	if part > 0 { // which is no NaN either
		n = int(min(part, 1) * float64(width)) // rounded down: not full before it is done
	}
	return strings.Repeat(full, n) + strings.Repeat(empty, width-n)
}
