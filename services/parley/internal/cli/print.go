package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/money"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

// printJSON writes a message in protobuf's JSON form: indented for one object,
// in one line for a stream.
func printJSON(w io.Writer, m proto.Message, line bool) error {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	// protojson varies its white space on purpose; this settles it.
	var out bytes.Buffer
	if line {
		err = json.Compact(&out, raw)
	} else {
		err = json.Indent(&out, raw, "", "  ")
	}
	if err != nil {
		return fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	out.WriteByte('\n')
	return write(w, out.String())
}

func write(w io.Writer, text string) error {
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// page is what a command shows to people.
type page struct {
	b   strings.Builder
	loc *time.Location
}

// line adds a line; its values are cleaned.
func (p *page) line(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = clean(s)
		}
	}
	p.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " "))
	p.b.WriteByte('\n')
}

// table adds rows in columns under a title and a header; nothing where there
// are no rows.
func (p *page) table(title string, header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	indent := ""
	if title != "" {
		p.line("")
		p.line("%s", title)
		indent = "  "
	}
	var out bytes.Buffer
	tw := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			if i > 0 {
				_, _ = io.WriteString(tw, "\t") // a buffer takes everything
			} else {
				_, _ = io.WriteString(tw, indent)
			}
			_, _ = io.WriteString(tw, clean(strings.ReplaceAll(cell, "\n", " ")))
		}
		_, _ = io.WriteString(tw, "\n")
	}
	_ = tw.Flush()
	for l := range strings.Lines(out.String()) {
		p.b.WriteString(strings.TrimRight(l, " \n"))
		p.b.WriteByte('\n')
	}
}

// moment is a time for people; "-" for none.
func (p *page) moment(t *timestamppb.Timestamp) string {
	if t == nil || t.CheckValid() != nil {
		return "-"
	}
	return t.AsTime().In(p.loc).Format("2006-01-02 15:04")
}

// second is a time with its seconds.
func (p *page) second(t *timestamppb.Timestamp) string {
	if t == nil || t.CheckValid() != nil {
		return "-"
	}
	return t.AsTime().In(p.loc).Format("2006-01-02 15:04:05")
}

// maxCell is how much of a text a table shows.
const maxCell = 120

// clean makes a text from outside fit for a terminal and a table: no control
// characters, no characters that change the direction of others, one line,
// not too long.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return '·'
		case r == '\u2028', r == '\u2029':
			return ' '
		default:
			return r
		}
	}, strings.ToValidUTF8(s, "·"))
}

// cell is a text in one line, cut where it is long.
func cell(s string) string { return cutTo(s, maxCell) }

// cutTo is a text in one line of at most n characters.
func cutTo(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// or is a text, or a dash for none.
func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// enum is the name of a value without its prefix, in lower case; empty for the
// unspecified one.
func enum(name, prefix string) string {
	name = strings.ToLower(strings.TrimPrefix(name, prefix))
	if name == "unspecified" {
		return ""
	}
	return strings.ReplaceAll(name, "_", " ")
}

func amounts(all []*typev1.Money) string {
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = money.Format(m)
	}
	return strings.Join(texts, ", ")
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
