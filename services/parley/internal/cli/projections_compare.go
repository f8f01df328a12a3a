package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

func (a *App) projectionsCompare(c *client) *cobra.Command {
	var generation, other string
	documents := int32(defaultDocuments)
	patience := defaultPatience
	cmd := &cobra.Command{
		Use:   "compare PROJECTION",
		Short: "Compare two generations: counts, digests, documents that differ",
		Long: `Compares two generations of a projection as of one position: how many documents
there are, their digests, and some of those that differ with the fields that do.
Unless others are named it compares the candidate with the generation that
serves: what readers would see with what they see.

The exit code is 0 where they are equal, 1 where they differ.`,
		Example: `  parley projections compare customer
  parley projections compare customer --generation v3/g3 --other v2/g1 --documents 50
  parley projections compare customer -o json | jq 'select(.difference).difference.equal'`,
		Args: oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &opsv1.CompareGenerationsRequest{MaxDocuments: &documents}
			var err error
			if req.Generation, err = parseGeneration("generation", args[0], generation); err != nil {
				return err
			}
			if other != "" {
				if req.Other, err = parseGeneration("other", args[0], other); err != nil {
					return err
				}
			}
			if err := checkDocuments(documents); err != nil {
				return err
			}
			if err := checkPatience(patience); err != nil {
				return err
			}
			return c.projections(cmd, args[0], func(ctx context.Context, conn *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				d := display{app: a}
				s := steady{conn: conn, patience: patience, say: d.connection}
				var result compared
				for {
					result, err = a.compareOnce(ctx, c, service, req, s.well)
					if !s.again(ctx, err) {
						break
					}
				}
				if err != nil {
					return s.given(err)
				}
				return a.compared(c, result, comparedWith)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&generation, "generation", "", "the `generation` to compare, for example v3/g2; the candidate unless given")
	f.StringVar(&other, "other", "", "the `generation` to compare it with; the one that serves unless given")
	bindDocuments(cmd, &documents)
	bindPatience(cmd, &patience)
	return cmd
}

func (a *App) projectionsVerify(c *client) *cobra.Command {
	req := &opsv1.VerifyProjectionRequest{}
	sample, documents := 1.0, int32(defaultDocuments)
	cmd := &cobra.Command{
		Use:   "verify PROJECTION",
		Short: "Compute what serves anew from the log, and compare",
		Long: `Computes the generation that serves anew from the log, in a scratch generation
that is dropped afterwards, and compares the two as of one position. A read
model is a pure function of the log, so a difference is a bug, or one that is
mended since. --sample looks at a share of the customers only.

The exit code is 0 where they are equal, 1 where they differ.`,
		Example: `  parley projections verify customer
  parley projections verify customer --sample 0.01 --max-rate 20000`,
		Args: oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !(sample > 0 && sample <= 1) {
				return usagef("--sample %v: want a share over 0 up to 1, for example 0.01 for one in a hundred", sample)
			}
			if err := checkDocuments(documents); err != nil {
				return err
			}
			if err := checkRate(req.GetMaxEventsPerSecond()); err != nil {
				return err
			}
			req.Projection, req.Sample, req.MaxDocuments = args[0], &sample, &documents
			return c.projections(cmd, args[0], func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				runs := false
				result, err := steps(ctx, a, c, func() { runs = true }, func(ctx context.Context) (grpc.ServerStreamingClient[opsv1.VerifyProjectionResponse], error) {
					return service.VerifyProjection(ctx, req)
				})
				switch {
				case ctx.Err() != nil:
					return errors.New("interrupted: whether they are equal is not known")
				case err != nil && runs && retryable(err):
					return noted(err, "Whether they are equal is not known; run it again.")
				case err != nil:
					return err
				}
				return a.compared(c, result, comparedWithLog)
			})
		},
	}
	f := cmd.Flags()
	f.Float64Var(&sample, "sample", sample, "`share` of the customers to look at, over 0 up to 1")
	f.Uint32Var(&req.MaxEventsPerSecond, "max-rate", 0, "at most so `many` events a second; 0: as fast as live reads allow")
	bindDocuments(cmd, &documents)
	return cmd
}

// How many differing documents of a collection are shown, and the server's bound.
const (
	defaultDocuments = 10
	maxDocuments     = 100
)

func bindDocuments(cmd *cobra.Command, n *int32) {
	cmd.Flags().Int32Var(n, "documents", *n, "show at most so `many` differing documents of a collection, 0 to 100")
}

func checkDocuments(n int32) error {
	if n < 0 || n > maxDocuments {
		return usagef("--documents %d: want 0 to %d", n, maxDocuments)
	}
	return nil
}

// compared is the end of a comparison: the last answer, and the difference in it.
type compared struct {
	last       proto.Message
	difference *opsv1.Difference
}

// stepping is an answer of long work.
type stepping[T any] interface {
	*T
	proto.Message
	GetProgress() *opsv1.Progress
	GetDifference() *opsv1.Difference
}

// compareOnce compares, over one connection. Heard is called with each answer.
func (a *App) compareOnce(ctx context.Context, c *client, service opsv1.ProjectionServiceClient, req *opsv1.CompareGenerationsRequest, heard func()) (compared, error) {
	return steps(ctx, a, c, heard, func(ctx context.Context) (grpc.ServerStreamingClient[opsv1.CompareGenerationsResponse], error) {
		return service.CompareGenerations(ctx, req)
	})
}

// steps follows long work to its end. Standard error shows how far it is; as
// JSON each answer is a line of the output. Heard is called with each.
func steps[T any, M stepping[T]](ctx context.Context, a *App, c *client, heard func(), call func(context.Context) (grpc.ServerStreamingClient[T], error)) (compared, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := call(ctx)
	if err != nil {
		return compared{}, err
	}
	d := display{app: a}
	if !c.json() && a.terminal(a.Stderr) {
		d.screen = a.screenOn(a.Stderr)
	}
	defer d.close(false)
	pace := paced{app: a}
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return compared{}, errors.New("the server ended the call before it was done")
		}
		if err != nil {
			return compared{}, err
		}
		heard()
		m := M(got)
		if diff := m.GetDifference(); diff != nil {
			return compared{last: m, difference: diff}, nil
		}
		p := m.GetProgress()
		switch {
		case c.json():
			err = printJSON(a.Stdout, m, true)
		case p == nil:
		case d.screen != nil:
			columns, _ := a.sizeOf(a.Stderr)
			err = d.show([]row{a.progressRow(p, columns-1)})
		case pace.due("", p.GetStep()):
			a.complain("%s", clean(progressText(p)))
		}
		if err != nil {
			return compared{}, err
		}
	}
}

// progressText is how far long work is, in a line of a log.
func progressText(p *opsv1.Progress) string {
	parts := []string{or(p.GetStep())}
	switch {
	case p.GetTotal() > 0:
		parts[0] += ": " + share(float64(p.GetDone())/float64(p.GetTotal()))
		parts = append(parts, grouped(p.GetDone())+" of "+grouped(p.GetTotal()))
	case p.GetDone() > 0:
		parts[0] += ": " + grouped(p.GetDone())
	}
	for _, more := range []string{perSecond(p.GetPerSecond()), leftOf(p.GetTimeLeft())} {
		if more != "" {
			parts = append(parts, more)
		}
	}
	return strings.Join(parts, ", ")
}

// progressRow is the same with a bar, where there is room for one.
func (a *App) progressRow(p *opsv1.Progress, width int) row {
	text := progressText(p)
	room := min(width-columns(text)-2, maxBar)
	if p.GetTotal() == 0 || room < minBar {
		return textRow(styleNone, text)
	}
	return row{{text: a.bar(float64(p.GetDone())/float64(p.GetTotal()), room), style: styleGood}, {text: "  " + text}}
}

// compared shows what a comparison came to. That the two differ is a failure
// that is told.
func (a *App) compared(c *client, result compared, with comparison) error {
	if c.json() {
		if err := printJSON(a.Stdout, result.last, true); err != nil {
			return err
		}
	} else {
		p := page{loc: a.Location}
		p.difference(result.difference, a.painter(a.Stdout), with)
		if err := write(a.Stdout, p.b.String()); err != nil {
			return err
		}
	}
	if !result.difference.GetEqual() {
		return reportedError{}
	}
	return nil
}

// comparison says what was compared.
type comparison int

const (
	comparedWith    comparison = iota // two generations
	comparedWithLog                   // one with itself computed anew
)

// difference is the page of a comparison.
func (p *page) difference(d *opsv1.Difference, paint painter, with comparison) {
	one, other := nameOf(d.GetGeneration()), nameOf(d.GetOther())
	title := one
	if with == comparedWithLog {
		one, title = "anew", "computed anew"
	}
	p.line("%s: %s against %s, both at position %s%s", d.GetOther().GetProjection(), title, other, grouped(d.GetPosition()), sampled(d.GetSample()))
	if d.GetEqual() {
		p.b.WriteString(paint.paint(styleGood, "They are equal.") + "\n")
	} else {
		p.b.WriteString(paint.paint(styleBad, "They differ.") + "\n")
		for _, l := range alarm(d, with) {
			p.b.WriteString(paint.paint(styleBad, l) + "\n")
		}
	}
	var rows [][]string
	header := []string{"COLLECTION", "DOCUMENTS", "DIGEST"}
	for _, col := range d.GetCollections() {
		if d.GetEqual() {
			rows = append(rows, []string{col.GetCollection(), grouped(col.GetDocuments()), or(digest(col.GetDigest()))})
			continue
		}
		rows = append(rows, []string{
			col.GetCollection(), grouped(col.GetDocuments()), grouped(col.GetOtherDocuments()), grouped(col.GetDiffering()),
			or(digest(col.GetDigest())), or(digest(col.GetOtherDigest())),
		})
	}
	if !d.GetEqual() {
		header = []string{"COLLECTION", "DOCUMENTS " + one, "DOCUMENTS " + other, "DIFFERING", "DIGEST " + one, "DIGEST " + other}
	}
	p.line("")
	p.table("", header, rows)
	for _, col := range d.GetCollections() {
		p.collection(col, one, other, paint)
	}
}

func sampled(sample float64) string {
	const whole, hundred = 1, 100
	if !(sample > 0 && sample < whole) {
		return ""
	}
	return fmt.Sprintf(", for %.4g %% of the customers", hundred*sample)
}

// alarm says loudly what a difference means that should not be.
func alarm(d *opsv1.Difference, with comparison) []string {
	switch {
	case with == comparedWithLog:
		return []string{
			"THE LOG GIVES SOMETHING ELSE THAN WHAT SERVES. The same code from the same events gives the same",
			"documents, so what serves was computed by a bug, mended since or not, was damaged, or has diverged",
			"(`parley projections get " + oneLine(d.GetOther().GetProjection()) + "` says so). A rebuild mends it, where the code is right.",
		}
	case d.GetGeneration().GetVersion() == d.GetOther().GetVersion():
		return []string{
			"SAME VERSION, DIFFERENT DOCUMENTS. The same code from the same events gives the same documents, so one",
			"of the two was computed by a bug, mended since or not, was damaged, or has diverged",
			"(`parley projections get " + oneLine(d.GetOther().GetProjection()) + "` says so). Find out which before you switch.",
		}
	default:
		return nil
	}
}

// digest is the beginning of one, enough to tell two apart.
func digest(s string) string {
	const enough = 16
	if len(s) <= enough {
		return s
	}
	return s[:enough] + "…"
}

// collection shows documents of a collection that differ.
func (p *page) collection(col *opsv1.CollectionDifference, one, other string, paint painter) {
	if len(col.GetExamples()) == 0 {
		return
	}
	p.line("")
	p.line("%s: %s  (- %s, + %s)", col.GetCollection(), number(col.GetDiffering(), "document differs", "documents differ"), other, one)
	for _, doc := range col.GetExamples() {
		name := oneLine(doc.GetTenant() + "  " + doc.GetDocumentId())
		switch {
		case doc.GetOnlyInGeneration():
			p.b.WriteString("  " + paint.paint(styleGood, "+ "+name+"  only in "+one) + "\n")
		case doc.GetOnlyInOther():
			p.b.WriteString("  " + paint.paint(styleBad, "- "+name+"  only in "+other) + "\n")
		default:
			p.line("    %s", name)
		}
		for _, f := range doc.GetFields() {
			p.line("      %s", oneLine(f.GetPath()))
			p.b.WriteString("        " + paint.paint(styleBad, "- "+value(f.GetOtherValue())) + "\n")
			p.b.WriteString("        " + paint.paint(styleGood, "+ "+value(f.GetValue())) + "\n")
		}
	}
	if n := len(col.GetExamples()); col.GetDiffering() > uint64(n) {
		p.line("  … and %s more; --documents shows up to %d", grouped(col.GetDiffering()-uint64(n)), maxDocuments)
	}
}

// value is a field's value with the white space that it has.
func value(s string) string {
	if s == "" {
		return "(absent)"
	}
	return oneLine(s)
}
