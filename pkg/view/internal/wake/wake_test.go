package wake_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view/internal/wake"
)

func TestHub(t *testing.T) {
	t.Parallel()
	var hub wake.Hub
	hub.Alarm("nobody")
	one, stopOne := hub.Follow("a")
	two, stopTwo := hub.Follow("a")
	other, stopOther := hub.Follow("b")
	hub.Alarm("a")
	hub.Alarm("a")
	require.Len(t, one, 1, "several alarms are one")
	require.Len(t, two, 1)
	require.Empty(t, other)
	<-one
	stopTwo()
	stopTwo()
	<-two
	hub.AlarmAll()
	require.Len(t, one, 1)
	require.Empty(t, two, "who left is not woken")
	require.Len(t, other, 1)
	stopOne()
	stopOther()
}

func TestHubConcurrently(t *testing.T) {
	t.Parallel()
	var hub wake.Hub
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 50 {
				c, stop := hub.Follow("a")
				hub.Alarm("a")
				<-c
				stop()
			}
		})
	}
	wg.Wait()
}
