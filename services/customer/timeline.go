package customer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

const (
	timelinePurpose     = "customer.timeline"
	defaultTimelinePage = 50
	// maxTimelineRows is how many rows one call looks at for a filter; a page
	// may then be short and still have a next one.
	maxTimelineRows = 10_000
	// filterRows is how many rows are read at once where a filter drops some.
	filterRows = 500
	// sameTimeRows is how many rows of the last interaction's own microsecond
	// are expected; where there are more, more is read.
	sameTimeRows = 8
)

// ListTimeline lists a customer's interactions over all of his profiles.
//
// A page token says behind which interaction the next page begins, and nothing
// of how it was found. So paging goes on rightly through interactions that
// arrive meanwhile, wherever they belong, and through merges and splits.
func (s *Server) ListTimeline(ctx context.Context, req *customerv1.ListTimelineRequest) (*customerv1.ListTimelineResponse, error) {
	for field, t := range map[string]*timestamppb.Timestamp{"start_time": req.GetStartTime(), "end_time": req.GetEndTime()} {
		if t != nil && t.CheckValid() != nil {
			return nil, rpcerr.InvalidField(field, "must be in the years 1 to 9999")
		}
	}
	if err := checkID("customer_id", req.GetCustomerId()); err != nil {
		return nil, err
	}
	r, err := s.about(ctx, req.GetConsistencyToken(), req.GetCustomerId())
	if err != nil {
		return nil, err
	}
	fingerprint, err := token.FingerprintOf(r.Tenant, req, "page_token", "page_size", "consistency_token")
	if err != nil {
		return nil, failed(err)
	}
	listing := &listing{read: r, req: req, size: int(req.GetPageSize())}
	if listing.size == 0 {
		listing.size = defaultTimelinePage
	}
	if req.GetPageToken() != "" {
		cursor, err := token.ParsePage(timelinePurpose, fingerprint, req.GetPageToken())
		if err != nil {
			return nil, invalidPageToken(err)
		}
		if listing.last, err = parsePlace(cursor); err != nil {
			return nil, invalidPageToken(err)
		}
	}
	if err := listing.run(ctx); err != nil {
		return nil, failed(err)
	}
	answer := &customerv1.ListTimelineResponse{Interactions: listing.rows, CustomerId: listing.customer}
	if listing.more {
		if answer.NextPageToken, err = token.Page(timelinePurpose, fingerprint, listing.last.append(nil)); err != nil {
			return nil, failed(err)
		}
	}
	return answer, nil
}

// listing reads one page.
type listing struct {
	read *read
	req  *customerv1.ListTimelineRequest
	size int

	// last is the interaction behind which to go on; nil at the beginning.
	last     *place
	rows     []*customerv1.InteractionSummary
	customer string
	// looked is how many rows were looked at, without those passed over.
	looked int
	// more says that there may be more behind last.
	more bool
}

// run goes on behind last until the page is full, there is nothing more, or
// enough was looked at. Each step sees the newest state: where the profiles have
// changed since the step before, it begins anew behind last.
func (l *listing) run(ctx context.Context) error {
	limit := l.size + 1
	if l.last != nil {
		limit += sameTimeRows
	}
	if len(l.req.GetChannels()) > 0 {
		limit = max(limit, filterRows)
	}
	limit = min(limit, view.MaxLimit)
	var cursor []byte
	var behind *place
	var profiles []string
	for {
		who, page, err := l.read.Reader.CustomerRows(ctx, timeline, l.read.Tenant, l.req.GetCustomerId(), func(c projection.Customer) view.Query {
			if !slices.Equal(profiles, c.Profiles) {
				cursor, behind = nil, l.last
			}
			profiles = c.Profiles
			q := l.query(c, behind, limit)
			q.Cursor = cursor
			return q
		})
		if err != nil {
			return err
		}
		l.customer = who.ID
		full, err := l.take(page.Entries)
		if err != nil {
			return err
		}
		cursor = page.Next
		if l.more = full || cursor != nil; full || cursor == nil || l.looked >= maxTimelineRows {
			return nil
		}
	}
}

// query is by time alone; what stands before the interaction to go on behind, in
// its own microsecond, is passed over by take.
func (l *listing) query(c projection.Customer, behind *place, limit int) view.Query {
	q := view.Query{Index: byTime, Limit: limit, Reverse: !l.req.GetOldestFirst()}
	for _, profile := range c.Profiles {
		q.Prefixes = append(q.Prefixes, view.Tuple{view.String(profile)})
	}
	if t := l.req.GetStartTime(); t != nil {
		q.From = view.Time(t.AsTime())
	}
	if t := l.req.GetEndTime(); t != nil {
		q.To = after(microseconds(instantOf(t)))
	}
	if behind != nil {
		if q.Reverse {
			q.To = after(behind.time)
		} else {
			q.From = view.Time(timeOf(behind.time.proto()))
		}
	}
	return q
}

// after is the bound that excludes everything later than at.
func after(at instant) view.Value {
	at.nanos += 1000
	if at.nanos >= nanosPerUnit {
		at.seconds, at.nanos = at.seconds+1, 0
	}
	return view.Time(timeOf(at.proto()))
}

// take adds what belongs to the page, and says when it is full and there is
// more.
func (l *listing) take(entries []view.Entry) (full bool, err error) {
	for _, entry := range entries {
		row := &customerv1.InteractionSummary{}
		if err := wire.Unmarshal(entry.Data, row); err != nil {
			return false, fmt.Errorf("timeline row %s: %w: %w", entry.Key.ID, view.ErrCorrupt, err)
		}
		at := placeOf(row)
		if l.last != nil {
			if order := at.compare(l.last); order == 0 || (order < 0) == l.req.GetOldestFirst() {
				continue
			}
		}
		wanted := l.wants(row)
		if wanted && len(l.rows) == l.size {
			return true, nil
		}
		l.last = at
		l.looked++
		if wanted {
			l.rows = append(l.rows, row)
		}
	}
	return false, nil
}

func (l *listing) wants(row *customerv1.InteractionSummary) bool {
	at := instantOf(row.GetTime())
	if t := l.req.GetStartTime(); t != nil && at.compare(instantOf(t)) < 0 {
		return false
	}
	if t := l.req.GetEndTime(); t != nil && at.compare(instantOf(t)) >= 0 {
		return false
	}
	return len(l.req.GetChannels()) == 0 || slices.Contains(l.req.GetChannels(), row.GetChannel())
}

// place is where an interaction stands in every timeline.
type place struct {
	time     instant
	sequence int64
	eventID  string
}

func placeOf(row *customerv1.InteractionSummary) *place {
	return &place{time: instantOf(row.GetTime()), sequence: orderingSequence(row.GetSourceSequence()), eventID: row.GetEventId()}
}

func (p *place) compare(other *place) int {
	return p.tuple().Compare(other.tuple())
}

func (p *place) tuple() view.Tuple {
	return view.Tuple{view.Time(timeOf(p.time.proto())), view.Int64(p.sequence), view.String(p.eventID)}
}

const placeSize = 8 + 4 + 8

func (p *place) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(p.time.seconds))
	b = binary.BigEndian.AppendUint32(b, uint32(p.time.nanos))
	b = binary.BigEndian.AppendUint64(b, uint64(p.sequence))
	return append(b, p.eventID...)
}

var errPlace = errors.New("no place in a timeline")

func parsePlace(b []byte) (*place, error) {
	if len(b) < placeSize {
		return nil, errPlace
	}
	p := &place{
		time: instant{
			seconds: int64(binary.BigEndian.Uint64(b)),
			nanos:   int32(binary.BigEndian.Uint32(b[8:])),
		},
		sequence: int64(binary.BigEndian.Uint64(b[12:])),
		eventID:  string(b[placeSize:]),
	}
	if p.time.proto().CheckValid() != nil {
		return nil, errPlace
	}
	return p, nil
}
