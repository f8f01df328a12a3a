package customer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// timeline reads all pages, doing something between them.
func (h *house) timeline(req *customerv1.ListTimelineRequest, between func(page int)) []*customerv1.InteractionSummary {
	h.t.Helper()
	var all []*customerv1.InteractionSummary
	for page := 0; ; page++ {
		answer, err := h.client.ListTimeline(h.call("acme"), req)
		require.NoError(h.t, err)
		all = append(all, answer.GetInteractions()...)
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
		require.Less(h.t, page, 1000, "no end")
		if between != nil {
			between(page)
		}
	}
}

func TestTimelineGolden(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	user := []string{"user_id", "u1"}
	h.record(said{at: 30, ids: user, payload: page("/third")})
	// What is said of these two times cannot be: they stand where they were received.
	h.record(said{when: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), ids: user, payload: page("/year-1")})
	h.record(said{when: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), ids: user, payload: page("/year-9999"), sequence: 1})
	// Late, from before he was known.
	h.record(said{at: 10, ids: []string{"anonymous_id", "a"}, payload: page("/first")})
	// The steps of a call, within one second, in the wrong order.
	call := func(p *eventv1.Payload, sequence uint64) {
		h.record(said{at: 20, channel: "phone", ids: user, payload: p, sequence: sequence})
	}
	call(&eventv1.Payload{Kind: &eventv1.Payload_CallEnded{CallEnded: &eventv1.CallEnded{}}}, 3)
	call(&eventv1.Payload{Kind: &eventv1.Payload_CallRinging{CallRinging: &eventv1.CallRinging{Line: "sales"}}}, 1)
	call(&eventv1.Payload{Kind: &eventv1.Payload_CallAnswered{CallAnswered: &eventv1.CallAnswered{AgentId: "bob"}}}, 2)
	tok := h.record(said{at: 40, ids: []string{"anonymous_id", "a", "user_id", "u1"}, payload: traits("name", `"Ada"`)})
	req := &customerv1.ListTimelineRequest{CustomerId: h.profile("user_id", "u1"), ConsistencyToken: tok, PageSize: 3}
	want := []string{
		"10:00:00 viewed /year-9999",
		"10:00:00 viewed /year-1",
		"09:00:40 told name",
		"09:00:30 viewed /third",
		"09:00:20 call ended",
		"09:00:20 call answered by bob",
		"09:00:20 call rings on sales",
		"09:00:10 viewed /first",
	}
	newest := h.timeline(req, nil)
	require.Equal(t, want, summaries(newest))
	require.Equal(t, 9999, newest[0].GetSaidTime().AsTime().Year())
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE, newest[1].GetTimeQuality())
	require.Nil(t, newest[2].GetSaidTime())
	require.Equal(t, want, summaries(h.get("user_id", "u1", tok).GetRecentInteractions()), "the same order in the 360")
	req.OldestFirst = true
	slices.Reverse(want)
	require.Equal(t, want, summaries(h.timeline(req, nil)))
}

func TestTimelineFilters(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var tok string
	for i := range 12 {
		tok = h.record(said{
			at: i, channel: []string{"web", "phone", "chat"}[i%3], payload: page(fmt.Sprint("/", i)),
			ids: []string{"user_id", "u1"},
		})
	}
	at := func(seconds int, extra time.Duration) *timestamppb.Timestamp {
		return timestamppb.New(opening.Add(time.Duration(seconds)*time.Second + extra))
	}
	for _, tc := range []struct {
		name string
		req  *customerv1.ListTimelineRequest
		want []int
	}{
		{"one channel", &customerv1.ListTimelineRequest{Channels: []string{"phone"}}, []int{10, 7, 4, 1}},
		{"two channels", &customerv1.ListTimelineRequest{Channels: []string{"phone", "chat"}, EndTime: at(6, 0)}, []int{5, 4, 2, 1}},
		{"from", &customerv1.ListTimelineRequest{StartTime: at(9, 0)}, []int{11, 10, 9}},
		{"from just behind", &customerv1.ListTimelineRequest{StartTime: at(9, 1)}, []int{11, 10}},
		{"until", &customerv1.ListTimelineRequest{EndTime: at(2, 0)}, []int{1, 0}},
		{"until just behind", &customerv1.ListTimelineRequest{EndTime: at(2, 1)}, []int{2, 1, 0}},
		{"between", &customerv1.ListTimelineRequest{StartTime: at(3, 0), EndTime: at(5, 0), OldestFirst: true}, []int{3, 4}},
		{"nothing", &customerv1.ListTimelineRequest{StartTime: at(5, 0), EndTime: at(5, 0)}, []int{}},
		{"no such channel", &customerv1.ListTimelineRequest{Channels: []string{"fax"}}, []int{}},
	} {
		for _, size := range []int32{0, 1, 3} {
			t.Run(fmt.Sprint(tc.name, " by ", size), func(t *testing.T) {
				t.Parallel()
				req := proto.CloneOf(tc.req)
				req.CustomerId, req.PageSize, req.ConsistencyToken = h.profile("user_id", "u1"), size, tok
				got := []int{}
				for _, line := range h.timeline(req, nil) {
					got = append(got, int(line.GetTime().AsTime().Sub(opening)/time.Second))
				}
				require.Equal(t, tc.want, got)
			})
		}
	}
	_, err := h.client.ListTimeline(h.call("acme"), &customerv1.ListTimelineRequest{
		CustomerId: h.profile("user_id", "u1"), StartTime: &timestamppb.Timestamp{Seconds: 1 << 60},
	})
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, err)
	_, err = h.client.ListTimeline(h.call("acme"), &customerv1.ListTimelineRequest{CustomerId: "nobody"})
	requireReason(t, codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, err)
	_, err = h.client.ListTimeline(h.call("acme"), &customerv1.ListTimelineRequest{CustomerId: h.profile("user_id", "u1"), PageToken: "x"})
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, err)
}

// TestTimelinePagesSurvive pages through a timeline, in both directions, while
// interactions arrive before, in and behind the page, and another profile joins.
// What was there at the beginning comes exactly once, in order.
func TestTimelinePagesSurvive(t *testing.T) {
	t.Parallel()
	for _, oldestFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("oldest first ", oldestFirst), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(11, 13))
			h := newHouse(t)
			was := map[string]bool{}
			for range 40 {
				// Few instants, so that many stand at the same one.
				ev, _ := h.recordEvent(said{
					at: r.IntN(4), sequence: uint64(r.IntN(3)),
					ids: []string{"anonymous_id", []string{"a", "b"}[r.IntN(2)]},
				})
				was[ev.GetId()] = true
			}
			h.record(said{at: 2, ids: []string{"anonymous_id", "a", "user_id", "u1"}})
			tok := h.record(said{at: 2, ids: []string{"anonymous_id", "b", "user_id", "u1"}})
			req := &customerv1.ListTimelineRequest{
				CustomerId: h.profile("anonymous_id", "a"), PageSize: 3, ConsistencyToken: tok, OldestFirst: oldestFirst,
			}
			got := h.timeline(req, func(page int) {
				for range 2 {
					req.ConsistencyToken = h.record(said{at: r.IntN(5), sequence: uint64(r.IntN(4)), ids: []string{"user_id", "u1"}})
				}
				if page == 4 {
					h.record(said{at: 1, ids: []string{"anonymous_id", "c"}})
					req.ConsistencyToken = h.record(said{at: 1, ids: []string{"anonymous_id", "c", "user_id", "u1"}})
				}
			})
			order := func(a, b *customerv1.InteractionSummary) int {
				c := a.GetTime().AsTime().Compare(b.GetTime().AsTime())
				if c == 0 {
					c = int(a.GetSourceSequence()) - int(b.GetSourceSequence())
				}
				if oldestFirst {
					return c
				}
				return -c
			}
			require.True(t, slices.IsSortedFunc(got, order), "%v", got)
			seen := map[string]bool{}
			for _, line := range got {
				require.False(t, seen[line.GetEventId()], "twice")
				seen[line.GetEventId()] = true
				delete(was, line.GetEventId())
			}
			require.Empty(t, was, "missed")
		})
	}
}
