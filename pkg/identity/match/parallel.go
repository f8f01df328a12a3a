package match

import (
	"context"
	"sync"
	"sync/atomic"
)

// inParallel calls do for 0 to n-1 and returns when all calls have. When ctx
// ends, calls not begun are left out and its error is given.
func inParallel(ctx context.Context, workers, n int, do func(i int)) error {
	var (
		next atomic.Int64
		wait sync.WaitGroup
	)
	for range min(workers, n) {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	wait.Wait()
	return ctx.Err()
}
