package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	o := importOptions{key: web.Key{Tenant: "import", Source: "import"}, shown: 100} // the credential's replace them
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Import history: mails in folders and mbox files, or calls of the Segment tracking API, one JSON object a line",
		Long: `Imports history. What is imported is marked as backfill: read models see it,
policies do not act on it.

Mails come in folders (a file a mail, or mbox files; folders within, too), in
mbox files, or as single files. Other files in a folder are reported and left
out. A mail's time is that of its header; --mailbox says where they were found,
if their headers do not.

Lines are calls of the Segment tracking API (identify, track, page, screen,
group, alias) with their type and timestamp, one JSON object a line.

Which of the two a file is, its beginning tells; --mail takes it for mails in
any case. Files may be gzipped.

Importing again is harmless and continues an import that was broken off: what
is there already is recognised by its Message-ID or messageId, or by its
content where it has none. What cannot be imported is reported and left out;
the exit code is then 1.`,
		Example: `  parley import ~/Maildir archive-2019.mbox.gz
  parley import history-2025.jsonl history-2026.jsonl.gz
  zcat history.jsonl.gz | parley import -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the files to import, or - for standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.shown < 0 {
				return usagef("--max-errors %d: want 0 or more", o.shown)
			}
			mails, stdin, err := a.kindOf(args, o.mail)
			if err != nil {
				return err
			}
			return c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				if mails {
					return a.importMails(ctx, c, conn, args, stdin, o)
				}
				return a.importLines(ctx, c, conn, args, stdin, o)
			})
		},
	}
	c.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&o.key.DefaultRegion, "region", "", "`region` of phone numbers without a country code, ISO 3166, for example AT; of lines")
	f.StringVar(&o.key.DefaultCurrency, "currency", "", "`currency` of amounts without one, ISO 4217, for example EUR; of lines")
	f.BoolVar(&o.mail, "mail", false, "the files are mails, whatever they look like")
	f.StringVar(&o.mailbox, "mailbox", "", "`address` of the mailbox that the mails were found in")
	f.IntVar(&o.shown, "max-errors", o.shown, "show at most so many bad lines or mails")
	return cmd
}

// importOptions are the flags.
type importOptions struct {
	key     web.Key
	mail    bool
	mailbox string
	shown   int
}

// importLines imports calls of the tracking API.
func (a *App) importLines(ctx context.Context, c *client, conn *grpc.ClientConn, files []string, stdin io.Reader, o importOptions) error {
	mapper, err := web.NewMapper(web.MapperConfig{})
	if err != nil {
		return err
	}
	im := &importer{
		importReport: importReport{app: a, what: "interactions", bad: "bad lines", maxShown: int64(o.shown), began: time.Now()},
		client:       c, service: interactionv1.NewInteractionServiceClient(conn), mapper: mapper, key: o.key, stdin: stdin,
	}
	result, err := im.run(ctx, files)
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
}

func (a *App) imported(c *client, r importResult) error {
	return a.importTable(c, r, []importRow{
		{"lines read", r.Lines}, {"bad lines", r.BadLines},
		{"interactions recorded", r.Recorded}, {"already there", r.Duplicates},
		{"refused", r.Refused}, {"in quarantine", r.Quarantined},
	})
}

// importRow is a line of an import's table.
type importRow struct {
	what  string
	count int64
}

// importTable writes what an import did, as JSON or as a table.
func (a *App) importTable(c *client, result any, rows []importRow) error {
	if c.json() {
		b, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		return write(a.Stdout, string(b)+"\n")
	}
	p := page{loc: a.Location}
	var lines [][]string
	for _, row := range rows {
		lines = append(lines, []string{row.what, strconv.FormatInt(row.count, 10)})
	}
	p.table("", []string{"IMPORTED", ""}, lines)
	return write(a.Stdout, p.b.String())
}
