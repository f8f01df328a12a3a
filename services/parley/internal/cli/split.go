package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// maxSplitProfiles is how many profiles one split takes.
const maxSplitProfiles = 10_000

// minPrefix is how much of a profile's id names it, among one customer's: what
// pages show of it.
const minPrefix = 8

func (a *App) customerSplit(c *client) *cobra.Command {
	var who identifierFlags
	var d decisionFlags
	var profiles []string
	var undo string
	cmd := &cobra.Command{
		Use:   "split CUSTOMER",
		Short: "Make two customers of one, by your decision",
		Long: `Makes profiles of a customer a customer of their own. No later link joins the
two again, until somebody merges them; the command that does is printed. Each
side has exactly what is its own, whenever it happened. The side with the
profile that the customer is named by keeps his id.

--profiles names the profiles that leave: by id, by the eight characters of it
that ` + "`parley customer explain`" + ` shows, or by kind:value. --undo names the event of
a merge that was wrong; what that merge brought leaves, and what was linked to
it since.

` + namingHelp + `

What leaves and what stays is shown and you are asked once; --yes does not ask.`,
		Example: `  parley customer split ada@example.com --undo 0190a6d8-1f2e-8c3b-9d4e-5f6071829304 --reason "Two sisters"
  parley customer split user_id:4711 --profiles email:grace@example.com,6l56cprb --reason "Sold the laptop"`,
		Args: anyArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := who.named(args)
			if err != nil {
				return err
			}
			profiles, err := leavingNames(profiles, undo)
			if err != nil {
				return err
			}
			if err := d.check(a); err != nil {
				return err
			}
			s := splitting{app: a, client: c, name: name, token: who.token, flags: &d, undo: undo, profiles: profiles}
			return s.run(cmd)
		},
	}
	who.bind(cmd)
	d.bind(cmd)
	d.bindRequestID(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&profiles, "profiles", nil, "the `profiles` that leave and stay together, separated by commas")
	f.StringVar(&undo, "undo", "", "the `event` of the merge that was wrong")
	return cmd
}

// leavingNames checks what says who leaves.
func leavingNames(profiles []string, undo string) ([]string, error) {
	var names []string
	for _, p := range profiles {
		if p = strings.TrimSpace(p); p != "" && !slices.Contains(names, p) {
			names = append(names, p)
		}
	}
	switch {
	case (len(names) == 0) == (undo == ""):
		return nil, usagef("say who leaves: --profiles, or with --undo the merge that was wrong")
	case undo != "" && uuid.Validate(undo) != nil:
		return nil, usagef("--undo %s: want the id of a merge's event, as `parley customer explain` shows it", undo)
	case len(names) > maxSplitProfiles:
		return nil, usagef("--profiles: %d are more than the %d that a split takes", len(names), maxSplitProfiles)
	}
	return names, nil
}

// splitting is one split.
type splitting struct {
	app      *App
	client   *client
	name     customerName
	token    string
	flags    *decisionFlags
	undo     string
	profiles []string // as they were named
}

func (s *splitting) run(cmd *cobra.Command) error {
	id, err := s.flags.id(s.app)
	if err != nil {
		return err
	}
	sent := false
	err = s.client.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		service := customerv1.NewCustomerServiceClient(conn)
		who, err := within(ctx, s.client, func(ctx context.Context) (*customerv1.Customer, error) {
			return s.name.findOne(ctx, service, s.token, "customer_id", "display_name")
		})
		if err != nil {
			return err
		}
		graph, err := within(ctx, s.client, func(ctx context.Context) (*customerv1.ExplainIdentityResponse, error) {
			return service.ExplainIdentity(ctx, &customerv1.ExplainIdentityRequest{CustomerId: who.GetCustomerId(), ConsistencyToken: s.token})
		})
		if err != nil {
			return err
		}
		req := &customerv1.SplitCustomerRequest{
			CustomerId: graph.GetCustomerId(), UndoMergeEventId: s.undo, Reason: s.flags.reason, RequestId: id,
		}
		leaves, err := s.leaving(graph)
		if err != nil {
			return err
		}
		if s.undo == "" {
			req.ProfileIds = leaves
		}
		p := page{loc: s.app.Location}
		p.sides(who, graph, leaves)
		if err := s.flags.agreed(ctx, s.app, p.b.String(), "Make two customers of him?"); err != nil {
			return err
		}
		sent = true
		resp, err := within(ctx, s.client, func(ctx context.Context) (*customerv1.SplitCustomerResponse, error) {
			return service.SplitCustomer(ctx, req)
		})
		if err != nil {
			return err
		}
		sent = false
		return s.done(cmd, resp, graph, leaves)
	})
	if sent {
		err = uncertain(err, id)
	}
	return err
}

// leaving are the ids of the profiles that leave, as far as the read model
// knows them. A request that is sent again, whose split may be done, is left to the server.
func (s *splitting) leaving(graph *customerv1.ExplainIdentityResponse) ([]string, error) {
	again := s.flags.requestID != ""
	var leaves []string
	if s.undo != "" {
		at := slices.IndexFunc(graph.GetDecisions(), func(d *customerv1.IdentityDecision) bool {
			return d.GetEventId() == s.undo && d.GetAction() == customerv1.IdentityAction_IDENTITY_ACTION_MERGED
		})
		if at >= 0 {
			leaves = leavingWith(graph, at)
		} else if !s.flags.yes {
			return nil, fmt.Errorf("no merge of customer %s has the event %s; `parley customer explain %s` lists them. One that was made just now may not be read yet: --token waits for it",
				graph.GetCustomerId(), s.undo, graph.GetCustomerId())
		} else {
			return nil, nil // the server knows the log, this only what was read from it
		}
	}
	for _, name := range s.profiles {
		id, err := profileNamed(graph, name)
		switch {
		case err == nil:
		case again && len(name) <= maxIDBytes && !strings.Contains(name, ":"):
			id = name
		default:
			return nil, err
		}
		if !slices.Contains(leaves, id) {
			leaves = append(leaves, id)
		}
	}
	if n := len(graph.GetProfiles()); !again && (len(leaves) == 0 || len(leaves) == n) {
		return nil, fmt.Errorf("of the %s of customer %s %d would leave: there is nothing to split",
			plural(int64(n), "profile", "profiles"), graph.GetCustomerId(), len(leaves))
	}
	return leaves, nil
}

// profileNamed is the id of the one profile of the customer that a name fits.
func profileNamed(graph *customerv1.ExplainIdentityResponse, name string) (string, error) {
	var fits []string
	for _, p := range graph.GetProfiles() {
		id := p.GetProfileId()
		if id == name || p.GetKind()+":"+p.GetValue() == name {
			return id, nil
		}
		if len(name) >= minPrefix && strings.HasPrefix(id, name) {
			fits = append(fits, id)
		}
	}
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		return "", fmt.Errorf("customer %s has no profile %s; `parley customer explain %s` shows those that he has",
			graph.GetCustomerId(), cell(name), graph.GetCustomerId())
	default:
		return "", fmt.Errorf("%s is the beginning of %d profiles of customer %s; give more of it", name, len(fits), graph.GetCustomerId())
	}
}

// leavingWith are the profiles that leave where a merge is undone, as the server
// finds them: those that it brought, and of those that were merged in later
// the ones whose links lead to them and not to the rest.
func leavingWith(graph *customerv1.ExplainIdentityResponse, at int) []string {
	const leaves, stays, later = 1, 2, 3
	merge := graph.GetDecisions()[at]
	side := make(map[string]int, len(graph.GetProfiles()))
	for _, d := range graph.GetDecisions()[at+1:] {
		if d.GetAction() != customerv1.IdentityAction_IDENTITY_ACTION_MERGED {
			continue
		}
		for _, p := range d.GetProfileIds() {
			if p != merge.GetCustomerId() {
				side[p] = later
			}
		}
	}
	for _, p := range merge.GetProfileIds() {
		side[p] = leaves
	}
	for _, p := range graph.GetProfiles() {
		if side[p.GetProfileId()] == 0 {
			side[p.GetProfileId()] = stays
		}
	}
	for changed := true; changed; {
		changed = false
		for _, l := range graph.GetLinks() {
			if !l.GetInForce() {
				continue
			}
			a, b := l.GetProfileId(), l.GetOtherProfileId()
			for range 2 {
				if to := side[b]; side[a] == later && (to == leaves || to == stays) {
					side[a], changed = to, true
				}
				a, b = b, a
			}
		}
	}
	var out []string
	for _, p := range graph.GetProfiles() {
		if side[p.GetProfileId()] == leaves {
			out = append(out, p.GetProfileId())
		}
	}
	return out
}

// sides shows what leaves and what stays.
func (p *page) sides(who *customerv1.Customer, graph *customerv1.ExplainIdentityResponse, leaves []string) {
	gone := make(map[string]bool, len(leaves))
	for _, id := range leaves {
		gone[id] = true
	}
	var rows [2][][]string
	for _, e := range graph.GetProfiles() {
		i := 0
		if !gone[e.GetProfileId()] {
			i = 1
		}
		rows[i] = append(rows[i], []string{
			or(e.GetKind()), cell(or(e.GetValue())), or(strengthOf(e)), strconv.FormatInt(e.GetEventCount(), 10), p.moment(e.GetLastSeenTime()), e.GetProfileId(),
		})
	}
	p.line("%s, customer %s", cell(or(who.GetDisplayName())), graph.GetCustomerId())
	for i, title := range [...]string{"Leaves", "Stays"} {
		n := len(rows[i])
		p.table(title+", "+plural(int64(n), "profile", "profiles"), []string{"KIND", "VALUE", "STRENGTH", "EVENTS", "LAST SEEN", "PROFILE"}, rows[i][:min(n, shownEach)])
		if n > shownEach {
			p.line("  … and %d more", n-shownEach)
		}
	}
	if gone[graph.GetCustomerId()] {
		p.line("")
		p.line("The profile that he is named by is among those that leave: they keep the id, those that stay get a new one.")
	}
}

// done shows what a split came to.
func (s *splitting) done(cmd *cobra.Command, resp *customerv1.SplitCustomerResponse, graph *customerv1.ExplainIdentityResponse, leaves []string) error {
	if s.client.json() {
		return printJSON(s.app.Stdout, resp, false)
	}
	counts := map[bool]int{true: len(leaves), false: len(graph.GetProfiles()) - len(leaves)}
	known := len(leaves) > 0 && counts[false] > 0 && resp.GetCustomerId() == graph.GetCustomerId()
	row := func(what, id string, left bool) []string {
		if known {
			id += "  " + plural(int64(counts[left]), "profile", "profiles")
		}
		return []string{what, id}
	}
	keeps := slices.Contains(leaves, resp.GetCustomerId())
	p := page{loc: s.app.Location}
	p.table("", []string{"RESULT", ""}, [][]string{
		row("customer", resp.GetCustomerId(), keeps), row("new", resp.GetNewCustomerId(), !keeps),
		{"event", resp.GetEventId()}, {"token", resp.GetConsistencyToken()},
	})
	p.undo(s.client.command(cmd, "customer", "merge", resp.GetCustomerId(), resp.GetNewCustomerId(), "--reason", undoReason))
	return write(s.app.Stdout, p.b.String())
}
