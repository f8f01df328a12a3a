package esdb

import (
	"context"
	"io"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/metadata"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// news is what a subscription in the cluster says.
type news struct {
	kind   newsKind
	record *eventstore.Record  // of newsRecord
	at     eventstore.Position // of newsRecord, newsLooked
}

type newsKind uint8

const (
	// newsBegun: the cluster confirmed the subscription.
	newsBegun newsKind = iota
	// newsRecord: a record that matches.
	newsRecord
	// newsLooked: everything up to a position was looked at. The position may
	// be that of a record of the cluster's own, beyond the log's head.
	newsLooked
	// newsCaughtUp: everything that the log held when the subscription began
	// is through.
	newsCaughtUp
	// newsLost: the connection is gone; newsBegun comes when there is another.
	newsLost
)

// subscribeOnce subscribes over one connection, and hands over what comes until
// it fails or no more is wanted. The positions of what it hands over grow. That
// the cluster ends the subscription is io.EOF.
func (s *Store) subscribeOnce(ctx context.Context, over *channel, after eventstore.Position, filter eventstore.Filter, trailer *metadata.MD, take func(news) (bool, error)) error {
	wanted := true
	hand := func(n news) (bool, error) {
		var err error
		wanted, err = take(n)
		return wanted, err
	}
	err := read(ctx, over, followRequest(after, filter), trailer, func(resp *streams.ReadResp) (bool, error) {
		switch content := resp.GetContent().(type) {
		case *streams.ReadResp_Confirmation:
			return hand(news{kind: newsBegun})
		case *streams.ReadResp_CaughtUp_:
			return hand(news{kind: newsCaughtUp})
		case *streams.ReadResp_Checkpoint_:
			at := eventstore.Position(content.Checkpoint.GetCommitPosition())
			if at <= after {
				return true, nil
			}
			after = at
			return hand(news{kind: newsLooked, at: at})
		case *streams.ReadResp_Event:
			e := content.Event.GetEvent()
			at := eventstore.Position(e.GetCommitPosition())
			if e == nil || at <= after {
				return true, nil
			}
			after = at
			if !ours(e) {
				return true, nil
			}
			if !filter.Matches(string(e.GetStreamIdentifier().GetStreamName()), e.GetMetadata()[metaType]) {
				s.saw(at)
				return hand(news{kind: newsLooked, at: at})
			}
			r, err := toRecord(e)
			if err != nil {
				return false, err
			}
			s.saw(at)
			return hand(news{kind: newsRecord, at: at, record: r})
		default:
			// It fell behind, or something that a newer version says.
			return true, nil
		}
	})
	if err == nil && wanted {
		return io.EOF
	}
	return err
}

// follow subscribes from behind a position, and goes on over other connections,
// without a gap or a repetition, until no more is wanted, ctx ends, or it fails
// for good.
func (s *Store) follow(ctx context.Context, over func(*link) *channel, after eventstore.Position, filter eventstore.Filter, take func(news) (bool, error)) error {
	var pause backoff
	for {
		began, wanted := time.Now(), true
		err := s.once(ctx, ctx, func(ctx context.Context, l *link, trailer *metadata.MD) error {
			return s.subscribeOnce(ctx, over(l), after, filter, trailer, func(n news) (bool, error) {
				if n.at > after {
					after = n.at
				}
				var err error
				wanted, err = take(n)
				return wanted, err
			})
		})
		if !wanted && err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !mayRetry(err) {
			return err
		}
		if more, err := take(news{kind: newsLost}); err != nil || !more {
			return err
		}
		if time.Since(began) > 2*lastWait {
			pause.reset()
		}
		if !pause.wait(ctx) {
			return context.Cause(ctx)
		}
	}
}
