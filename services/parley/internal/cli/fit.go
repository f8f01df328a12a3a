package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

func (a *App) identityFit(c *client) *cobra.Command {
	req := &customerv1.FitMatchModelRequest{}
	cmd := &cobra.Command{
		Use:   "fit",
		Short: "Learn from the customers who may be whom, and search for pairs",
		Long: `Has the server learn a model from the tenant's own customers, without any
known pairs, and search with it for customers who may be one person.
` + "`parley customer candidates`" + ` lists them. Where the rules of who is who name a
link probability, pairs at least that probable are linked; a person's split
undoes that for good.

The server goes on where this command is interrupted.`,
		Example: `  parley identity fit
  parley identity fit --search-only --min-probability 0.9`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkProbability(req.GetMinProbability()); err != nil {
				return err
			}
			return matchHint(c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				stream, err := customerv1.NewCustomerServiceClient(conn).FitMatchModel(ctx, req)
				if err != nil {
					return err
				}
				last, err := a.follow(stream)
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, last, false)
				}
				p := page{loc: a.Location}
				p.fitted(last)
				return write(a.Stdout, p.b.String())
			}))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&req.SearchOnly, "search-only", false, "search by the model that there is")
	f.Float64Var(&req.MinProbability, "min-probability", 0, "keep pairs at least this `probable`, up to 1; 0.5 unless given")
	f.Uint64Var(&req.Seed, "seed", 0, "`seed` of what is drawn at random: the same customers and seed give the same model")
	return cmd
}

// follow shows how far a job is until it is done: on a terminal in one line,
// else in a line now and then, and whenever something else is being done.
func (a *App) follow(stream grpc.ServerStreamingClient[customerv1.FitMatchModelResponse]) (*customerv1.FitMatchModelResponse, error) {
	every := progressLog
	if a.Terminal {
		every = progressTerminal
	}
	var last *customerv1.FitMatchModelResponse
	var next time.Time
	defer func() {
		if a.Terminal && last != nil {
			_, _ = io.WriteString(a.Stderr, eraseLine) // nobody to tell where that fails
		}
	}()
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if last.GetPhase() != customerv1.FitPhase_FIT_PHASE_DONE {
				return nil, errors.New("the server ended the call before it was done")
			}
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		now := a.Now()
		another := last.GetPhase() != p.GetPhase()
		if last = p; !another && now.Before(next) || p.GetPhase() == customerv1.FitPhase_FIT_PHASE_DONE {
			continue
		}
		next = now.Add(every)
		if a.Terminal {
			_, _ = io.WriteString(a.Stderr, eraseLine+fitLine(p))
		} else {
			a.complain("%s", fitLine(p))
		}
	}
}

// eraseLine brings a terminal back to the beginning of an empty line.
const eraseLine = "\r\x1b[K"

// fitLine says how far a job is.
func fitLine(p *customerv1.FitMatchModelResponse) string {
	share := fmt.Sprintf("%.0f %%", 100*p.GetDone())
	switch p.GetPhase() {
	case customerv1.FitPhase_FIT_PHASE_SEARCHING:
		return fmt.Sprintf("searching: %s, %s, %s", share, plural(p.GetCustomers(), "customer", "customers"), plural(p.GetCandidates(), "pair", "pairs"))
	case customerv1.FitPhase_FIT_PHASE_LINKING:
		return fmt.Sprintf("linking: %s, %d linked", share, p.GetLinked())
	default:
		text := "learning: " + plural(p.GetCustomers(), "customer", "customers")
		if p.GetDone() > 0 {
			text += ", " + share
		}
		return text
	}
}

// fitted shows what a job came to.
func (p *page) fitted(last *customerv1.FitMatchModelResponse) {
	p.table("", []string{"RESULT", ""}, [][]string{
		{"customers", strconv.FormatInt(last.GetCustomers(), 10)}, {"candidates", strconv.FormatInt(last.GetCandidates(), 10)},
		{"linked", strconv.FormatInt(last.GetLinked(), 10)}, {"model", last.GetModelEventId()},
	})
	if last.GetCandidates() > last.GetLinked() {
		p.line("")
		p.line("`parley customer candidates` lists them.")
	}
}

// nameMask reads of a customer what he is called.
func nameMask() *fieldmaskpb.FieldMask {
	return &fieldmaskpb.FieldMask{Paths: []string{"customer_id", "display_name"}}
}

// matchHint says what to do about errors of comparing customers, whatever the
// same reasons mean elsewhere.
func matchHint(err error) error {
	e, ok := rpcerr.Parse(err)
	if !ok {
		return err
	}
	bare := err
	if h, hinted := errors.AsType[*hintedError](err); hinted {
		bare = h.err
	}
	switch {
	case e.Reason == errorv1.Reason_REASON_NO_MODEL:
		return &hintedError{err: bare, hint: "`parley identity fit` learns from the customers that there are; it takes some of whom names, dates or addresses are known."}
	case e.Code == codes.Aborted && e.Reason == errorv1.Reason_REASON_CHANGED_SINCE:
		return &hintedError{err: bare, hint: "It goes on by itself; `parley customer candidates` lists what it finds."}
	default:
		return err
	}
}
