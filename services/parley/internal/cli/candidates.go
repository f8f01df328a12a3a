package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

func (a *App) customerCandidates(c *client) *cobra.Command {
	var token string
	var least float64
	limit := 20
	cmd := &cobra.Command{
		Use:   "candidates [CUSTOMER]",
		Short: "List customers who may be one person, and what speaks for it",
		Long: `Lists pairs of customers who may be one person, the most probable first: those
of one customer as he is now, or the tenant's as of the last search. It only
suggests; ` + "`parley customer merge`" + ` makes one of two, ` + "`parley customer apart`" + `
says that they are two. The model by which they are compared is fitted by
` + "`parley identity fit`" + `.

` + namingHelp,
		Example: `  parley customer candidates
  parley customer candidates ada@example.com --min-probability 0.9 -o json`,
		Args: anyArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &customerv1.ListMergeCandidatesRequest{MinProbability: least, ConsistencyToken: token}
			if err := checkProbability(least); err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d: want 0 for all, or more", limit)
			}
			var name customerName
			if len(args) > 0 {
				var err error
				if name, err = (&identifierFlags{}).named(args); err != nil {
					return err
				}
			}
			return matchHint(c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				service := customerv1.NewCustomerServiceClient(conn)
				if name.value != "" {
					found, err := name.findOne(ctx, service, token, "customer_id", "display_name")
					if err != nil {
						return err
					}
					req.CustomerId = found.GetCustomerId()
				}
				all, err := a.candidates(ctx, service, req, limit)
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, all, false)
				}
				names, err := displayNames(ctx, service, all.GetCandidates(), token)
				if err != nil {
					return err
				}
				p := page{loc: a.Location}
				p.candidates(all, names)
				return write(a.Stdout, p.b.String())
			}))
		},
	}
	f := cmd.Flags()
	f.Float64Var(&least, "min-probability", 0, "only pairs at least this `probable`, up to 1; 0.5 unless given")
	f.IntVar(&limit, "limit", limit, "at most so `many`; 0 for all")
	f.StringVar(&token, "token", "", "wait for the write that gave this consistency `token`")
	return cmd
}

func checkProbability(p float64) error {
	if !(p >= 0 && p <= 1) {
		return usagef("--min-probability %v: want 0 to 1", p)
	}
	return nil
}

// candidates reads pages until there are enough; 0 stands for all. While the
// server still searches it waits.
func (a *App) candidates(ctx context.Context, service customerv1.CustomerServiceClient, req *customerv1.ListMergeCandidatesRequest, limit int) (*customerv1.ListMergeCandidatesResponse, error) {
	const largestPage = 500
	all := &customerv1.ListMergeCandidatesResponse{}
	for {
		req.PageSize = largestPage
		if limit > 0 {
			req.PageSize = int32(min(limit-len(all.GetCandidates()), largestPage))
		}
		resp, err := service.ListMergeCandidates(ctx, req)
		if e, ok := rpcerr.Parse(err); ok && e.Reason == errorv1.Reason_REASON_BEHIND && e.RetryAfter > 0 && patient(ctx, e.RetryAfter) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all.ModelEventId, all.SearchedTime = resp.GetModelEventId(), resp.GetSearchedTime()
		all.Candidates = append(all.Candidates, resp.GetCandidates()...)
		all.NextPageToken = resp.GetNextPageToken()
		req.PageToken = resp.GetNextPageToken()
		if req.GetPageToken() == "" || limit > 0 && len(all.GetCandidates()) >= limit {
			return all, nil
		}
	}
}

// patient waits, and says whether there is time left to ask again.
func patient(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// displayNames are those of the customers of some pairs. One who is gone
// meanwhile has none.
func displayNames(ctx context.Context, service customerv1.CustomerServiceClient, all []*customerv1.MergeCandidate, token string) (map[string]string, error) {
	var ids []string
	for _, m := range all {
		ids = append(ids, m.GetCustomerId(), m.GetOtherCustomerId())
	}
	slices.Sort(ids)
	names := map[string]string{}
	const most = 100 // that one call takes
	for part := range slices.Chunk(slices.Compact(ids), most) {
		resp, err := service.BatchGetCustomers(ctx, &customerv1.BatchGetCustomersRequest{CustomerIds: part, ReadMask: nameMask(), ConsistencyToken: token})
		if err != nil {
			return nil, err
		}
		for _, c := range resp.GetCustomers() {
			names[c.GetCustomerId()] = c.GetDisplayName()
		}
	}
	return names, nil
}

// candidates is a list of pairs, one a line.
func (p *page) candidates(all *customerv1.ListMergeCandidatesResponse, names map[string]string) {
	if len(all.GetCandidates()) == 0 {
		p.line("Nobody who may be the same person is known.")
		return
	}
	var rows [][]string
	for _, m := range all.GetCandidates() {
		rows = append(rows, []string{
			percent(m.GetProbability()), m.GetCustomerId(), cell(or(names[m.GetCustomerId()])),
			m.GetOtherCustomerId(), cell(or(names[m.GetOtherCustomerId()])), inWords(m.GetReasons()),
		})
	}
	p.table("", []string{"PROBABLE", "CUSTOMER", "NAME", "OTHER", "NAME", "BECAUSE"}, rows)
	if all.GetNextPageToken() != "" {
		p.line("There are more; --limit 0 lists all.")
	}
	if all.GetSearchedTime() != nil {
		p.line("searched for %s; `parley identity fit --search-only` searches anew", p.moment(all.GetSearchedTime()))
	}
}

// percent never rounds a doubt away.
func percent(p float64) string {
	const sure = 0.9995
	if p >= sure {
		return "> 99.9 %"
	}
	return fmt.Sprintf("%.1f %%", 100*p)
}

// inWords are the strongest reasons, those that speak for it first.
func inWords(reasons []*customerv1.MatchReason) string {
	const most, leastBits = 4, 0.5
	strongest := slices.Clone(reasons)
	slices.SortStableFunc(strongest, weightier)
	var texts []string
	for _, r := range strongest {
		if len(texts) == most {
			break
		}
		if w := r.GetWeight(); w >= leastBits || w <= -leastBits {
			texts = append(texts, reasonWords(r))
		}
	}
	return or(strings.Join(texts, "; "))
}

// weightier puts what speaks for it before what speaks against it, the heavier
// before the lighter.
func weightier(x, y *customerv1.MatchReason) int {
	switch a, b := x.GetWeight(), y.GetWeight(); {
	case a == b:
		return 0
	case a > 0 && b > 0, a > 0 != (b > 0):
		if a > b {
			return -1
		}
		return 1
	case a < b:
		return -1
	default:
		return 1
	}
}

// reasonWords is a reason for people, with the values where they fit.
func reasonWords(r *customerv1.MatchReason) string {
	field, ok := fieldWords[r.GetField()]
	if !ok {
		field = strings.ReplaceAll(r.GetField(), "_", " ")
	}
	if r.GetField() == "household" {
		return "a household would share some of it"
	}
	const longest = 40 // characters of a value
	one, other := cutTo(r.GetValue(), longest), cutTo(r.GetOtherValue(), longest)
	if r.GetLevel() == "exact" && (other == one || other == "" || one == "") {
		return strings.TrimSpace("same " + field + " " + one + strings.TrimPrefix(other, one))
	}
	text := field + " " + or(levelWords[r.GetLevel()])
	if one != "" || other != "" {
		text += " (" + or(one) + ", " + or(other) + ")"
	}
	return text
}

var fieldWords = map[string]string{
	"given": "given name", "family": "family name", "birth_date": "birth date", "national_id": "document number", "email": "e-mail address", "phone": "phone number",
}

var levelWords = map[string]string{
	"exact": "agrees", "close": "all but agrees", "variant": "is a variant", "swapped": "the wrong way round", "partial": "agrees in part",
	"similar": "is alike", "region": "of one region", "different": "differs",
}

func (a *App) customerApart(c *client) *cobra.Command {
	var d decisionFlags
	var token string
	cmd := &cobra.Command{
		Use:   "apart CUSTOMER OTHER",
		Short: "Say that two customers are two people, by your decision",
		Long: `Says that two customers are two people: no later link joins them, and they are
not suggested again. Customers who are one already are taken apart by
` + "`parley customer split`" + `.

` + namingHelp + `

Both are shown and you are asked once; --yes does not ask.`,
		Example: `  parley customer apart ada@example.com user_id:4711 --reason "Mother and daughter"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("name two customers, each by his id, an e-mail address, a phone number, or kind:value")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var names [2]customerName
			for i, arg := range args {
				var err error
				if names[i], err = parseName(arg); err != nil {
					return err
				}
			}
			if err := d.check(a); err != nil {
				return err
			}
			id, err := d.id(a)
			if err != nil {
				return err
			}
			sent := false
			err = c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				service := customerv1.NewCustomerServiceClient(conn)
				both, err := findBoth(ctx, c, service, names, token)
				if err != nil {
					return err
				}
				p := page{loc: a.Location}
				p.pair(both)
				if err := d.agreed(ctx, a, p.b.String(), "Are they two people?"); err != nil {
					return err
				}
				sent = true
				resp, err := within(ctx, c, func(ctx context.Context) (*customerv1.KeepCustomersApartResponse, error) {
					return service.KeepCustomersApart(ctx, &customerv1.KeepCustomersApartRequest{
						CustomerId: both[0].GetCustomerId(), OtherCustomerId: both[1].GetCustomerId(), Reason: d.reason, RequestId: id,
					})
				})
				if err != nil {
					return err
				}
				sent = false
				return a.keptApart(cmd, c, resp, both)
			})
			if sent {
				err = uncertain(err, id)
			}
			return err
		},
	}
	d.bind(cmd)
	d.bindRequestID(cmd)
	cmd.Flags().StringVar(&token, "token", "", "wait for the write that gave this consistency `token`")
	return cmd
}

// findBoth finds the two customers that a decision is about.
func findBoth(ctx context.Context, c *client, service customerv1.CustomerServiceClient, names [2]customerName, token string) (both [2]*customerv1.Customer, err error) {
	for i, n := range names {
		if both[i], err = within(ctx, c, func(ctx context.Context) (*customerv1.Customer, error) {
			return n.findOne(ctx, service, token, fieldsShown...)
		}); err != nil {
			return both, err
		}
	}
	if id := both[0].GetCustomerId(); id == both[1].GetCustomerId() {
		return both, fmt.Errorf("both are customer %s; `parley customer explain %s` shows why, `parley customer split` takes him apart", id, id)
	}
	return both, nil
}

func (a *App) keptApart(cmd *cobra.Command, c *client, resp *customerv1.KeepCustomersApartResponse, both [2]*customerv1.Customer) error {
	if c.json() {
		return printJSON(a.Stdout, resp, false)
	}
	p := page{loc: a.Location}
	p.table("", []string{"RESULT", ""}, [][]string{{"event", resp.GetEventId()}, {"token", resp.GetConsistencyToken()}})
	p.line("")
	p.line("Should they be one after all:")
	p.line("  %s", c.command(cmd, "customer", "merge", both[0].GetCustomerId(), both[1].GetCustomerId(), "--reason", undoReason))
	return write(a.Stdout, p.b.String())
}
