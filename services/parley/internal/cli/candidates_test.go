package cli_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// doubles is people of whom some may be the same.
type doubles struct {
	*people

	busy   int // so many questions come while it still searches
	lists  []*customerv1.ListMergeCandidatesRequest
	aparts []*customerv1.KeepCustomersApartRequest
	fits   []*customerv1.FitMatchModelRequest
	told   []*customerv1.FitMatchModelResponse
}

func (d *doubles) ListMergeCandidates(_ context.Context, req *customerv1.ListMergeCandidatesRequest) (*customerv1.ListMergeCandidatesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lists = append(d.lists, proto.CloneOf(req))
	if d.busy > 0 {
		d.busy--
		return nil, rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BEHIND, "the tenant's pairs are being searched for", rpcerr.WithRetryAfter(time.Millisecond))
	}
	if d.refuse != nil {
		return nil, d.refuse
	}
	resp := &customerv1.ListMergeCandidatesResponse{ModelEventId: newEvent}
	if req.GetCustomerId() == "" {
		resp.SearchedTime = at(13, 8)
	}
	if req.GetCustomerId() == id("noor") {
		return resp, nil
	}
	pairs := []*customerv1.MergeCandidate{
		{
			CustomerId: id("laptop"), OtherCustomerId: id("elif"), Probability: 0.99999, Weight: 31.4,
			Reasons: []*customerv1.MatchReason{
				{Field: "given", Level: "close", Weight: 6.1, Value: "Ada", OtherValue: "Adah"},
				{Field: "family", Level: "exact", Weight: 9.2, Value: "Byron", OtherValue: "Byron"},
				{Field: "birth_date", Level: "swapped", Weight: 12.3, Value: "1815-12-10", OtherValue: "1815-10-12"},
				{Field: "place", Level: "exact", Weight: 0.2, Value: "London", OtherValue: "London"},
				{Field: "email", Level: "different", Weight: -1.4, Value: "ada@example.com", OtherValue: "elif@example.com"},
				{Field: "household", Level: "exact", Weight: -2},
			},
		},
		{
			CustomerId: id("grace"), OtherCustomerId: id("gone"), Probability: 0.614, Weight: 15,
			Reasons: []*customerv1.MatchReason{
				{Field: "given", Level: "exact", Weight: 15, Value: "Grace\x1b[31m " + strings.Repeat("very ", 30), OtherValue: "Gräce"},
				{Field: "shoe_size", Level: "smelly", Weight: -0.7},
			},
		},
	}
	if req.GetPageToken() == "" {
		resp.Candidates, resp.NextPageToken = pairs[:1], "more"
	} else {
		resp.Candidates = pairs[1:]
	}
	return resp, nil
}

func (d *doubles) KeepCustomersApart(_ context.Context, req *customerv1.KeepCustomersApartRequest) (*customerv1.KeepCustomersApartResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aparts = append(d.aparts, req)
	return &customerv1.KeepCustomersApartResponse{EventId: newEvent, ConsistencyToken: newToken}, d.refuse
}

func (d *doubles) FitMatchModel(req *customerv1.FitMatchModelRequest, stream grpc.ServerStreamingServer[customerv1.FitMatchModelResponse]) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fits = append(d.fits, req)
	for _, p := range d.told {
		if err := stream.Send(p); err != nil {
			return err
		}
	}
	return d.refuse
}

func (d *doubles) serve(t *testing.T) []string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(s, d)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		// A command that asks nobody may be done before it serves.
		if err := <-ended; !errors.Is(err, grpc.ErrServerStopped) {
			require.NoError(t, err)
		}
	})
	return []string{"PARLEY_ADDR=" + listener.Addr().String()}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	d := &doubles{people: household(), busy: 2}
	addr := d.serve(t)
	all := runWith(t, "", addr, "customer", "candidates")
	require.Equal(t, cli.ExitDone, all.code, all.stderr)
	golden(t, "candidates", all.stdout)
	require.Len(t, d.lists, 4, "it waits while the server searches, and reads both pages")
	one := runWith(t, "", addr, "customer", "candidates", "ada@example.com", "--limit", "1", "--min-probability", "0.9")
	golden(t, "candidates_one", one.stdout)
	asked := d.lists[len(d.lists)-1]
	require.Equal(t, id("laptop"), asked.GetCustomerId())
	require.InDelta(t, 0.9, asked.GetMinProbability(), 0)
	require.EqualValues(t, 1, asked.GetPageSize())
	raw := runWith(t, "", addr, "customer", "candidates", "--limit", "0", "-o", "json")
	require.Equal(t, 2, strings.Count(raw.stdout, `"otherCustomerId"`))
	require.Contains(t, raw.stdout, `"level": "swapped"`)
	nobody := runWith(t, "", addr, "customer", "candidates", id("noor"))
	require.Equal(t, "Nobody who may be the same person is known.\n", nobody.stdout)
}

func TestKeepApart(t *testing.T) {
	t.Parallel()
	args := []string{"customer", "apart", "ada@example.com", "user_id:u-1011", "--reason", "Two sisters"}
	d := &doubles{people: household()}
	addr := d.serve(t)
	no := asking(t, addr, "\n", args...)
	require.Equal(t, cli.ExitFailed, no.code)
	require.Contains(t, no.stderr, "Are they two people? [y/N]")
	require.Contains(t, no.stderr, "Nothing was changed.")
	require.Empty(t, d.aparts)
	yes := asking(t, addr, "y\n", args...)
	require.Equal(t, cli.ExitDone, yes.code, yes.stderr)
	golden(t, "apart", yes.stdout)
	require.Equal(t, []string{id("laptop"), id("elif"), "Two sisters"},
		[]string{d.aparts[0].GetCustomerId(), d.aparts[0].GetOtherCustomerId(), d.aparts[0].GetReason()})
	require.Len(t, d.aparts[0].GetRequestId(), 36)
	raw := runWith(t, "", addr, append(slices.Clone(args), "-y", "-o", "json")...)
	require.Contains(t, raw.stdout, `"eventId": "`+newEvent+`"`)
	same := runWith(t, "", addr, "customer", "apart", id("laptop"), id("ada"), "--reason", "r", "-y")
	require.Equal(t, cli.ExitFailed, same.code)
	require.Contains(t, same.stderr, "takes him apart")
}

func TestFit(t *testing.T) {
	t.Parallel()
	step := func(phase customerv1.FitPhase, done float64, customers, candidates, linked int64) *customerv1.FitMatchModelResponse {
		return &customerv1.FitMatchModelResponse{Phase: phase, Done: done, Customers: customers, Candidates: candidates, Linked: linked}
	}
	last := step(customerv1.FitPhase_FIT_PHASE_DONE, 1, 12_000, 310, 25)
	last.ModelEventId = newEvent
	d := &doubles{people: household(), told: []*customerv1.FitMatchModelResponse{
		step(customerv1.FitPhase_FIT_PHASE_FITTING, 0, 0, 0, 0), step(customerv1.FitPhase_FIT_PHASE_FITTING, 0.4, 9_000, 0, 0),
		step(customerv1.FitPhase_FIT_PHASE_SEARCHING, 0.1, 12_000, 40, 0), step(customerv1.FitPhase_FIT_PHASE_LINKING, 0.5, 12_000, 310, 12), last,
	}}
	addr := d.serve(t)
	plain := runWith(t, "", addr, "identity", "fit", "--seed", "7", "--min-probability", "0.8", "--search-only")
	require.Equal(t, cli.ExitDone, plain.code, plain.stderr)
	golden(t, "fit", plain.stdout)
	require.Equal(t, "learning: 0 customers\nsearching: 10 %, 12000 customers, 40 pairs\nlinking: 50 %, 12 linked\n", plain.stderr)
	require.True(t, proto.Equal(&customerv1.FitMatchModelRequest{Seed: 7, MinProbability: 0.8, SearchOnly: true}, d.fits[0]))

	live := asking(t, addr, "", "identity", "fit")
	require.Equal(t, plain.stdout, live.stdout)
	require.NotContains(t, live.stderr, "\n")
	require.True(t, strings.HasSuffix(live.stderr, "\r\x1b[K"), "the line is gone at the end: %q", live.stderr)
	raw := runWith(t, "", addr, "identity", "fit", "-o", "json")
	require.Contains(t, raw.stdout, `"linked": "25"`)

	d.told = d.told[:2]
	cut := runWith(t, "", addr, "identity", "fit")
	require.Equal(t, cli.ExitFailed, cut.code)
	require.Contains(t, cut.stderr, "before it was done")
}

func TestCandidateRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args   []string
		refuse error
		code   int
		want   string
	}{
		"no model":        {[]string{"customer", "candidates"}, rpcerr.New(codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL, "no model"), cli.ExitFailed, "`parley identity fit`"},
		"too little":      {[]string{"identity", "fit"}, rpcerr.New(codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL, "too little"), cli.ExitFailed, "too little"},
		"another running": {[]string{"identity", "fit"}, rpcerr.New(codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE, "another"), cli.ExitFailed, "goes on by itself"},
		"never done": {
			[]string{"customer", "candidates", "--timeout", "1s"},
			rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BEHIND, "still searching", rpcerr.WithRetryAfter(time.Hour)), cli.ExitFailed, "Try again in 1h0m0s",
		},
		"a probability":   {[]string{"customer", "candidates", "--min-probability", "2"}, nil, cli.ExitUsage, "want 0 to 1"},
		"no probability":  {[]string{"identity", "fit", "--min-probability", "NaN"}, nil, cli.ExitUsage, "want 0 to 1"},
		"a limit":         {[]string{"customer", "candidates", "--limit", "-1"}, nil, cli.ExitUsage, "--limit -1"},
		"two names":       {[]string{"customer", "candidates", "a", "b"}, nil, cli.ExitUsage, "name one customer"},
		"one name":        {[]string{"customer", "apart", "a"}, nil, cli.ExitUsage, "name two customers"},
		"no reason":       {[]string{"customer", "apart", "a", "b"}, nil, cli.ExitUsage, "--reason"},
		"nobody":          {[]string{"customer", "candidates", "nobody@example.com"}, nil, cli.ExitFailed, "nobody has the email"},
		"nobody to apart": {[]string{"customer", "apart", id("ada"), "x", "--reason", "r", "-y"}, nil, cli.ExitFailed, "CUSTOMER_NOT_FOUND"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &doubles{people: household()}
			d.refuse = tc.refuse
			r := runWith(t, "", d.serve(t), tc.args...)
			require.Equal(t, tc.code, r.code, r.stderr)
			require.Contains(t, r.stderr, tc.want)
		})
	}
}
