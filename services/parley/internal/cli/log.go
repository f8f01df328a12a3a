package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

func (a *App) logCommand() *cobra.Command {
	cmd := group("log", "The log of events: copy it to another event store, compare two", a.logCopy(), a.logVerify())
	cmd.Long = `The log is all that Parley knows. It lives in the data directory of one process,
or in an EventStoreDB, and moves from one to the other with ` + "`copy`" + `.`
	return cmd
}

// logEnds is where a log is read, and where it is written or compared.
type logEnds struct {
	app      *App
	from, to string
	output   string
	display  display
	paced    paced
	began    time.Time
	first    uint64 // records that were there when it began
	last     time.Time
}

func (a *App) newLogEnds() *logEnds {
	return &logEnds{app: a, output: outputTable, display: display{app: a}, paced: paced{app: a}}
}

func (l *logEnds) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.from, "from", "", "`where` the log to read is: a data directory, or the URL of an EventStoreDB (required)")
	f.StringVar(&l.to, "to", "", "`where` the other one is: a data directory, or the URL of an EventStoreDB (required)")
	f.StringVarP(&l.output, "output", "o", outputTable, "`form` of the output: table or json")
	// The forms are constants, so that registering their completion cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
}

func (l *logEnds) check() error {
	if l.output != outputTable && l.output != outputJSON {
		return usagef("-o %s: there are table and json", l.output)
	}
	for _, end := range []struct{ flag, where string }{{"--from", l.from}, {"--to", l.to}} {
		scheme, _, isURL := strings.Cut(end.where, "://")
		switch {
		case end.where == "":
			return usagef("%s is missing: name a data directory, for example ./parley-data, or the URL of an EventStoreDB, for example esdb://es1:2113", end.flag)
		case isURL && !isEventStoreScheme(scheme):
			return usagef("%s: want a data directory, or the URL of an EventStoreDB (esdb://… or esdb+discover://…); %s:// is neither", end.flag, scheme)
		}
	}
	if l.from == l.to || !strings.Contains(l.from+l.to, "://") && filepath.Clean(l.from) == filepath.Clean(l.to) {
		return usagef("--from and --to are the same")
	}
	return nil
}

func isEventStoreScheme(scheme string) bool { return scheme == "esdb" || scheme == "esdb+discover" }

// open opens both logs. What it returns closes them.
func (l *logEnds) open(ctx context.Context, create bool) (from, to eventstore.Store, closeBoth func() error, err error) {
	if from, err = l.app.openLog(ctx, l.from, false); err != nil {
		return nil, nil, nil, atFlag("--from", l.from, err)
	}
	if to, err = l.app.openLog(ctx, l.to, create); err != nil {
		return nil, nil, nil, errors.Join(atFlag("--to", l.to, err), from.Close())
	}
	return from, to, func() error { return errors.Join(from.Close(), to.Close()) }, nil
}

// openLog opens the log in a data directory, or an EventStoreDB by its URL.
func (a *App) openLog(ctx context.Context, where string, create bool) (eventstore.Store, error) {
	if strings.Contains(where, "://") {
		return openEventStore(ctx, where)
	}
	log, err := serve.OpenDataLog(where, serve.DataLogOptions{Create: create, Logger: slog.New(slog.DiscardHandler), Now: a.Now})
	if err != nil {
		return nil, err
	}
	return log, nil
}

// atFlag names the flag of this command rather than that of a server.
func atFlag(flag, where string, err error) error {
	if d, ok := errors.AsType[*serve.DataDirError](err); ok {
		return fmt.Errorf("%s %s: %w", flag, where, d.Err)
	}
	return fmt.Errorf("%s %s: %w", flag, withoutUser(where), err)
}

// withoutUser is a URL without its user and password.
func withoutUser(where string) string {
	scheme, rest, isURL := strings.Cut(where, "://")
	if !isURL {
		return where
	}
	hosts, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		hosts, tail = rest[:i], rest[i:]
	}
	return scheme + "://" + hosts[strings.LastIndex(hosts, "@")+1:] + tail
}

// progress shows how far something has come: a bar on a terminal, now and then
// a line elsewhere.
func (l *logEnds) progress(step string) func(logcopy.Progress) {
	a := l.app
	began := false
	return func(p logcopy.Progress) {
		now := a.Now()
		if !began {
			began, l.began, l.first, l.last = true, now, p.Records, time.Time{}
		}
		if !a.terminal(a.Stderr) {
			if l.paced.due(step, strconv.FormatBool(p.CaughtUp)) {
				a.complain("%s", l.progressText(step, p))
			}
			return
		}
		if now.Sub(l.last) < progressTerminal && p.Position < p.Head {
			return
		}
		l.last = now
		if l.display.screen == nil {
			l.display.screen = a.screenOn(a.Stderr)
		}
		columns, _ := a.sizeOf(a.Stderr)
		_ = l.display.show([]row{l.progressRow(step, p, columns)}) // nobody to tell where that fails
	}
}

func part(p logcopy.Progress) float64 { return float64(p.Position) / float64(max(p.Head, 1)) }

func (l *logEnds) progressText(step string, p logcopy.Progress) string {
	if p.CaughtUp {
		return fmt.Sprintf("%s: caught up, %s; ctrl-c ends it", step, number(p.Records, "record", "records"))
	}
	parts := []string{step + ": " + share(part(p)), number(p.Records, "record", "records")}
	took := l.app.Now().Sub(l.began)
	if took > 0 && p.Records > l.first {
		rate := float64(p.Records-l.first) / took.Seconds()
		parts = append(parts, perSecond(rate))
		if left := timeLeft(p, rate); left > 0 {
			parts = append(parts, roughly(left)+" left")
		}
	}
	return strings.Join(parts, ", ")
}

// timeLeft is how long the rest takes at so many records a second; 0 for none, and
// where that is not known. Records and positions are in about the same proportion
// all along.
func timeLeft(p logcopy.Progress, rate float64) time.Duration {
	const most = 1e9 // seconds
	done := part(p)
	if done <= 0 || done >= 1 || rate <= 0 {
		return 0
	}
	return time.Duration(min(float64(p.Records)*(1/done-1)/rate, most) * float64(time.Second))
}

// progressRow is the same with a bar, where there is room for one.
func (l *logEnds) progressRow(step string, p logcopy.Progress, width int) row {
	text := l.progressText(step, p)
	room := min(width-columns(text)-2, maxBar)
	if room < minBar {
		return textRow(styleNone, text)
	}
	return row{{text: l.app.bar(part(p), room), style: styleGood}, {text: "  " + text}}
}

// retrying says that a copy waits for an event store.
func (l *logEnds) retrying(err error, wait time.Duration) {
	l.display.close(false)
	l.app.complain("parley: %s; trying again in %s", clean(strings.ReplaceAll(err.Error(), "\n", " ")), roughly(wait))
}

// logOutcome is what a copy or a comparison came to, as JSON.
type logOutcome struct {
	Source logEnd `json:"source"`
	Target logEnd `json:"target"`
	// Of a copy.
	Copied   *uint64 `json:"copied,omitempty"`
	Found    *uint64 `json:"found,omitempty"`
	Complete *bool   `json:"complete,omitempty"`
	// Verified is left out where nothing was compared.
	Verified *logVerified `json:"verified,omitempty"`
}

type logEnd struct {
	Where string    `json:"where"`
	LogID uuid.UUID `json:"logId"`
	// Position of the last record that was copied or compared.
	Position eventstore.Position `json:"position,omitempty"`
}

type logVerified struct {
	Equal        bool   `json:"equal"`
	Records      uint64 `json:"records"`
	SourceDigest string `json:"sourceDigest"`
	TargetDigest string `json:"targetDigest"`
	// TargetGoesOn says that there is more in the target.
	TargetGoesOn bool           `json:"targetGoesOn,omitempty"`
	Difference   *logDifference `json:"difference,omitempty"`
}

type logDifference struct {
	Text     string              `json:"text"`
	Field    string              `json:"field"`
	Stream   string              `json:"stream"`
	Revision eventstore.Revision `json:"revision"`
	EventID  uuid.UUID           `json:"eventId"`
	Position eventstore.Position `json:"position"`
	// TargetPosition is left out where the record is missing.
	TargetPosition eventstore.Position `json:"targetPosition,omitempty"`
}

func (l *logEnds) outcome(from, to eventstore.Store) logOutcome {
	return logOutcome{
		Source: logEnd{Where: withoutUser(l.from), LogID: from.LogID()},
		Target: logEnd{Where: withoutUser(l.to), LogID: to.LogID()},
	}
}

func (o *logOutcome) copied(r logcopy.Result) {
	o.Source.Position, o.Target.Position = r.Origin.Old, r.Origin.New
	o.Copied, o.Found, o.Complete = &r.Copied, &r.Found, &r.Origin.Complete
}

func (o *logOutcome) verified(v logcopy.Verified) {
	o.Verified = &logVerified{
		Equal: v.Difference == nil, Records: v.Records, TargetGoesOn: v.More,
		SourceDigest: hex.EncodeToString(v.Source[:]), TargetDigest: hex.EncodeToString(v.Target[:]),
	}
	if d := v.Difference; d != nil {
		o.Verified.Difference = &logDifference{
			Text: d.String(), Field: d.Field, Stream: d.Want.Stream, Revision: d.Want.Revision, EventID: d.Want.ID, Position: d.Want.Position,
		}
		if d.Got != nil {
			o.Verified.Difference.TargetPosition = d.Got.Position
		}
	}
}

func (o *logOutcome) json(a *App) error {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("write the outcome: %w", err)
	}
	return write(a.Stdout, string(b)+"\n")
}

// page shows it to people.
func (o *logOutcome) page(p *page) {
	if o.Copied != nil {
		p.line("Copied %s from %s to %s; %s stood there already.",
			number(*o.Copied, "record", "records"), o.Source.Where, o.Target.Where, grouped(*o.Found))
		p.line("")
		p.line("source  log %s, up to position %s", o.Source.LogID.String(), grouped(uint64(o.Source.Position)))
		p.line("target  log %s, up to position %s", o.Target.LogID.String(), grouped(uint64(o.Target.Position)))
	}
	v := o.Verified
	switch {
	case v == nil:
		p.line("Nothing was compared: `parley log verify` does.")
	case v.Equal:
		p.line("digest  %s, the same on both sides, of %s", v.SourceDigest, number(v.Records, "record", "records"))
	default:
		p.line("They differ. The first difference:")
		p.line("  %s", v.Difference.Text)
	}
	if v != nil && v.Equal && v.TargetGoesOn && o.Copied == nil {
		p.line("The target goes on behind them.")
	}
}

// copyHint says what to do about an error of a copy.
func copyHint(err error) error {
	switch {
	case errors.Is(err, logcopy.ErrUnfinished):
		return addHint(errors.New("interrupted before the copy was done"),
			"The same command again goes on where it was. Until it has come to the end the target must not be served.")
	case errors.Is(err, eventstore.ErrUnavailable):
		return addHint(err, "The same command again goes on where it was.")
	case errors.Is(err, posmap.ErrTwoWriters):
		return addHint(err, "Wait for that one, or end it; then the same command again goes on.")
	case errors.Is(err, eventstore.ErrFull):
		return addHint(err, "Make room there; then the same command again goes on where it was.")
	case errors.Is(err, logcopy.ErrSameLog):
		return addHint(err, "--from and --to must be two different logs.")
	default:
		return err
	}
}
