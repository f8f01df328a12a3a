package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Blocking reads the rules, changes them and sets them again. Where somebody
// else was faster it begins anew.
const (
	maxBlockTries = 8
	// firstBlockPause before the second try doubles with each: the read model
	// has to see the other's change first.
	firstBlockPause = 25 * time.Millisecond
)

func (a *App) identityBlock(c *client) *cobra.Command {
	return a.blockCommand(c, &cobra.Command{
		Use:   "block KIND:VALUE…",
		Short: "Let identifiers link nobody, for example a switchboard's number",
		Long: `Blocks identifiers: they link nobody from here on, and lose the links that they
have at once, so that customers whom only they joined are several again. What
happened stays with the profile of the identifier. Blocking one twice is
harmless; ` + "`parley identity unblock`" + ` gives the links back.`,
		Example: `  parley identity block phone:+4315550000 --reason "Our own switchboard"
  parley identity block email:team@acme.example user_id:test --reason "For tests only"`,
	}, true)
}

func (a *App) identityUnblock(c *client) *cobra.Command {
	return a.blockCommand(c, &cobra.Command{
		Use:     "unblock KIND:VALUE…",
		Short:   "Let blocked identifiers link again",
		Long:    "Takes identifiers off the list of blocked ones: they get back the links that they had, and link again.",
		Example: `  parley identity unblock phone:+4315550000 --reason "A person's after all"`,
	}, false)
}

func (a *App) blockCommand(c *client, cmd *cobra.Command, block bool) *cobra.Command {
	var d decisionFlags
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("name the identifiers, each as kind:value, for example phone:+4315550000")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var ids []customerName
		for _, arg := range args {
			n, err := parseIdentifier(arg)
			if err != nil {
				return err
			}
			ids = append(ids, n)
		}
		if err := d.checkReason(); err != nil {
			return err
		}
		return c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
			return a.changeBlocked(ctx, c, customerv1.NewCustomerServiceClient(conn), ids, d.reason, block)
		})
	}
	d.bindReason(cmd)
	return cmd
}

func (a *App) changeBlocked(ctx context.Context, c *client, service customerv1.CustomerServiceClient, ids []customerName, reason string, block bool) error {
	for try := 1; ; try++ {
		now, err := currentRules(ctx, c, service)
		if err != nil {
			return err
		}
		rules, changed, err := withBlocked(now.GetRules(), ids, block)
		if err != nil {
			return err
		}
		if len(changed) == 0 {
			return a.unchanged(c, now, "They are blocked already.")
		}
		resp, err := within(ctx, c, func(ctx context.Context) (*customerv1.UpdateIdentityRulesResponse, error) {
			return service.UpdateIdentityRules(ctx, &customerv1.UpdateIdentityRulesRequest{
				Rules: rules, FollowsEventId: now.GetEventId(), Reason: reason,
			})
		})
		if err == nil {
			what := "unblocked"
			if block {
				what = "blocked"
			}
			var rows [][]string
			for _, n := range changed {
				rows = append(rows, []string{what, n.kind + ":" + n.value})
			}
			return a.rulesChanged(c, resp, rows)
		}
		if e, ok := rpcerr.Parse(err); !ok || e.Reason != errorv1.Reason_REASON_CHANGED_SINCE || try == maxBlockTries {
			return err
		}
		if err := pause(ctx, firstBlockPause<<(try-1)); err != nil {
			return err
		}
	}
}

// pause waits, or less where the command is to end.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait to try again: %w", ctx.Err())
	case <-timer.C:
		return nil
	}
}

// withBlocked are the rules with identifiers blocked or not, and those of them
// that were not so before. To unblock one that is not blocked is an error.
func withBlocked(rules *eventv1.IdentityRules, ids []customerName, block bool) (*eventv1.IdentityRules, []customerName, error) {
	out := proto.CloneOf(rules)
	if out == nil {
		out = &eventv1.IdentityRules{}
	}
	region := rules.GetDefaultRegion()
	var changed []customerName
	var missing []string
	seen := map[customerName]bool{}
	for _, id := range ids {
		normal := id.normal(region)
		if seen[normal] {
			continue
		}
		seen[normal] = true
		same := func(b *eventv1.BlockedIdentifier) bool {
			return customerName{kind: b.GetKind(), value: b.GetValue()}.normal(region) == normal
		}
		there := slices.ContainsFunc(out.GetBlocked(), same)
		switch {
		case block && !there:
			out.Blocked = append(out.GetBlocked(), &eventv1.BlockedIdentifier{Kind: normal.kind, Value: normal.value})
			changed = append(changed, normal)
		case !block && there:
			out.Blocked = slices.DeleteFunc(out.GetBlocked(), same)
			changed = append(changed, normal)
		case !block:
			missing = append(missing, normal.kind+":"+normal.value)
		}
	}
	if len(missing) > 0 {
		return nil, nil, fmt.Errorf("not blocked: %s; `parley identity rules get` shows what is. Nothing was changed", strings.Join(missing, ", "))
	}
	return out, changed, nil
}

// normal is an identifier as it is recorded; one that the rules cannot read
// stays as it is, for the server to refuse.
func (n customerName) normal(region string) customerName {
	if value, err := identity.Normalize(n.kind, n.value, region); err == nil {
		n.value = value
	}
	return n
}
