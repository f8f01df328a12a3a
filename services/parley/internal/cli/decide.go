package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Commands that decide something show what it is about and ask once. A decision
// travels with a request id, so that one whose answer was lost can be sent
// again and is made once.

// shownEach is how many of a list a page shows.
const shownEach = 20

// maxReasonRunes is the longest reason that the server takes.
const maxReasonRunes = 512

// decisionFlags are what every decision needs.
type decisionFlags struct {
	reason string
	yes    bool
	// requestID is given by whoever wants to repeat the command safely.
	requestID string
}

func (d *decisionFlags) bind(cmd *cobra.Command) {
	d.bindReason(cmd)
	cmd.Flags().BoolVarP(&d.yes, "yes", "y", false, "do not ask")
}

func (d *decisionFlags) bindReason(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.reason, "reason", "", "`why`, for those who look at it later (required)")
}

func (d *decisionFlags) bindRequestID(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.requestID, "request-id", "", "a `UUID` of your own: the same command again then does nothing")
}

// check says what is wrong with the flags before anybody is asked for anything.
func (d *decisionFlags) check(a *App) error {
	if err := d.checkReason(); err != nil {
		return err
	}
	if d.requestID != "" && uuid.Validate(d.requestID) != nil {
		return usagef("--request-id %s: want a UUID, for example %s", d.requestID, uuid.Nil)
	}
	if !d.yes && !a.canAsk() {
		return usagef("there is no terminal to ask on whether you are sure: --yes does it without asking")
	}
	return nil
}

func (d *decisionFlags) checkReason() error {
	d.reason = strings.TrimSpace(d.reason)
	if d.reason == "" {
		return usagef("--reason: say why, for those who look at it later")
	}
	if n := utf8.RuneCountInString(d.reason); n > maxReasonRunes {
		return usagef("--reason: it has %d characters, the most are %d", n, maxReasonRunes)
	}
	return nil
}

// id is the request's: the one given, else a new one.
func (d *decisionFlags) id(a *App) (string, error) {
	if d.requestID != "" {
		return d.requestID, nil
	}
	id, err := uuid.NewRandomFromReader(a.Random)
	if err != nil {
		return "", fmt.Errorf("make a request id: %w", err)
	}
	return id.String(), nil
}

// agreed shows what a decision is about and asks, unless --yes.
func (d *decisionFlags) agreed(ctx context.Context, a *App, about, question string) error {
	if d.yes {
		return nil
	}
	if _, err := io.WriteString(a.Stderr, about+"\n"+question+" [y/N] "); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	yes, err := a.answer(ctx)
	if err != nil {
		return err
	}
	if !yes {
		a.complain("Nothing was changed.")
		return reportedError{}
	}
	return nil
}

// canAsk says that somebody reads the question and can type an answer.
func (a *App) canAsk() bool {
	f, file := a.Stdin.(*os.File)
	return a.Terminal && (!file || term.IsTerminal(int(f.Fd())))
}

// answer reads a line and says whether it is a yes.
func (a *App) answer(ctx context.Context) (bool, error) {
	line := make(chan string, 1)
	// Nothing interrupts a read from a terminal: where the command ends first,
	// the process takes the reader along.
	go func() { line <- firstLine(a.Stdin) }()
	select {
	case <-ctx.Done():
		a.complain("\nNothing was changed.")
		return false, reportedError{}
	case text := <-line:
		text = strings.ToLower(strings.TrimSpace(text))
		return text == "y" || text == "yes", nil
	}
}

// firstLine is the beginning of a reader up to the end of the line, read byte
// by byte so that what follows is left to others. What cannot be read is no answer.
func firstLine(r io.Reader) string {
	const most = 100 // bytes; longer than any yes
	var line []byte
	b := make([]byte, 1)
	for len(line) < most {
		n, err := r.Read(b)
		if n > 0 {
			if b[0] == '\n' {
				break
			}
			line = append(line, b[0])
		}
		if err != nil {
			break
		}
	}
	return string(line)
}

// uncertain adds to an error after which nobody knows whether the decision was
// made what to do about that.
func uncertain(err error, requestID string) error {
	e, ok := rpcerr.Parse(err)
	if !ok {
		return err
	}
	switch e.Code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
	default:
		return err
	}
	hint := "Whether it was done is not known. The same command with --request-id " + requestID + " does it at most once."
	if h, ok := errors.AsType[*hintedError](err); ok {
		return &hintedError{err: h.err, hint: h.hint + "\n" + hint}
	}
	return &hintedError{err: err, hint: hint}
}

// within makes one call within the timeout; what lies between two calls may
// take as long as people need.
func within[T any](ctx context.Context, c *client, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return call(ctx)
}

// command is a command line that reaches the same server, for people to paste.
func (c *client) command(cmd *cobra.Command, words ...string) string {
	for _, name := range []string{"addr", "tls-ca", "tls"} {
		flag := cmd.Flags().Lookup(name)
		if flag == nil || !flag.Changed {
			continue
		}
		value := flag.Value.String()
		if env, ok := c.app.env("PARLEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); ok && env == value {
			continue
		}
		words = append(words, "--"+name+"="+value)
	}
	quoted := make([]string, 0, len(words)+1)
	for _, w := range append([]string{"parley"}, words...) {
		quoted = append(quoted, shellWord(w))
	}
	return strings.Join(quoted, " ")
}

// shellWord is a word that a shell takes for one.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@+,", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	if !strings.ContainsAny(s, "\"$`\\!") {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// undoReason stands where whoever undoes something says why.
const undoReason = "why it was wrong"

// reasonHint says what to do about a refusal; empty for those whose message
// says it.
func reasonHint(r errorv1.Reason) string {
	switch r {
	case errorv1.Reason_REASON_SAME_CUSTOMER:
		return "There is nothing to merge; `parley customer explain` shows why they are one."
	case errorv1.Reason_REASON_NOT_A_PROFILE_OF_CUSTOMER:
		return "`parley customer explain` shows which profiles he has now; a merge or split may have come between."
	case errorv1.Reason_REASON_NOTHING_TO_SPLIT:
		return "Some of his profiles must leave and some must stay; `parley customer explain` shows them."
	case errorv1.Reason_REASON_CUSTOMER_TOO_LARGE:
		return "Customers of that size are mostly an identifier that many share: `parley identity block` takes it out, `parley customer explain` shows which it is."
	case errorv1.Reason_REASON_CHANGED_SINCE:
		return "Somebody else changes them at the same time. Run it again; a file of rules is made anew with `parley identity rules get -o json`."
	default:
		return ""
	}
}
