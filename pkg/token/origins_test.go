package token_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/token"
)

// origins is of one log, whose positions are ten times as large here.
type origins struct {
	from uuid.UUID
	err  error
}

func (o origins) Resolve(_ context.Context, log uuid.UUID, position eventstore.Position) (eventstore.Position, error) {
	if log != o.from {
		return 0, &posmap.UnknownLogError{LogID: log}
	}
	return 10 * position, o.err
}

func TestIn(t *testing.T) {
	t.Parallel()
	own, before, other := uuid.New(), uuid.New(), uuid.New()
	known := origins{from: before}
	for name, tc := range map[string]struct {
		log     uuid.UUID
		origins token.Origins
		want    eventstore.Position
		err     error
	}{
		"its own":          {own, known, 7, nil},
		"its own, no move": {own, nil, 7, nil},
		"moved":            {before, known, 70, nil},
		"no move":          {before, nil, 0, token.ErrOtherLog},
		"another":          {other, known, 0, token.ErrOtherLog},
		"cannot tell":      {before, origins{before, eventstore.ErrUnavailable}, 0, eventstore.ErrUnavailable},
	} {
		got, err := token.NewResume(tc.log, 7).In(t.Context(), own, tc.origins)
		require.ErrorIs(t, err, tc.err, name)
		require.Equal(t, tc.want, got, name)
	}
}
