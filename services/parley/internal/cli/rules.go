package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func (a *App) identityCommand() *cobra.Command {
	c := &client{app: a}
	cmd := group("identity", "The rules of who is who",
		group("rules", "How identifiers are read and when they link", a.rulesGet(c), a.rulesSet(c)),
		a.identityBlock(c), a.identityUnblock(c), a.identityFit(c))
	c.bind(cmd)
	return cmd
}

func (a *App) rulesGet(c *client) *cobra.Command {
	var token string
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Show the rules of who is who",
		Long: `Shows the rules of who is who. With -o json they come in the form that
` + "`parley identity rules set`" + ` takes.`,
		Example: `  parley identity rules get
  parley identity rules get -o json > rules.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := customerv1.NewCustomerServiceClient(conn).GetIdentityRules(ctx, &customerv1.GetIdentityRulesRequest{ConsistencyToken: token})
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, resp, false)
				}
				p := page{loc: a.Location}
				p.rules(resp, a.width())
				return write(a.Stdout, p.b.String())
			})
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "wait for the write that gave this consistency `token`")
	return cmd
}

// rules is the page of a tenant's rules.
func (p *page) rules(resp *customerv1.GetIdentityRulesResponse, width int) {
	r := resp.GetRules()
	p.line("In force: %s", p.since(resp))
	var rows [][]string
	for _, s := range singleRules(r) {
		rows = append(rows, []string{s.name, s.value})
	}
	p.line("")
	p.table("", []string{"RULE", "VALUE"}, rows)

	rows = nil
	for _, k := range append(r.GetKinds()[:len(r.GetKinds()):len(r.GetKinds())], r.GetOtherKinds()) {
		rows = append(rows, []string{
			kindName(k.GetKind()), or(enum(k.GetStrength().String(), "IDENTIFIER_STRENGTH_")), strconv.Itoa(int(k.GetRank())),
			strconv.Itoa(int(k.GetLimit())), strconv.Itoa(int(k.GetSharedAbove())),
		})
	}
	p.table("Kinds of identifiers", []string{"KIND", "STRENGTH", "RANK", "LIMIT", "SHARED ABOVE"}, rows)

	if parts := r.GetSharedLocalParts(); len(parts) > 0 {
		const wide = 100 // columns, where nothing bounds them
		if width == 0 {
			width = wide
		}
		d := drawing{page: page{loc: p.loc}, width: width}
		d.wrapped(2, strings.Join(parts, ", "))
		p.line("")
		p.line("Names before the @ that are a role's, at every domain")
		p.b.WriteString(d.b.String())
	}

	rows = nil
	for _, b := range r.GetBlocked() {
		rows = append(rows, []string{b.GetKind(), b.GetValue()})
	}
	p.table("Blocked: they link nobody", []string{"KIND", "VALUE"}, rows)
}

// since says whose the rules are.
func (p *page) since(resp *customerv1.GetIdentityRulesResponse) string {
	if resp.GetEventId() == "" {
		return "the defaults, which nobody has changed"
	}
	return fmt.Sprintf("those since %s, by %s (event %s)", p.moment(resp.GetTime()), actorName(resp.GetActor()), resp.GetEventId())
}

func kindName(kind string) string {
	switch {
	case kind == "":
		return "every other"
	case strings.HasSuffix(kind, ":"):
		return kind + "*"
	default:
		return kind
	}
}

func (a *App) rulesSet(c *client) *cobra.Command {
	var d decisionFlags
	var file string
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Change the rules of who is who",
		Long: `Changes the rules of who is who to those of a file: what
` + "`parley identity rules get -o json`" + ` gives, edited, or its "rules" alone. They
count for what is recorded from then on. Identifiers that they block lose their
links at once, those that they do not block any more get theirs back.

What changes is shown and you are asked once; --yes does not ask. Where somebody
else changed the rules since the file was made, nothing is changed.`,
		Example: `  parley identity rules get -o json > rules.json
  parley identity rules set --file rules.json --reason "Families share phones here"`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--file: name the file with the rules, or - for standard input")
			}
			if err := d.check(a); err != nil {
				return err
			}
			if file == "-" && !d.yes {
				return usagef("--file -: standard input has the rules, so nobody can be asked there: --yes does it without asking")
			}
			text, err := a.readFile(file)
			if err != nil {
				return err
			}
			wanted, whole, err := parseRules(text)
			if err != nil {
				return usagef("--file %s: %w", file, err)
			}
			return c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				service := customerv1.NewCustomerServiceClient(conn)
				now, err := currentRules(ctx, c, service)
				if err != nil {
					return err
				}
				if whole && wanted.GetEventId() != now.GetEventId() {
					p := page{loc: a.Location}
					return fmt.Errorf("the file was made of other rules than those in force: %s. Get these with `parley identity rules get -o json` and make the change in them", p.since(now))
				}
				changes := rulesDiff(now.GetRules(), wanted.GetRules())
				if len(changes) == 0 {
					return a.unchanged(c, now, "The rules are these already.")
				}
				p := page{loc: a.Location}
				p.changes(changes)
				if err := d.agreed(ctx, a, p.b.String(), "Change the rules?"); err != nil {
					return err
				}
				resp, err := within(ctx, c, func(ctx context.Context) (*customerv1.UpdateIdentityRulesResponse, error) {
					return service.UpdateIdentityRules(ctx, &customerv1.UpdateIdentityRulesRequest{
						Rules: wanted.GetRules(), FollowsEventId: now.GetEventId(), Reason: d.reason,
					})
				})
				if err != nil {
					return err
				}
				return a.rulesChanged(c, resp, [][]string{{"changes", strconv.Itoa(len(changes))}})
			})
		},
	}
	d.bind(cmd)
	cmd.Flags().StringVar(&file, "file", "", "`file` with the rules as JSON, - for standard input (required)")
	return cmd
}

func currentRules(ctx context.Context, c *client, service customerv1.CustomerServiceClient) (*customerv1.GetIdentityRulesResponse, error) {
	return within(ctx, c, func(ctx context.Context) (*customerv1.GetIdentityRulesResponse, error) {
		return service.GetIdentityRules(ctx, &customerv1.GetIdentityRulesRequest{})
	})
}

// rulesChanged shows what a change came to.
func (a *App) rulesChanged(c *client, resp *customerv1.UpdateIdentityRulesResponse, rows [][]string) error {
	if c.json() {
		return printJSON(a.Stdout, resp, false)
	}
	p := page{loc: a.Location}
	p.table("", []string{"RESULT", ""}, append(rows, []string{"event", resp.GetEventId()}, []string{"token", resp.GetConsistencyToken()}))
	return write(a.Stdout, p.b.String())
}

// unchanged answers where nothing was to be done: with the event that did it.
func (a *App) unchanged(c *client, now *customerv1.GetIdentityRulesResponse, text string) error {
	if c.json() {
		return printJSON(a.Stdout, &customerv1.UpdateIdentityRulesResponse{EventId: now.GetEventId()}, false)
	}
	return write(a.Stdout, clean(text)+"\n")
}

// maxRulesBytes is more than any rules have.
const maxRulesBytes = 4 << 20

// readFile reads a small file whole; - is standard input.
func (a *App) readFile(name string) ([]byte, error) {
	r := a.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("--file: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, maxRulesBytes+1))
	if err != nil {
		return nil, fmt.Errorf("--file: read: %w", err)
	}
	if len(text) > maxRulesBytes {
		return nil, usagef("--file %s: larger than %d bytes, so it holds no rules", name, maxRulesBytes)
	}
	return text, nil
}

// parseRules reads rules as JSON: a whole GetIdentityRulesResponse, which says
// upon which event they follow, or IdentityRules.
func parseRules(text []byte) (resp *customerv1.GetIdentityRulesResponse, whole bool, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, false, fmt.Errorf("want one JSON object: %w", err)
	}
	if len(fields) == 0 {
		return nil, false, errNoRules
	}
	if _, whole = fields["rules"]; whole {
		resp = &customerv1.GetIdentityRulesResponse{}
		err = protojson.Unmarshal(text, resp)
	} else {
		resp = &customerv1.GetIdentityRulesResponse{Rules: &eventv1.IdentityRules{}}
		err = protojson.Unmarshal(text, resp.GetRules())
	}
	if err != nil {
		return nil, false, err
	}
	if resp.GetRules() == nil {
		return nil, false, errNoRules
	}
	return resp, whole, nil
}
