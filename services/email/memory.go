package email

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
)

// memory bounds the bytes of mails that are held at a time.
type memory struct {
	room *semaphore.Weighted
	size int64
}

const (
	// freeBytes of every mail need no room: most mails are smaller, and
	// connections are bounded besides.
	freeBytes = 64 << 10
	// memoryPatience is how long a mail waits for room.
	memoryPatience = 30 * time.Second
)

// errBusy says that other mails take all the room.
var errBusy = errors.New("too many large mails at a time")

func newMemory(size int64) *memory { return &memory{room: semaphore.NewWeighted(size), size: size} }

// hold takes room for so many bytes. What it returns gives it back. Who has room
// already and waits for more may wait for somebody who does, too, and for no
// longer than memoryPatience.
func (m *memory) hold(ctx context.Context, bytes int64) (release func(), err error) {
	bytes = min(bytes, m.size)
	wait, cancel := context.WithTimeout(ctx, memoryPatience)
	defer cancel()
	if err := m.room.Acquire(wait, bytes); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("room for %d bytes: %w", bytes, errBusy)
	}
	return func() { m.room.Release(bytes) }, nil
}
