package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

func (a *App) customerExplain(c *client) *cobra.Command {
	var who identifierFlags
	limit := shownEach
	cmd := &cobra.Command{
		Use:   "explain CUSTOMER",
		Short: "Show why a customer's identifiers are one person: links, refusals, decisions",
		Long: `Draws the graph of one customer. His profiles (each is one identifier) stand as
a tree below the oldest one, which names him: each with the link that brought
it, and the event that is its evidence. Then come the links that do not hold,
and whose the other end is; what was merged and split, by whom and why, with
the command that undoes it; and what others did who only claimed to be him.

` + namingHelp,
		Example: `  parley customer explain ada@example.com
  parley customer explain user_id:4711 --limit 0
  parley customer explain --id rpc5dhk3vc5ztlabzqjb7j5cde -o json`,
		Args: anyArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := who.named(args)
			if err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d: want 0 for all, or more", limit)
			}
			return c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				service := customerv1.NewCustomerServiceClient(conn)
				found, err := name.find(ctx, service, who.token, "customer_id", "display_name")
				if err != nil {
					return err
				}
				if len(found) > 1 {
					a.complain("%s", clean(fmt.Sprintf("%d customers have the %s %s; this is the one whose it is most surely. `parley customer get` shows all.",
						len(found), strings.ReplaceAll(name.kind, "_", " "), cell(name.value))))
				}
				graph, err := service.ExplainIdentity(ctx, &customerv1.ExplainIdentityRequest{CustomerId: found[0].GetCustomerId(), ConsistencyToken: who.token})
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, graph, false)
				}
				d := newDrawing(a, graph, limit)
				d.command = func(words ...string) string { return c.command(cmd, words...) }
				if err := d.learnNames(ctx, service, who.token); err != nil {
					return err
				}
				d.draw(found[0].GetDisplayName())
				return write(a.Stdout, d.b.String())
			})
		},
	}
	who.bind(cmd)
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many profiles, links and decisions; 0 for all")
	return cmd
}

// drawing is the page that explains a customer.
type drawing struct {
	page
	strokes

	width   int // columns; 0 for as many as it takes
	limit   int // of each list; 0 for all
	graph   *customerv1.ExplainIdentityResponse
	own     map[string]*customerv1.ExplainedProfile // by id
	names   map[string]string                       // of other customers, by id
	command func(words ...string) string
}

func newDrawing(a *App, graph *customerv1.ExplainIdentityResponse, limit int) *drawing {
	d := &drawing{
		page: page{loc: a.Location}, strokes: a.strokes(), width: a.width(), limit: limit,
		graph: graph, own: make(map[string]*customerv1.ExplainedProfile, len(graph.GetProfiles())), names: map[string]string{},
	}
	for _, p := range graph.GetProfiles() {
		d.own[p.GetProfileId()] = p
	}
	return d
}

// last are the newest of a list, as many as are shown, and how many are not.
func last[T any](all []T, limit int) (shown []T, left int) {
	if limit > 0 && len(all) > limit {
		left = len(all) - limit
	}
	return all[left:], left
}

// loose are the links that do not hold the customer together.
func (d *drawing) loose() (shown []*customerv1.ExplainedLink, left int) {
	var all []*customerv1.ExplainedLink
	for _, l := range d.graph.GetLinks() {
		if !holds(l) {
			all = append(all, l)
		}
	}
	return last(all, d.limit)
}

// learnNames asks what the other customers are called that will be shown.
func (d *drawing) learnNames(ctx context.Context, service customerv1.CustomerServiceClient, token string) error {
	const largestBatch = 100
	var ids []string
	links, _ := d.loose()
	for _, l := range links {
		ids = append(ids, l.GetOtherCustomerId())
	}
	decisions, _ := last(d.graph.GetDecisions(), d.limit)
	for _, x := range decisions {
		for _, id := range []string{x.GetCustomerId(), x.GetOtherCustomerId()} {
			if d.own[id] == nil {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == "" || len(id) > maxIDBytes })
	for batch := range slices.Chunk(ids, largestBatch) {
		resp, err := service.BatchGetCustomers(ctx, &customerv1.BatchGetCustomersRequest{
			CustomerIds: batch, ConsistencyToken: token, ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"customer_id", "display_name"}},
		})
		if err != nil {
			return err
		}
		for _, c := range resp.GetCustomers() {
			d.names[c.GetCustomerId()] = c.GetDisplayName()
		}
	}
	return nil
}

func (d *drawing) draw(name string) {
	n := int64(len(d.graph.GetProfiles()))
	d.line("%s", cell(or(name)))
	d.line("customer %s, %s", d.graph.GetCustomerId(), plural(n, "profile", "profiles"))
	d.tree()
	d.looseLinks()
	d.decisions()
	d.claims(d.graph.GetClaims())
	if d.graph.GetTruncated() {
		d.line("")
		d.line("There is more than the server tells, -o json too: only the newest is here.")
	}
}

// tree draws the profiles and what made them one.
func (d *drawing) tree() {
	t := newIdentityTree(d.graph)
	rows := t.rows(d.limit, d.strokes, d.cells)
	if len(rows) == 0 {
		return
	}
	d.line("")
	d.line("Profiles, and the links that make them one")
	d.columns(rows)
	if t.spare > 0 {
		d.line("  %s in force between profiles that were one without; -o json has them", plural(int64(t.spare), "more link", "more links"))
	}
	if slices.ContainsFunc(d.graph.GetProfiles(), (*customerv1.ExplainedProfile).GetShared) {
		d.line("  shared: several people use it, so it links nobody")
	}
}

// treeHeader is over a tree; the cells below are in this order.
var treeHeader = treeRow{label: "PROFILE", cells: []string{"ID", "STRENGTH", "LINKED BY", "WHEN", "EVIDENCE"}}

const (
	cellStrength = 1
	cellWhen     = 3
	cellEvidence = 4
)

// cells stand beside a profile in the tree.
func (d *drawing) cells(n treeNode) []string {
	by, when, evidence := "-", "-", "-"
	switch l, x := n.edge.link, n.edge.decision; {
	case l != nil:
		by, when, evidence = or(enum(l.GetRule().String(), "LINK_RULE_")), d.moment(l.GetEvidenceTime()), l.GetEvidenceEventId()
		if p := l.GetProbability(); p > 0 {
			by += fmt.Sprintf(" %.0f %%", 100*p)
		}
	case x != nil:
		by, when, evidence = d.who(x), d.moment(x.GetTime()), x.GetEventId()
	case n.parent >= 0:
		by = "not told"
	}
	const whoWidth = 24
	return []string{short(n.profile.GetProfileId()), or(strengthOf(n.profile)), cutTo(by, whoWidth), when, or(short(evidence))}
}

// columns aligns the rows of a tree below its header. On a narrow terminal the
// time loses its hour, then the columns go that say least, then the labels are cut.
func (d *drawing) columns(rows []treeRow) {
	const (
		indent   = 2
		enough   = 32 // columns that a label should have
		dateOnly = len("2006-01-02")
	)
	rows = append([]treeRow{treeHeader}, rows...)
	label := 0
	for i := range rows {
		rows[i].label = clean(rows[i].label)
		label = max(label, columns(rows[i].label))
	}
	drop := make([]bool, len(treeHeader.cells))
	measure := func() (widths []int, all int) {
		widths = make([]int, len(drop))
		for i := range drop {
			if drop[i] {
				continue
			}
			for _, r := range rows {
				if r.cells != nil {
					widths[i] = max(widths[i], columns(r.cells[i]))
				}
			}
			all += 2 + widths[i]
		}
		return widths, all
	}
	widths, beside := measure()
	if d.width > 0 {
		for _, reduce := range []func(){
			func() {
				for _, r := range rows[1:] {
					if r.cells != nil && len(r.cells[cellWhen]) > dateOnly {
						r.cells[cellWhen] = r.cells[cellWhen][:dateOnly]
					}
				}
			},
			func() { drop[cellEvidence] = true },
			func() { drop[cellStrength] = true },
			func() { drop[cellWhen] = true },
		} {
			if d.width-indent-beside >= min(label, enough) {
				break
			}
			reduce()
			widths, beside = measure()
		}
		label = max(min(label, d.width-indent-beside), len(treeHeader.label))
	}
	for _, r := range rows {
		if r.cells == nil { // nothing stands beside it
			d.line("  %s", r.label)
			continue
		}
		texts := []string{"", padTo(fitTo(r.label, label, d.more), label)}
		for i, c := range r.cells {
			if !drop[i] {
				texts = append(texts, padTo(clean(c), widths[i]))
			}
		}
		d.line("%s", strings.Join(texts, "  "))
	}
}

// wrapped adds a paragraph below an indent of so many columns; its further
// lines stand two columns deeper.
func (d *drawing) wrapped(indent int, text string) {
	line, used := strings.Repeat(" ", indent), indent
	begun := false
	for word := range strings.FieldsSeq(clean(text)) {
		w := columns(word)
		if begun && d.width > 0 && used+1+w > d.width {
			d.line("%s", line)
			line, used, begun = strings.Repeat(" ", indent+2), indent+2, false
		}
		if begun {
			line += " "
			used++
		}
		line, used, begun = line+word, used+w, true
	}
	d.line("%s", line)
}

// profile is one of his by its identifier, another one by its id.
func (d *drawing) profile(id string) string {
	if p := d.own[id]; p != nil && p.GetKind() != "" {
		return profileLabel(p)
	}
	return "profile " + or(short(id))
}

// customerNamed is another customer with what he is called.
func (d *drawing) customerNamed(id string) string {
	if name := d.names[id]; name != "" {
		return cell(name) + ", customer " + id
	}
	return "customer " + or(id)
}
