package serve

import (
	"context"
	"fmt"

	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

// loadOrigins finds out which logs the log was copied from, whose tokens are as
// good as its own. A copy that was not finished is not served: what is missing
// would be taken for never recorded. But it is served to whoever finishes it.
func (p *process) loadOrigins(ctx context.Context) error {
	origins, err := posmap.Load(ctx, p.running.log)
	if err != nil {
		return fmt.Errorf("find out where the log was copied from: %w", err)
	}
	p.origins = origins
	for _, o := range origins.Origins() {
		p.log.Info("the log was copied from another one", "origin", o.Source, "records", o.Records, "complete", o.Complete)
		if o.Target == p.running.log.LogID() && !o.Complete && !p.has(Log) {
			return fmt.Errorf("log %s is a copy of log %s that was not finished: `parley log copy`, once more with the same --from and --to, finishes it", o.Target, o.Source)
		}
	}
	return nil
}
