package esdbserver

import (
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// readRequest is a checked ReadReq.
type readRequest struct {
	// name and stream are empty for $all.
	name, stream string
	subscription bool
	backwards    bool
	resolve      bool
	stringIDs    bool
	// extras: the client understands messages about where a stream begins and
	// ends.
	extras bool
	// count is of a read: at most so many events.
	count uint64
	// Where to begin. revision is of a stream, position of $all; fromEnd and
	// fromStart stand for themselves.
	fromStart, fromEnd bool
	revision           eventstore.Revision
	position           eventstore.Position
	filter             *filter
}

// parseRead checks everything about a request that can be without the store.
func parseRead(req *streams.ReadReq) (*readRequest, error) {
	o := req.GetOptions()
	if o == nil {
		return nil, invalidArgument("read without options")
	}
	r := &readRequest{resolve: o.GetResolveLinks(), extras: o.GetControlOption().GetCompatibility() >= 1}
	_, r.stringIDs = o.GetUuidOption().GetContent().(*streams.ReadReq_Options_UUIDOption_String_)
	switch o.GetCountOption().(type) {
	case *streams.ReadReq_Options_Count:
		r.count = o.GetCount()
	case *streams.ReadReq_Options_Subscription:
		r.subscription = true
	default:
		return nil, invalidArgument("read with neither a count nor subscription")
	}
	switch o.GetReadDirection() {
	case streams.ReadReq_Options_Forwards:
	case streams.ReadReq_Options_Backwards:
		if r.subscription {
			return nil, invalidArgument("a subscription goes forwards only")
		}
		r.backwards = true
	default:
		return nil, invalidArgument("read direction %d is unknown", o.GetReadDirection())
	}
	switch o.GetStreamOption().(type) {
	case *streams.ReadReq_Options_Stream:
		if o.GetFilter() != nil {
			return nil, invalidArgument("only reads of %s can be filtered", allStream)
		}
		return r, r.ofStream(o.GetStream())
	case *streams.ReadReq_Options_All:
		var err error
		if r.filter, err = newFilter(o.GetFilter(), r.subscription); err != nil {
			return nil, err
		}
		return r, r.ofAll(o.GetAll())
	default:
		return nil, invalidArgument("read of neither a stream nor %s", allStream)
	}
}

func (r *readRequest) ofStream(o *streams.ReadReq_Options_StreamOptions) (err error) {
	if r.name, r.stream, err = streamName(o.GetStreamIdentifier().GetStreamName()); err != nil {
		return err
	}
	switch o.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		// Clients write "the end" as 2^64-1 too.
		if o.GetRevision() >= math.MaxInt64 {
			r.fromEnd = true
		} else {
			r.revision = eventstore.Revision(o.GetRevision())
		}
	case *streams.ReadReq_Options_StreamOptions_Start:
		r.fromStart = true
	case *streams.ReadReq_Options_StreamOptions_End:
		r.fromEnd = true
	default:
		return invalidArgument("read of a stream from nowhere: want a revision, start or end")
	}
	return nil
}

func (r *readRequest) ofAll(o *streams.ReadReq_Options_AllOptions) error {
	switch o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		commit, prepare := o.GetPosition().GetCommitPosition(), o.GetPosition().GetPreparePosition()
		switch {
		case prepare > commit:
			return invalidArgument("position %d/%d: the prepare position is behind the commit position", commit, prepare)
		case commit >= math.MaxInt64:
			r.fromEnd = true
		default:
			r.position = eventstore.Position(commit)
		}
	case *streams.ReadReq_Options_AllOptions_Start:
		r.fromStart = true
	case *streams.ReadReq_Options_AllOptions_End:
		r.fromEnd = true
	default:
		return invalidArgument("read of %s from nowhere: want a position, start or end", allStream)
	}
	return nil
}
