package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// fieldsShown are what of a customer is shown where a decision is asked for.
var fieldsShown = []string{"customer_id", "display_name", "identifiers", "interaction_count", "last_seen_time"}

func (a *App) customerMerge(c *client) *cobra.Command {
	var d decisionFlags
	var token string
	cmd := &cobra.Command{
		Use:   "merge CUSTOMER OTHER",
		Short: "Make one customer of two, by your decision",
		Long: `Makes one customer of two. The one with the older profile survives; the id of
the other goes on leading to him, and nothing of either is lost. A merge by
decision outlasts whatever links say later, until somebody splits them; the
command that does is printed.

` + namingHelp + `

Both are shown and you are asked once; --yes does not ask.`,
		Example: `  parley customer merge ada@example.com user_id:4711 --reason "Called from home, same person"
  parley customer merge rpc5dhk3vc5ztlabzqjb7j5cde 6l56cprbaqzev5jc5aqk2vtasy --reason Ticket-88 --yes`,
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
				var both [2]*customerv1.Customer
				for i, n := range names {
					var err error
					if both[i], err = within(ctx, c, func(ctx context.Context) (*customerv1.Customer, error) {
						return n.findOne(ctx, service, token, fieldsShown...)
					}); err != nil {
						return err
					}
				}
				// One that is sent again finds them merged.
				if both[0].GetCustomerId() == both[1].GetCustomerId() && d.requestID == "" {
					return fmt.Errorf("both are customer %s already; `parley customer explain %s` shows why", both[0].GetCustomerId(), both[0].GetCustomerId())
				}
				p := page{loc: a.Location}
				p.pair(both)
				if err := d.agreed(ctx, a, p.b.String(), "Make one customer of them?"); err != nil {
					return err
				}
				sent = true
				resp, err := within(ctx, c, func(ctx context.Context) (*customerv1.MergeCustomersResponse, error) {
					return service.MergeCustomers(ctx, &customerv1.MergeCustomersRequest{
						CustomerId: both[0].GetCustomerId(), OtherCustomerId: both[1].GetCustomerId(), Reason: d.reason, RequestId: id,
					})
				})
				if err != nil {
					return err
				}
				sent = false
				return a.merged(cmd, c, resp, both)
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

// pair shows two customers, a line each.
func (p *page) pair(both [2]*customerv1.Customer) {
	var rows [][]string
	for _, c := range both {
		rows = append(rows, []string{
			c.GetCustomerId(), cell(or(c.GetDisplayName())), cell(or(identifiersOf(c))),
			strconv.FormatInt(c.GetInteractionCount(), 10), p.moment(c.GetLastSeenTime()),
		})
	}
	p.table("", []string{"CUSTOMER", "NAME", "IDENTIFIERS", "INTERACTIONS", "LAST SEEN"}, rows)
}

// identifiersOf are a customer's strongest identifiers; browsers only where
// there is nothing better.
func identifiersOf(c *customerv1.Customer) string {
	const enough = 3
	all := c.GetIdentifiers()
	var texts []string
	for _, i := range all {
		if len(texts) == enough || len(texts) > 0 && i.GetKind() == "anonymous_id" {
			break
		}
		texts = append(texts, i.GetValue())
	}
	if more := len(all) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

// merged shows what a merge came to.
func (a *App) merged(cmd *cobra.Command, c *client, resp *customerv1.MergeCustomersResponse, both [2]*customerv1.Customer) error {
	if c.json() {
		return printJSON(a.Stdout, resp, false)
	}
	named := func(id string) string {
		for _, b := range both {
			if name := b.GetDisplayName(); b.GetCustomerId() == id && name != "" {
				return id + "  " + cell(name)
			}
		}
		return or(id)
	}
	p := page{loc: a.Location}
	p.table("", []string{"RESULT", ""}, [][]string{
		{"survivor", named(resp.GetCustomerId())}, {"absorbed", named(resp.GetAbsorbedCustomerId())},
		{"event", resp.GetEventId()}, {"token", resp.GetConsistencyToken()},
	})
	p.undo(c.command(cmd, "customer", "split", resp.GetCustomerId(), "--undo", resp.GetEventId(), "--reason", undoReason))
	return write(a.Stdout, p.b.String())
}

// undo shows the command that takes a decision back, whole whatever its length.
func (p *page) undo(command string) {
	p.line("")
	p.line("To undo it:")
	p.line("  %s", command)
}
