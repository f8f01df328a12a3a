package serve

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

type countingPublisher struct{ calls int }

func (c *countingPublisher) Publish(context.Context, string, string, *interactionv1.IngressBatch) error {
	c.calls++
	return nil
}

func (c *countingPublisher) PublishAndWait(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	return &interactionv1.IngressReply{}, c.Publish(ctx, tenant, channel, batch)
}

func TestNothingIsAcknowledgedWhileTheLogTakesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		health error
		want   error
	}{
		"healthy":     {},
		"full":        {fmt.Errorf("append: %w", eventstore.ErrFull), bus.ErrFull},
		"away":        {fmt.Errorf("append: %w", eventstore.ErrUnavailable), bus.ErrUnavailable},
		"catching up": {health: errors.New("the index is being brought up to the log")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := &countingPublisher{}
			gate := &gatedPublisher{Publisher: inner, healthy: func() error { return c.health }}
			err := gate.Publish(t.Context(), "default", "web", &interactionv1.IngressBatch{})
			_, waitErr := gate.PublishAndWait(t.Context(), "default", "email", &interactionv1.IngressBatch{})
			if c.want == nil {
				require.NoError(t, err)
				require.NoError(t, waitErr)
				require.Equal(t, 2, inner.calls)
				return
			}
			require.ErrorIs(t, err, c.want)
			require.ErrorIs(t, waitErr, c.want)
			require.Zero(t, inner.calls)
		})
	}
}

func TestANatsURLWithCredentialsIsRefused(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	s.NATS.URL = "nats://one:4222,nats://secret@two:4222"
	err := s.Check(nil)
	require.ErrorContains(t, err, "--nats:")
	require.NotContains(t, err.Error(), "secret@")
}

func TestNATSHost(t *testing.T) {
	t.Parallel()
	for urls, want := range map[string]string{
		"nats://n1:4222": "n1:4222", "nats://n1:4222, tls://n2:4222,nats://n3": "n1:4222,n2:4222,n3", "": "", "n1": "",
	} {
		require.Equal(t, want, natsHost(urls), urls)
	}
}
