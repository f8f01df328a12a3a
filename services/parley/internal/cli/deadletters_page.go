package cli

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// deadLetters is a table of dead letters, a line each.
func (p *page) deadLetters(all *opsv1.ListDeadLettersResponse, now time.Time, everyState bool) {
	if len(all.GetDeadLetters()) == 0 {
		if everyState {
			p.line("There are no dead letters.")
		} else {
			p.line("There are no dead letters; --all also lists those that wait or were skipped.")
		}
		return
	}
	var rows [][]string
	for _, d := range all.GetDeadLetters() {
		rows = append(rows, []string{
			strconv.FormatUint(d.GetPosition(), 10), or(d.GetTenant()), strings.TrimPrefix(d.GetType(), "parley."), letterState(d),
			ageOf(d.GetRecordedTime(), now), strconv.FormatUint(uint64(d.GetAttempts()), 10), or(cell(firstOf(d.GetError()))),
		})
	}
	p.table("", []string{"POSITION", "TENANT", "TYPE", "STATE", "AGE", "ATTEMPTS", "ERROR"}, rows)
	if all.GetNextPageToken() != "" {
		p.line("There are more; --limit 0 lists all.")
	}
}

func letterState(d *opsv1.DeadLetter) string {
	return or(enum(d.GetState().String(), "DEAD_LETTER_STATE_"))
}

// deadLetter is a dead letter's page: the error first, then what it was about.
func (p *page) deadLetter(resp *opsv1.GetDeadLetterResponse, wholeStack bool) error {
	d := resp.GetDeadLetter()
	p.line("%s at position %d, %s", d.GetType(), d.GetPosition(), letterState(d))
	attempts := ""
	if n := d.GetAttempts(); n > 0 {
		attempts = number(uint64(n), "time", "times")
	}
	if d.GetTriedTime() != nil {
		attempts += ", last " + p.second(d.GetTriedTime())
	}
	parked := ""
	if d.GetParkedTime() != nil {
		parked = p.second(d.GetParkedTime())
	}
	p.fields([][2]string{
		{"event", d.GetEventId()},
		{"tenant", d.GetTenant()},
		{"stream", d.GetStream()},
		{"recorded", p.second(d.GetRecordedTime())},
		{"parked", parked},
		{"tried", attempts},
		{"holds up", strings.Join(d.GetProfileIds(), "\n")},
	})
	if e := strings.TrimSpace(d.GetError()); e != "" {
		p.line("")
		if d.GetState() == opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED {
			p.line("Skipped because")
		} else {
			p.line("Error")
		}
		p.indented(e)
	}
	p.stack(d.GetStack(), wholeStack)

	p.line("")
	p.line("Event")
	if resp.GetEvent() == nil {
		p.line("  It cannot be decoded: `parley events show %s` may say more.", d.GetEventId())
	} else {
		e := page{loc: p.loc}
		if err := e.event(resp.GetEvent()); err != nil {
			return err
		}
		p.indented(e.b.String())
	}
	for _, text := range resp.GetDocumentsJson() {
		p.line("")
		p.line("Document, as it is without the event")
		var out bytes.Buffer
		if json.Indent(&out, []byte(text), "", "  ") == nil {
			text = out.String()
		}
		p.indented(text)
	}
	return nil
}

// indented is a text of several lines.
func (p *page) indented(text string) {
	for l := range strings.Lines(strings.TrimRight(text, "\n")) {
		p.line("  %s", strings.ReplaceAll(strings.TrimRight(l, "\n"), "\t", "    "))
	}
}

// frame is a call on a stack, as runtime/debug writes it.
type frame struct {
	function string // with its package, without its arguments
	place    string // file:line
}

var (
	framePlace = regexp.MustCompile(`^\s+(\S.*:[0-9]+)(?: \+0x[0-9a-f]+)?$`)
	frameCall  = regexp.MustCompile(`\((?:0x|\{|_|\.\.\.|\)).*$| in goroutine [0-9]+$`)
)

// frames reads a stack; nil where it is none.
func frames(stack string) []frame {
	var all []frame
	call := ""
	for l := range strings.Lines(stack) {
		l = strings.TrimRight(l, "\r\n")
		if m := framePlace.FindStringSubmatch(l); m != nil && call != "" {
			all = append(all, frame{function: call, place: m[1]})
			call = ""
			continue
		}
		call = ""
		if l != "" && l == strings.TrimLeft(l, " \t") && !strings.HasPrefix(l, "goroutine ") {
			call = frameCall.ReplaceAllString(strings.TrimPrefix(l, "created by "), "")
		}
	}
	return all
}

// The code of this project, and that which calls folds: what lies above it says
// nothing of the fold.
const (
	ownCode    = "github.com/parleyhq/parley/"
	engineCode = ownCode + "pkg/projection."
)

// mattering are the frames between the panic and the engine: those of the fold
// and what it called. The runtime's own are left out.
func mattering(all []frame) []frame {
	for i, f := range all {
		if f.function == "panic" {
			all = all[i+1:]
			break
		}
	}
	var some []frame
	for _, f := range all {
		if strings.HasPrefix(f.function, engineCode) {
			break
		}
		if f.function == "panic" || strings.HasPrefix(f.function, "runtime.") || strings.HasPrefix(f.function, "runtime/") {
			continue
		}
		some = append(some, f)
	}
	return some
}

// stack shows where a panic came from.
func (p *page) stack(text string, whole bool) {
	if strings.TrimSpace(text) == "" {
		return
	}
	p.line("")
	p.line("Stack")
	if whole {
		p.indented(text)
		return
	}
	const most = 12 // frames or lines; deeper ones say little more
	all := frames(text)
	some := mattering(all)
	if len(some) == 0 {
		some = all
	}
	if len(all) == 0 { // not one of Go's
		lines := strings.SplitAfter(strings.TrimRight(text, "\n"), "\n")
		p.indented(strings.Join(lines[:min(len(lines), most)], ""))
		p.folded(len(lines)-most, "line", "lines")
		return
	}
	some = some[:min(len(some), most)]
	width := 0
	for _, f := range some {
		width = max(width, columns(shortFunction(f.function)))
	}
	for _, f := range some {
		p.line("  %s  %s", padTo(shortFunction(f.function), width), shortPlace(f.place))
	}
	p.folded(len(all)-len(some), "frame", "frames")
}

func (p *page) folded(n int, one, many string) {
	if n > 0 {
		p.line("  … and %s; --stack shows all", number(uint64(n), "more "+one, "more "+many))
	}
}

func shortFunction(name string) string { return strings.TrimPrefix(name, ownCode) }

// shortPlace is a place without the folders that say nothing: those of the
// machine that built the binary.
func shortPlace(place string) string {
	const folders = 3
	parts := strings.Split(place, "/")
	if len(parts) <= folders {
		return place
	}
	return "…/" + strings.Join(parts[len(parts)-folders:], "/")
}
