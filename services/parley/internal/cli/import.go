package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/web"
)

// importResult is what an import did.
type importResult struct {
	// Lines read, empty ones left out, and those of them that are no call.
	Lines    int64 `json:"lines"`
	BadLines int64 `json:"badLines"`
	// What became of the interactions in the good ones.
	Recorded    int64 `json:"recorded"`
	Duplicates  int64 `json:"duplicates"`
	Refused     int64 `json:"refused"`
	Quarantined int64 `json:"quarantined"`
	// Token of a read that sees all of them.
	ConsistencyToken string `json:"consistencyToken,omitempty"`
}

func (r importResult) failed() bool { return r.BadLines+r.Refused+r.Quarantined > 0 }

func (a *App) importCommand() *cobra.Command {
	c := &client{app: a}
	key := web.Key{Tenant: "import", Source: "import"} // the credential's replace them
	shown := 100
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Import history: calls of the Segment tracking API, one JSON object a line",
		Long: `Imports history: calls of the Segment tracking API (identify, track, page,
screen, group, alias) with their type and timestamp, one JSON object a line,
plain or gzipped. What is imported is marked as backfill: read models see it,
policies do not act on it.

Importing a file again is harmless and continues an import that was broken
off: what is there already is recognised by its messageId, or by its content
where it has none. Lines that are no call are reported with their numbers and
left out; the exit code is then 1.`,
		Example: `  parley import history-2025.jsonl history-2026.jsonl.gz
  zcat history.jsonl.gz | parley import -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the files to import, or - for standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if shown < 0 {
				return usagef("--max-errors %d: want 0 or more", shown)
			}
			mapper, err := web.NewMapper(web.MapperConfig{})
			if err != nil {
				return err
			}
			return c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				im := &importer{
					app: a, client: c, service: interactionv1.NewInteractionServiceClient(conn),
					mapper: mapper, key: key, maxShown: int64(shown), began: time.Now(),
				}
				result, err := im.run(ctx, args)
				if err != nil {
					return err
				}
				if err := a.imported(c, result); err != nil {
					return err
				}
				if result.failed() {
					return reportedError{}
				}
				return nil
			})
		},
	}
	c.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&key.DefaultRegion, "region", "", "`region` of phone numbers without a country code, ISO 3166, for example AT")
	f.StringVar(&key.DefaultCurrency, "currency", "", "`currency` of amounts without one, ISO 4217, for example EUR")
	f.IntVar(&shown, "max-errors", shown, "show at most so many bad lines")
	return cmd
}

func (a *App) imported(c *client, r importResult) error {
	if c.json() {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		return write(a.Stdout, string(b)+"\n")
	}
	p := page{loc: a.Location}
	var rows [][]string
	for _, row := range []struct {
		what  string
		count int64
	}{
		{"lines read", r.Lines}, {"bad lines", r.BadLines},
		{"interactions recorded", r.Recorded}, {"already there", r.Duplicates},
		{"refused", r.Refused}, {"in quarantine", r.Quarantined},
	} {
		rows = append(rows, []string{row.what, strconv.FormatInt(row.count, 10)})
	}
	p.table("", []string{"IMPORTED", ""}, rows)
	return write(a.Stdout, p.b.String())
}
