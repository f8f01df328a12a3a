package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/rpcerr"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
)

func (a *App) eventsCommand() *cobra.Command {
	c := &client{app: a}
	cmd := group("events", "The log: follow it, look at one event", a.eventsTail(c), a.eventsShow(c))
	c.bind(cmd)
	return cmd
}

// tail follows the log.
type tail struct {
	app      *App
	client   *client
	request  *feedv1.SubscribeRequest
	limit    int
	noFollow bool
	shown    int
	token    string // of the last item
}

// How long to wait before subscribing again after the stream broke.
const (
	tailFirstRetry = 200 * time.Millisecond
	tailLastRetry  = 10 * time.Second
)

func (a *App) eventsTail(c *client) *cobra.Command {
	t := &tail{app: a, client: c, request: &feedv1.SubscribeRequest{}}
	var from string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show events as they come, one a line",
		Long: `Shows events as they come, one a line, until it is interrupted. Where the
connection breaks it goes on behind the last event, without a gap.`,
		Example: `  parley events tail
  parley events tail --from start --type 'parley.order.*'
  parley events tail --from start --no-follow -o json > events.jsonl`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.limit < 0 {
				return usagef("--limit %d: want 0 for no limit, or more", t.limit)
			}
			switch from {
			case "now":
				t.request.From = &feedv1.SubscribeRequest_Now{Now: &feedv1.FromNow{}}
			case "start":
				t.request.From = &feedv1.SubscribeRequest_Start{Start: &feedv1.FromStart{}}
			case "":
				return usagef("--from: want now, start, or a resume token")
			default:
				t.request.From = &feedv1.SubscribeRequest_ResumeToken{ResumeToken: from}
			}
			return c.with(cmd.Context(), t.run)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "now", "where to begin: now, start, or behind a resume `token`")
	f.StringSliceVar(&t.request.Types, "type", nil, "only these `types`; a trailing * stands for any rest")
	f.StringSliceVar(&t.request.StreamPrefixes, "stream", nil, "only streams whose name behind the tenant begins with this `prefix`, for example web-")
	f.IntVar(&t.limit, "limit", 0, "stop after so many; 0 for no limit")
	f.BoolVar(&t.noFollow, "no-follow", false, "stop at the end of the log")
	return cmd
}

// run subscribes, and again where the stream breaks after it had begun.
func (t *tail) run(ctx context.Context, conn *grpc.ClientConn) error {
	wait := tailFirstRetry
	for {
		before := t.token
		err := t.once(ctx, conn)
		if ctx.Err() != nil {
			err = nil // interrupted: that is how one ends it
		}
		if err == nil || t.token == "" || !retryable(err) {
			return err
		}
		if t.token != before {
			wait = tailFirstRetry
		}
		t.app.complain("parley: %s; going on in %s", clean(strings.ReplaceAll(explain(err), "\n", " ")), wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, tailLastRetry)
	}
}

func retryable(err error) bool {
	switch rpcerr.CodeOf(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return true
	default:
		return errors.Is(err, io.EOF)
	}
}

// once reads one subscription. It returns nil at the limit or, with noFollow,
// at the end of the log.
func (t *tail) once(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := t.request
	if t.token != "" {
		req = proto.CloneOf(req)
		req.From = &feedv1.SubscribeRequest_ResumeToken{ResumeToken: t.token}
	}
	stream, err := feedv1.NewEventServiceClient(conn).Subscribe(ctx, req)
	if err != nil {
		return err
	}
	for {
		item, err := stream.Recv()
		if err != nil {
			return err
		}
		t.token = item.GetResumeToken()
		if ev := item.GetEvent(); ev != nil {
			if err := t.show(item); err != nil {
				return err
			}
			if t.shown++; t.limit > 0 && t.shown >= t.limit {
				return nil
			}
		} else if t.noFollow && item.GetHeartbeat().GetCaughtUp() {
			return nil
		}
	}
}

func (t *tail) show(item *feedv1.SubscribeResponse) error {
	if t.client.json() {
		return printJSON(t.app.Stdout, item, true)
	}
	p := page{loc: t.app.Location}
	p.eventLine(item.GetEvent())
	return write(t.app.Stdout, p.b.String())
}

// eventLine is an event in one line: when, how, which way, who, what, type, id.
func (p *page) eventLine(r *eventv1.RecordedEvent) {
	ev := r.GetEvent()
	who := short(ev.GetProfileId())
	for _, i := range ev.GetIdentifiers() {
		if i.GetProfileId() == ev.GetProfileId() && i.GetKind() != "anonymous_id" {
			who = i.GetValue()
		}
	}
	const whoWidth, whatWidth = 24, 48
	p.line("%s  %-8s %-3s  %-24s  %-48s  %-24s  %s",
		event.Time(ev).In(p.loc).Format("2006-01-02 15:04:05"), ev.GetChannel(), arrow(ev.GetDirection()),
		cutTo(or(who), whoWidth), cutTo(event.Summary(ev), whatWidth), strings.TrimPrefix(ev.GetType(), "parley."), ev.GetId())
}

func (a *App) eventsShow(c *client) *cobra.Command {
	var token string
	cmd := &cobra.Command{
		Use:     "show EVENT-ID",
		Short:   "Show one event with all that is known of it",
		Example: "  parley events show 0190a6d8-1f2e-8c3b-9d4e-5f6071829304",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one event by its id, as the timeline and `parley events tail` show it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := feedv1.NewEventServiceClient(conn).Get(ctx, &feedv1.GetRequest{EventId: args[0], ConsistencyToken: token})
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, resp, false)
				}
				p := page{loc: a.Location}
				if err := p.event(resp.GetEvent()); err != nil {
					return err
				}
				return write(a.Stdout, p.b.String())
			})
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "wait for the write that gave this consistency `token`")
	return cmd
}

// event is an event's page.
func (p *page) event(r *eventv1.RecordedEvent) error {
	ev := r.GetEvent()
	p.line("%s", cell(event.Summary(ev)))
	occurred := p.second(ev.GetOccurredTime())
	if q := enum(ev.GetTimeQuality().String(), "TIME_QUALITY_"); q != "" {
		occurred += " (" + q + ")"
	}
	marks := ""
	if ev.GetBackfill() {
		marks = "backfill"
	}
	var rows [][]string
	for _, row := range [][]string{
		{"event", ev.GetId()},
		{"type", fmt.Sprintf("%s, version %d", ev.GetType(), max(ev.GetSchemaVersion(), 1))},
		{"stream", fmt.Sprintf("%s at %d, position %d", r.GetStream(), r.GetRevision(), r.GetPosition())},
		{"occurred", occurred},
		{"received", p.second(ev.GetReceivedTime())},
		{"recorded", p.second(r.GetRecordedTime())},
		{"source", ev.GetSource()},
		{"source id", cell(ev.GetSourceId())},
		{"channel", ev.GetChannel()},
		{"direction", enum(ev.GetDirection().String(), "DIRECTION_")},
		{"conversation", cell(ev.GetConversation())},
		{"profile", ev.GetProfileId()},
		{"actor", strings.TrimSpace(enum(ev.GetActor().GetKind().String(), "ACTOR_KIND_") + " " + ev.GetActor().GetId())},
		{"caused by", ev.GetCausationId()},
		{"marks", marks},
	} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	p.table("", []string{"FIELD", "VALUE"}, rows)

	rows = nil
	for _, i := range ev.GetIdentifiers() {
		role := enum(i.GetRole().String(), "IDENTIFIER_ROLE_")
		if role == "" {
			role = "customer"
		}
		rows = append(rows, []string{i.GetKind(), cell(i.GetValue()), role, or(enum(i.GetStrength().String(), "IDENTIFIER_STRENGTH_")), or(i.GetProfileId())})
	}
	p.table("Identifiers", []string{"KIND", "VALUE", "ROLE", "STRENGTH", "PROFILE"}, rows)

	if ev.GetPayload() != nil {
		var b strings.Builder
		if err := printJSON(&b, ev.GetPayload(), false); err != nil {
			return err
		}
		p.line("")
		p.line("Payload")
		for l := range strings.Lines(b.String()) {
			p.line("  %s", strings.TrimRight(l, "\n"))
		}
	}
	return nil
}
