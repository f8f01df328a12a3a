package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func (a *App) customerCommand() *cobra.Command {
	c := &client{app: a}
	cmd := group("customer", "Who a customer is, and what happened with him",
		a.customerGet(c), a.customerFind(c), a.customerTimeline(c), a.customerExplain(c), a.customerMerge(c), a.customerSplit(c),
		a.customerCandidates(c), a.customerApart(c))
	c.bind(cmd)
	return cmd
}

// identifierFlags name one customer.
type identifierFlags struct {
	values map[string]*string // by kind; "" is the customer's id
	token  string
}

// identifierKinds in the order of help.
var identifierKinds = []struct{ flag, kind, usage string }{
	{"id", "", "`id` of the customer or of any of his profiles"},
	{"email", "email", "e-mail `address`"},
	{"phone", "phone", "phone `number`"},
	{"user-id", "user_id", "user `id` in the company's books"},
	{"anonymous-id", "anonymous_id", "anonymous `id` of a browser or device"},
}

func (f *identifierFlags) bind(cmd *cobra.Command) {
	f.values = map[string]*string{}
	for _, k := range identifierKinds {
		f.values[k.kind] = cmd.Flags().String(k.flag, "", k.usage)
	}
	f.bindToken(cmd)
}

func (f *identifierFlags) bindToken(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.token, "token", "", "wait for the write that gave this consistency `token`")
}

// one is the only identifier given.
func (f *identifierFlags) one() (kind, value string, err error) {
	given := 0
	for _, k := range identifierKinds {
		if v := *f.values[k.kind]; v != "" {
			kind, value = k.kind, v
			given++
		}
	}
	if given != 1 {
		return "", "", usagef("name the customer by one of --id, --email, --phone, --user-id, --anonymous-id")
	}
	return kind, value, nil
}

func (a *App) customerGet(c *client) *cobra.Command {
	var who identifierFlags
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Show one customer by an identifier",
		Example: `  parley customer get --email ada@example.com
  parley customer get --user-id 4711 -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kind, value, err := who.one()
			if err != nil {
				return err
			}
			return c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				service := customerv1.NewCustomerServiceClient(conn)
				if kind == "" {
					resp, err := service.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: value, ConsistencyToken: who.token, IncludeClaims: true})
					if err != nil {
						return err
					}
					if c.json() {
						return printJSON(a.Stdout, resp, false)
					}
					p := page{loc: a.Location}
					p.customer(resp.GetCustomer(), resp.GetClaims())
					return write(a.Stdout, p.b.String())
				}
				resp, err := lookup(ctx, service, kind, value, who.token, nil)
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, resp, false)
				}
				p := page{loc: a.Location}
				for i, m := range resp.GetMatches() {
					if i > 0 {
						p.line("\n")
					}
					claims, err := claimsOf(ctx, service, m.GetCustomer().GetCustomerId())
					if err != nil {
						return err
					}
					p.customer(m.GetCustomer(), claims)
				}
				return write(a.Stdout, p.b.String())
			})
		},
	}
	who.bind(cmd)
	return cmd
}

// claimsOf are what others did in a customer's name, which lookups do not tell.
func claimsOf(ctx context.Context, service customerv1.CustomerServiceClient, id string) ([]*customerv1.CustomerClaim, error) {
	resp, err := service.GetCustomer(ctx, &customerv1.GetCustomerRequest{
		CustomerId: id, IncludeClaims: true, ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"customer_id"}},
	})
	return resp.GetClaims(), err
}

// lookup finds who has an identifier; nobody is an error.
func lookup(ctx context.Context, service customerv1.CustomerServiceClient, kind, value, token string, mask *fieldmaskpb.FieldMask) (*customerv1.LookupCustomerResponse, error) {
	resp, err := service.LookupCustomer(ctx, &customerv1.LookupCustomerRequest{Kind: kind, Value: value, ConsistencyToken: token, ReadMask: mask})
	if err != nil {
		return nil, err
	}
	if len(resp.GetMatches()) == 0 {
		return nil, fmt.Errorf("nobody has the %s %s; `parley customer find` looks for a part of a name, address, number or order",
			strings.ReplaceAll(kind, "_", " "), value)
	}
	return resp, nil
}

func (a *App) customerFind(c *client) *cobra.Command {
	var who identifierFlags
	limit := 20
	cmd := &cobra.Command{
		Use:   "find TEXT…",
		Short: "Find customers by a part of a name, e-mail address, phone number or order id",
		Example: `  parley customer find lovelace
  parley customer find ada example.com --limit 5`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(strings.Join(args, " ")) < 2 {
				return usagef("say what to look for, at least 2 characters")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usagef("--limit %d: want 1 or more", limit)
			}
			return c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				const largestPage = 100
				service := customerv1.NewCustomerServiceClient(conn)
				req := &customerv1.SearchCustomersRequest{Query: strings.Join(args, " "), ConsistencyToken: who.token}
				all := &customerv1.SearchCustomersResponse{}
				for {
					req.PageSize = int32(min(limit-len(all.GetCustomers()), largestPage))
					resp, err := service.SearchCustomers(ctx, req)
					if err != nil {
						return err
					}
					all.Customers = append(all.Customers, resp.GetCustomers()...)
					all.NextPageToken = resp.GetNextPageToken()
					req.PageToken = resp.GetNextPageToken()
					if req.GetPageToken() == "" || len(all.GetCustomers()) >= limit {
						break
					}
				}
				if c.json() {
					return printJSON(a.Stdout, all, false)
				}
				p := page{loc: a.Location}
				p.found(all, limit)
				return write(a.Stdout, p.b.String())
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many")
	who.bindToken(cmd)
	return cmd
}

func (p *page) found(all *customerv1.SearchCustomersResponse, limit int) {
	if len(all.GetCustomers()) == 0 {
		p.line("Nobody found.")
		return
	}
	var rows [][]string
	for _, c := range all.GetCustomers() {
		ids := make([]string, 0, 2)
		for _, i := range c.GetIdentifiers() {
			if i.GetKind() != "anonymous_id" && len(ids) < 2 && i.GetValue() != c.GetDisplayName() {
				ids = append(ids, i.GetValue())
			}
		}
		rows = append(rows, []string{
			c.GetCustomerId(), cell(or(c.GetDisplayName())), cell(or(strings.Join(ids, ", "))),
			strconv.FormatInt(c.GetInteractionCount(), 10), strconv.FormatInt(c.GetOrders().GetCount(), 10), p.moment(c.GetLastSeenTime()),
		})
	}
	p.table("", []string{"CUSTOMER", "NAME", "IDENTIFIERS", "INTERACTIONS", "ORDERS", "LAST SEEN"}, rows)
	if all.GetNextPageToken() != "" {
		p.line("")
		p.line("There are more; --limit %s shows them.", strconv.Itoa(limit*5))
	}
}

func (a *App) customerTimeline(c *client) *cobra.Command {
	var who identifierFlags
	var channels []string
	var oldest bool
	var since, until string
	limit := 50
	cmd := &cobra.Command{
		Use:   "timeline",
		Short: "List what happened with a customer, one interaction a line, the newest first",
		Example: `  parley customer timeline --email ada@example.com
  parley customer timeline --user-id 4711 --since 24h --channel web --oldest-first`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kind, value, err := who.one()
			if err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d: want 0 for all, or more", limit)
			}
			req := &customerv1.ListTimelineRequest{CustomerId: value, OldestFirst: oldest, Channels: channels, ConsistencyToken: who.token}
			if req.StartTime, err = a.when("since", since); err != nil {
				return err
			}
			if req.EndTime, err = a.when("until", until); err != nil {
				return err
			}
			return c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				service := customerv1.NewCustomerServiceClient(conn)
				if kind != "" {
					resp, err := lookup(ctx, service, kind, value, who.token, &fieldmaskpb.FieldMask{Paths: []string{"customer_id"}})
					if err != nil {
						return err
					}
					req.CustomerId = resp.GetMatches()[0].GetCustomer().GetCustomerId()
				}
				all, err := timeline(ctx, service, req, limit)
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, all, false)
				}
				p := page{loc: a.Location}
				p.interactions("", all.GetInteractions())
				if len(all.GetInteractions()) == 0 {
					p.line("Nothing happened.")
				}
				if all.GetNextPageToken() != "" {
					p.line("")
					p.line("There is more; --limit 0 shows everything.")
				}
				return write(a.Stdout, p.b.String())
			})
		},
	}
	who.bind(cmd)
	f := cmd.Flags()
	f.IntVar(&limit, "limit", limit, "show at most so many; 0 for all")
	f.StringSliceVar(&channels, "channel", nil, "only these `channels`, for example web")
	f.BoolVar(&oldest, "oldest-first", false, "the oldest first")
	f.StringVar(&since, "since", "", "only from this `time` on: 2026-01-31, 2026-01-31T12:00:00Z, or 24h for so long ago")
	f.StringVar(&until, "until", "", "only before this `time`")
	return cmd
}

// timeline reads pages until there are enough; 0 stands for all.
func timeline(ctx context.Context, service customerv1.CustomerServiceClient, req *customerv1.ListTimelineRequest, limit int) (*customerv1.ListTimelineResponse, error) {
	const largestPage = 500
	all := &customerv1.ListTimelineResponse{}
	for {
		req.PageSize = largestPage
		if limit > 0 {
			req.PageSize = int32(min(limit-len(all.GetInteractions()), largestPage))
		}
		resp, err := service.ListTimeline(ctx, req)
		if err != nil {
			return nil, err
		}
		all.CustomerId = resp.GetCustomerId()
		all.Interactions = append(all.Interactions, resp.GetInteractions()...)
		all.NextPageToken = resp.GetNextPageToken()
		req.PageToken = resp.GetNextPageToken()
		if req.GetPageToken() == "" || limit > 0 && len(all.GetInteractions()) >= limit {
			return all, nil
		}
	}
}

// when reads a time: a date, an instant, or how long ago.
func (a *App) when(flag, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return timestamppb.New(a.Now().Add(-d)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, a.Location); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, usagef("--%s %s: want a time, for example 2026-01-31, 2026-01-31T12:00:00Z, or 24h for so long ago", flag, text)
}

// interactions is a list of them, one a line.
func (p *page) interactions(title string, all []*customerv1.InteractionSummary) {
	var rows [][]string
	for _, i := range all {
		mark := ""
		if i.GetTimeQuality() == eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE {
			mark = " (said " + p.moment(i.GetSaidTime()) + ")"
		}
		switch i.GetAuthentication() {
		case eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_FAIL:
			mark += " (sender failed the check)"
		case eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_NONE:
			mark += " (sender unchecked)"
		case eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_UNSPECIFIED, eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_PASS:
		}
		rows = append(rows, []string{
			p.second(i.GetTime()), or(i.GetChannel()), arrow(i.GetDirection()),
			cell(i.GetSummary()) + mark, strings.TrimPrefix(i.GetType(), "parley."), i.GetEventId(),
		})
	}
	p.table(title, []string{"TIME", "CHANNEL", "", "WHAT", "TYPE", "EVENT"}, rows)
}

// arrow shows which way an interaction went, seen from the company.
func arrow(d eventv1.Direction) string {
	switch d {
	case eventv1.Direction_DIRECTION_INBOUND:
		return "in"
	case eventv1.Direction_DIRECTION_OUTBOUND:
		return "out"
	case eventv1.Direction_DIRECTION_UNSPECIFIED:
	}
	return "-"
}
