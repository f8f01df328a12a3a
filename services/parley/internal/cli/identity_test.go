package cli_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// people is a CustomerService with a few customers who stay as they are: what
// it is asked to decide it notes and answers.
type people struct {
	customerv1.UnimplementedCustomerServiceServer

	mu        sync.Mutex
	customers []*customerv1.Customer
	claims    map[string][]*customerv1.CustomerClaim
	graphs    map[string]*customerv1.ExplainIdentityResponse
	rules     *customerv1.GetIdentityRulesResponse
	stale     int // so many updates of the rules meet others
	refuse    error
	merges    []*customerv1.MergeCustomersRequest
	splits    []*customerv1.SplitCustomerRequest
	updates   []*customerv1.UpdateIdentityRulesRequest
}

func (p *people) customer(id string) (*customerv1.Customer, error) {
	for _, c := range p.customers {
		if c.GetCustomerId() == id || slices.Contains(c.GetProfileIds(), id) {
			return c, nil
		}
	}
	return nil, rpcerr.New(codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, "no customer has this id")
}

func (p *people) GetCustomer(_ context.Context, req *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
	c, err := p.customer(req.GetCustomerId())
	if err != nil {
		return nil, err
	}
	resp := &customerv1.GetCustomerResponse{Customer: c}
	if req.GetIncludeClaims() {
		resp.Claims = p.claims[c.GetCustomerId()]
	}
	return resp, nil
}

func (p *people) LookupCustomer(_ context.Context, req *customerv1.LookupCustomerRequest) (*customerv1.LookupCustomerResponse, error) {
	resp := &customerv1.LookupCustomerResponse{}
	for _, c := range p.customers {
		for _, i := range c.GetIdentifiers() {
			if i.GetKind() == req.GetKind() && i.GetValue() == req.GetValue() {
				resp.Matches = append(resp.Matches, &customerv1.CustomerMatch{Customer: c, Strength: i.GetStrength()})
			}
		}
	}
	return resp, nil
}

func (p *people) BatchGetCustomers(_ context.Context, req *customerv1.BatchGetCustomersRequest) (*customerv1.BatchGetCustomersResponse, error) {
	resp := &customerv1.BatchGetCustomersResponse{}
	for _, id := range req.GetCustomerIds() {
		if c, err := p.customer(id); err == nil {
			resp.Customers = append(resp.Customers, c)
		} else {
			resp.MissingIds = append(resp.MissingIds, id)
		}
	}
	return resp, nil
}

func (p *people) ExplainIdentity(_ context.Context, req *customerv1.ExplainIdentityRequest) (*customerv1.ExplainIdentityResponse, error) {
	if g := p.graphs[req.GetCustomerId()]; g != nil {
		return g, nil
	}
	return nil, rpcerr.New(codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, "no customer has this id")
}

const (
	newEvent = "0190a6d8-1f2e-8c3b-9d4e-5f6071829304"
	newToken = "Eaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

func (p *people) MergeCustomers(_ context.Context, req *customerv1.MergeCustomersRequest) (*customerv1.MergeCustomersResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.merges = append(p.merges, req)
	return &customerv1.MergeCustomersResponse{
		CustomerId: req.GetCustomerId(), AbsorbedCustomerId: req.GetOtherCustomerId(), EventId: newEvent, ConsistencyToken: newToken,
	}, p.refuse
}

func (p *people) SplitCustomer(_ context.Context, req *customerv1.SplitCustomerRequest) (*customerv1.SplitCustomerResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.splits = append(p.splits, req)
	return &customerv1.SplitCustomerResponse{
		CustomerId: req.GetCustomerId(), NewCustomerId: id("elif"), EventId: newEvent, ConsistencyToken: newToken,
	}, p.refuse
}

func (p *people) GetIdentityRules(context.Context, *customerv1.GetIdentityRulesRequest) (*customerv1.GetIdentityRulesResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return proto.CloneOf(p.rules), nil
}

func (p *people) UpdateIdentityRules(_ context.Context, req *customerv1.UpdateIdentityRulesRequest) (*customerv1.UpdateIdentityRulesResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stale > 0 { // somebody else is faster
		p.stale--
		p.rules.EventId = fmt.Sprintf("00000000-0000-4000-8000-%012d", p.stale)
	}
	if req.GetFollowsEventId() != p.rules.GetEventId() {
		return nil, rpcerr.New(codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE, "The rules were changed since.")
	}
	p.updates = append(p.updates, req)
	p.rules.Rules, p.rules.EventId = req.GetRules(), newEvent
	return &customerv1.UpdateIdentityRulesResponse{EventId: newEvent, ConsistencyToken: newToken}, nil
}

// serve serves it until the test ends and returns where.
func (p *people) serve(t *testing.T) []string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(s, p)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-ended)
	})
	return []string{"PARLEY_ADDR=" + listener.Addr().String()}
}

// id looks like a profile's, the same for the same name.
func id(name string) string {
	return (name + strings.Repeat("2345672", 4))[:26]
}

func eventID(n int) string { return fmt.Sprintf("%08x-f4f8-8d20-8a63-02df8ab9dcc5", 0x4f681b00+n) }

func at(day, hour int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2026, 3, day, hour, 7, 0, 0, time.UTC))
}

func profile(name, kind, value string, strength eventv1.IdentifierStrength) *customerv1.ExplainedProfile {
	return &customerv1.ExplainedProfile{
		ProfileId: id(name), Kind: kind, Value: value, Strength: strength,
		FirstSeenTime: at(10, 8), LastSeenTime: at(12, 19), EventCount: 12,
	}
}

const (
	weak   = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_WEAK
	strong = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_STRONG
	unique = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_UNIQUE
)

func link(one, other string, n int) *customerv1.ExplainedLink {
	return &customerv1.ExplainedLink{
		EventId: eventID(100 + n), ProfileId: id(one), OtherProfileId: id(other), InForce: true,
		Rule: eventv1.LinkRule_LINK_RULE_SAME_EVENT, Reason: "One event named both as the customer's.",
		EvidenceEventId: eventID(n), EvidenceTime: at(10, 8+n),
	}
}

// household is Ada with what may happen to a customer, and others.
func household() *people {
	ada := &customerv1.ExplainIdentityResponse{
		CustomerId: id("laptop"),
		Profiles: []*customerv1.ExplainedProfile{
			profile("laptop", "anonymous_id", "b-ada-laptop", weak),
			profile("ada", "user_id", "u-1001", unique),
			profile("adamail", "email", "ada@example.com", strong),
			profile("adaphone", "phone", "+436601234567", strong),
			profile("elif", "user_id", "u-1011", unique),
			profile("elifmail", "email", "elif.demir@example.com", strong),
			profile("tablet", "anonymous_id", "b-tablet", weak),
			{ProfileId: id("nameless")},
		},
		Decisions: []*customerv1.IdentityDecision{
			{
				EventId: eventID(200), Action: customerv1.IdentityAction_IDENTITY_ACTION_MERGED, Rule: eventv1.GroupingRule_GROUPING_RULE_LINKED,
				CustomerId: id("laptop"), OtherCustomerId: id("ada"), ProfileIds: []string{id("ada"), id("adamail")}, Time: at(10, 9), EvidenceEventId: eventID(1),
			},
			{
				EventId: eventID(201), Action: customerv1.IdentityAction_IDENTITY_ACTION_SHARED, Rule: eventv1.GroupingRule_GROUPING_RULE_SHARED,
				ProfileIds: []string{id("tablet")}, Time: at(11, 9), Reason: "It was seen with 6 user ids.",
			},
			{
				EventId: eventID(202), Action: customerv1.IdentityAction_IDENTITY_ACTION_MERGED, Rule: eventv1.GroupingRule_GROUPING_RULE_DECIDED,
				CustomerId: id("laptop"), OtherCustomerId: id("elif"), ProfileIds: []string{id("elif"), id("elifmail")}, Time: at(12, 9),
				Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: "anna"}, Reason: "Called from home, the same person.",
			},
			{
				EventId: eventID(203), Action: customerv1.IdentityAction_IDENTITY_ACTION_SPLIT, Rule: eventv1.GroupingRule_GROUPING_RULE_DECIDED,
				CustomerId: id("laptop"), OtherCustomerId: id("grace"), ProfileIds: []string{id("grace")}, Time: at(13, 8),
				Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: "bert"}, Reason: "Her \"sister\".",
			},
			{
				EventId: eventID(204), Action: customerv1.IdentityAction_IDENTITY_ACTION_SPLIT, Rule: eventv1.GroupingRule_GROUPING_RULE_SHARED,
				CustomerId: id("laptop"), OtherCustomerId: id("kiosk"), ProfileIds: []string{id("kiosk")}, Time: at(13, 8), Reason: "An identifier that joined them is shared.",
			},
		},
		Claims: []*customerv1.CustomerClaim{
			{CustomerId: id("claim"), Kind: "email", Value: "ada@example.com", InteractionCount: 3, LastSeenTime: at(12, 18)},
			{CustomerId: id("caller"), Kind: "phone", Value: "+436601234567", InteractionCount: 1, LastSeenTime: at(12, 20)},
		},
	}
	probable := link("elif", "elifmail", 4)
	probable.Rule, probable.Probability = eventv1.LinkRule_LINK_RULE_PROBABILISTIC, 0.973
	refused := link("ada", "noor", 5)
	refused.InForce, refused.OtherCustomerId = false, id("noor")
	refused.Refusal, refused.Reason = eventv1.LinkRefusal_LINK_REFUSAL_TWO_USER_IDS, "Each side has a user_id, and the two differ: they stay two customers."
	lost := link("grace", "adamail", 6)
	lost.InForce, lost.OtherCustomerId = false, id("grace")
	overruled := link("elif", "ada", 7)
	overruled.Refusal, overruled.Reason = eventv1.LinkRefusal_LINK_REFUSAL_TWO_USER_IDS, "Each side has a user_id, and the two differ: they stay two customers."
	ada.Links = []*customerv1.ExplainedLink{
		link("ada", "laptop", 0), link("ada", "adamail", 1), link("ada", "adaphone", 2), link("adamail", "adaphone", 3),
		probable, refused, lost, overruled,
	}
	ada.Profiles[6].Shared = true

	identifier := func(kind, value string, strength eventv1.IdentifierStrength) *customerv1.CustomerIdentifier {
		return &customerv1.CustomerIdentifier{
			Kind: kind, Value: value, Strength: strength, FirstSeenTime: at(10, 8), LastSeenTime: at(12, 19), EventCount: 12,
		}
	}
	unchecked, claimed := identifier("email", "a.byron@example.org", strong), identifier("email", "countess@example.net", strong)
	unchecked.Assurance = eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNCHECKED
	claimed.Assurance = eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED
	mail := func(n int, verdict eventv1.AuthenticationVerdict) *customerv1.InteractionSummary {
		return &customerv1.InteractionSummary{
			EventId: eventID(n), Type: "parley.email.received", Time: at(12, n), Channel: "email",
			Direction: eventv1.Direction_DIRECTION_INBOUND, Summary: "Where is my grinder?", Authentication: verdict,
		}
	}
	return &people{
		customers: []*customerv1.Customer{
			{
				CustomerId: id("laptop"), ProfileIds: []string{id("laptop"), id("ada")}, DisplayName: "Ada Byron", InteractionCount: 25,
				FirstSeenTime: at(10, 8), LastSeenTime: at(12, 19),
				Identifiers: []*customerv1.CustomerIdentifier{
					identifier("user_id", "u-1001", unique), identifier("email", "ada@example.com", strong), unchecked, claimed, identifier("anonymous_id", "b-ada-laptop", weak),
				},
				RecentInteractions: []*customerv1.InteractionSummary{
					mail(9, eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_PASS), mail(8, eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_NONE),
					mail(7, eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_FAIL),
				},
			},
			{
				CustomerId: id("elif"), ProfileIds: []string{id("elif")}, DisplayName: "Elif Demir", InteractionCount: 15, LastSeenTime: at(12, 21),
				Identifiers: []*customerv1.CustomerIdentifier{identifier("user_id", "u-1011", unique), identifier("anonymous_id", "b-family", weak)},
			},
			{
				CustomerId: id("noor"), ProfileIds: []string{id("noor")}, DisplayName: "Noor\x1b[31m Haddad", InteractionCount: 6, LastSeenTime: at(12, 18),
				Identifiers: []*customerv1.CustomerIdentifier{identifier("anonymous_id", "b-family", weak), identifier("handle:whatsapp", "436601", strong)},
			},
			{CustomerId: id("grace"), ProfileIds: []string{id("grace")}, DisplayName: "Grace Hopper"},
		},
		claims: map[string][]*customerv1.CustomerClaim{id("laptop"): ada.GetClaims()},
		graphs: map[string]*customerv1.ExplainIdentityResponse{id("laptop"): ada, id("elif"): hub(), id("noor"): wide(), id("grace"): {
			CustomerId: id("grace"), Profiles: []*customerv1.ExplainedProfile{
				profile("grace", "user_id", "u-1", unique), profile("graceful1", "anonymous_id", "b-1", weak), profile("graceful2", "anonymous_id", "b-2", weak),
			},
		}},
		rules: &customerv1.GetIdentityRulesResponse{Rules: defaultRules()},
	}
}

func defaultRules() *eventv1.IdentityRules {
	r := identity.DefaultRules()
	r.SharedLocalParts = r.SharedLocalParts[:30]
	return r.Proto()
}

// hub is a user with a thousand browsers.
func hub() *customerv1.ExplainIdentityResponse {
	g := &customerv1.ExplainIdentityResponse{CustomerId: id("elif"), Truncated: true}
	g.Profiles = append(g.Profiles, profile("elif", "user_id", "u-1011", unique))
	for i := 1; i < 1000; i++ {
		name := fmt.Sprintf("b%d", i)
		g.Profiles = append(g.Profiles, profile(name, "anonymous_id", name, weak))
		l := link("elif", name, 0)
		l.EventId = eventID(i)
		g.Links = append(g.Links, l)
		refused := link(name, "noor", 1)
		refused.InForce, refused.Refusal, refused.OtherCustomerId = false, eventv1.LinkRefusal_LINK_REFUSAL_DECIDED, id("noor")
		g.Links = append(g.Links, refused)
		g.Decisions = append(g.Decisions, &customerv1.IdentityDecision{
			EventId: eventID(i), Action: customerv1.IdentityAction_IDENTITY_ACTION_MERGED, Rule: eventv1.GroupingRule_GROUPING_RULE_LINKED,
			CustomerId: id("elif"), OtherCustomerId: id(name), ProfileIds: []string{id(name)}, Time: at(10, 9), EvidenceEventId: eventID(i),
		})
	}
	return g
}

// wide is a chain with letters of two columns, deeper than a tree is drawn.
func wide() *customerv1.ExplainIdentityResponse {
	g := &customerv1.ExplainIdentityResponse{CustomerId: id("noor")}
	g.Profiles = append(g.Profiles, profile("c0", "handle:line", "山田太郎", strong))
	for i := 1; i < 200; i++ {
		name := fmt.Sprintf("c%d", i)
		g.Profiles = append(g.Profiles, profile(name, "handle:line", name, strong))
		g.Links = append(g.Links, link(fmt.Sprintf("c%d", i-1), name, 0))
	}
	return g
}

func TestExplain(t *testing.T) {
	t.Parallel()
	addr := household().serve(t)
	utf8 := append(slices.Clone(addr), "LANG=de_AT.UTF-8")
	for name, tc := range map[string]struct {
		env  []string
		args []string
	}{
		"explain":         {utf8, []string{"ada@example.com"}},
		"explain_80":      {append(slices.Clone(utf8), "COLUMNS=80"), []string{"--id", id("ada")}},
		"explain_40":      {append(slices.Clone(utf8), "COLUMNS=1"), []string{"user-id:u-1001"}},
		"explain_ascii":   {append(slices.Clone(utf8), "LC_ALL=C"), []string{"user_id:u-1001"}},
		"explain_few":     {utf8, []string{"ada@example.com", "--limit", "2"}},
		"explain_hub":     {utf8, []string{id("elif")}},
		"explain_chain":   {append(slices.Clone(utf8), "COLUMNS=100"), []string{"handle:whatsapp:436601", "--limit", "5"}},
		"explain_json":    {utf8, []string{"ada@example.com", "-o", "json"}},
		"customer_claims": {utf8, nil},
	} {
		args := append([]string{"customer", "explain"}, tc.args...)
		if tc.args == nil {
			args = []string{"customer", "get", "--email", "ada@example.com"}
		}
		r := runWith(t, "", tc.env, args...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stderr, name)
		golden(t, name, r.stdout)
	}
	byID := runWith(t, "", utf8, "customer", "get", "--id", id("ada"))
	byMail := runWith(t, "", utf8, "customer", "get", "--email", "ada@example.com")
	require.Equal(t, byMail.stdout, byID.stdout, "claims are told either way")

	several := runWith(t, "", utf8, "customer", "explain", "anonymous_id:b-family", "-o", "json")
	require.Equal(t, cli.ExitDone, several.code, several.stderr)
	require.Contains(t, several.stderr, "2 customers have the anonymous id b-family")
	require.True(t, json.Valid([]byte(several.stdout)), "what is told beside it stays out of the output")
}

// TestExplainDrawsEveryProfileOnce whatever the links are.
func TestExplainDrawsEveryProfileOnce(t *testing.T) {
	t.Parallel()
	p := household()
	addr := append(p.serve(t), "LC_CTYPE=C.UTF-8", "LANG=C")
	for name, links := range map[string][]*customerv1.ExplainedLink{
		"none":     nil,
		"circle":   {link("n0", "n1", 0), link("n1", "n2", 0), link("n2", "n0", 0)},
		"itself":   {link("n1", "n1", 0)},
		"unknown":  {link("n0", "elsewhere", 0), link("nowhere", "elsewhere", 0)},
		"doubled":  {link("n0", "n1", 0), link("n1", "n0", 1)},
		"backward": {link("n28", "n29", 0), link("n29", "n27", 0), link("n27", "n0", 0)},
	} {
		g := &customerv1.ExplainIdentityResponse{CustomerId: id("n0"), Links: links}
		for i := range 30 {
			g.Profiles = append(g.Profiles, profile(fmt.Sprintf("n%d", i), "anonymous_id", fmt.Sprintf("value-%d-", i), weak))
		}
		g.Profiles = append(g.Profiles, g.GetProfiles()[3])
		p.mu.Lock()
		p.graphs[id("grace")] = g
		p.mu.Unlock()
		r := runWith(t, "", addr, "customer", "explain", id("grace"), "--limit", "0")
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		tree, _, _ := strings.Cut(r.stdout, "Links not in force")
		for i := range 30 {
			require.Equal(t, 1, strings.Count(tree, fmt.Sprintf("value-%d-", i)), "%s: %d\n%s", name, i, tree)
		}
		require.NotContains(t, r.stdout, " more; -o json has all", name)
		require.Contains(t, r.stdout, "├── ", "LC_CTYPE counts before LANG")
	}
}

// asking runs a command on a terminal where somebody types an answer.
func asking(t *testing.T, environ []string, answer string, args ...string) result {
	t.Helper()
	var stdout, stderr syncBuffer
	app := &cli.App{
		Stdin: strings.NewReader(answer), Stdout: &stdout, Stderr: &stderr, Environ: environ,
		Now: clock, Location: time.UTC, Random: rand.Reader, Terminal: true,
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	return result{code: app.Run(ctx, args), stdout: stdout.String(), stderr: stderr.String()}
}

func TestMergeAndSplit(t *testing.T) {
	t.Parallel()
	merge := []string{"customer", "merge", "ada@example.com", "user_id:u-1011", "--reason", "  Same person  "}
	undo := []string{"customer", "split", "ada@example.com", "--undo", eventID(202), "--reason", "Two sisters"}
	profiles := []string{"customer", "split", id("laptop"), "--profiles", "email:ada@example.com," + id("adaphone")[:8] + "," + id("laptop"), "--reason", "Two sisters"}
	for name, args := range map[string][]string{"merge": merge, "split_undo": undo, "split_profiles": profiles} {
		p := household()
		addr := p.serve(t)
		decisions := func() int {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.merges) + len(p.splits)
		}
		for _, answer := range []string{"", "\n", "n\n", "maybe\n", strings.Repeat("y", 1000)} {
			r := asking(t, addr, answer, args...)
			require.Equal(t, cli.ExitFailed, r.code, name)
			require.Contains(t, r.stderr, "Nothing was changed.")
			require.Empty(t, r.stdout)
			require.Zero(t, decisions(), "%s: %q is no yes", name, answer)
		}
		r := asking(t, addr, "Yes\nrest", args...)
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		require.Equal(t, 1, decisions())
		require.Equal(t, 1, strings.Count(r.stderr, "[y/N]"), "asks once")
		golden(t, name+"_asked", r.stderr)
		golden(t, name, r.stdout)

		quiet := runWith(t, "", addr, append(slices.Clone(args), "--yes")...)
		require.Equal(t, cli.ExitDone, quiet.code, quiet.stderr)
		require.Equal(t, r.stdout, quiet.stdout)
		require.Empty(t, quiet.stderr, "--yes neither asks nor shows")

		raw := runWith(t, "", addr, append(slices.Clone(args), "-y", "-o", "json")...)
		require.Equal(t, cli.ExitDone, raw.code, raw.stderr)
		require.Contains(t, raw.stdout, `"eventId": "`+newEvent+`"`)

		p.mu.Lock()
		for _, m := range p.merges {
			require.Equal(t, "Same person", m.GetReason())
			require.Equal(t, []string{id("laptop"), id("elif")}, []string{m.GetCustomerId(), m.GetOtherCustomerId()})
			require.Len(t, m.GetRequestId(), 36)
		}
		for _, s := range p.splits {
			require.Equal(t, "Two sisters", s.GetReason())
			require.Equal(t, id("laptop"), s.GetCustomerId())
			require.NotEqual(t, s.GetUndoMergeEventId() == "", len(s.GetProfileIds()) == 0)
			if s.GetUndoMergeEventId() == "" {
				require.Equal(t, []string{id("adamail"), id("adaphone"), id("laptop")}, s.GetProfileIds())
			}
			require.Len(t, s.GetRequestId(), 36)
		}
		p.mu.Unlock()
	}
}

// TestUndoCommandsReachTheSameServer: they can be pasted as they are.
func TestUndoCommandsReachTheSameServer(t *testing.T) {
	t.Parallel()
	addr := household().serve(t)
	_, host, _ := strings.Cut(addr[0], "=")
	args := []string{"customer", "merge", id("laptop"), id("elif"), "--reason", "r", "--yes"}
	byFlag := runWith(t, "", nil, append(slices.Clone(args), "--addr", host)...)
	require.Equal(t, cli.ExitDone, byFlag.code, byFlag.stderr)
	require.Contains(t, byFlag.stdout, `--reason "why it was wrong" --addr=`+host+"\n")
	byEnv := runWith(t, "", addr, args...)
	require.NotContains(t, byEnv.stdout, "--addr")
	r := runWith(t, "", nil, "customer", "explain", id("laptop"), "--addr", host)
	require.Contains(t, r.stdout, "--addr="+host)
}

// TestSentAgain leaves to the server what may be done already.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	p := household()
	addr := p.serve(t)
	const request = "1f0c2f0e-6f0a-4b8e-9a55-0d6a3f6f1c11"
	for _, args := range [][]string{
		{"customer", "merge", id("laptop"), id("ada"), "--request-id", request},
		{"customer", "split", id("laptop"), "--profiles", id("grace"), "--request-id", request},
		{"customer", "split", id("laptop"), "--undo", newEvent},
	} {
		r := runWith(t, "", addr, append(args, "--yes", "--reason", "r")...)
		require.Equal(t, cli.ExitDone, r.code, "%v: %s", args, r.stderr)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Equal(t, request, p.merges[0].GetRequestId())
	require.Equal(t, request, p.splits[0].GetRequestId())
	require.Equal(t, []string{id("grace")}, p.splits[0].GetProfileIds())
	require.Equal(t, newEvent, p.splits[1].GetUndoMergeEventId())
}

func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	p := household()
	addr := p.serve(t)
	in, typing, err := os.Pipe()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var stderr syncBuffer
	app := &cli.App{
		Stdin: struct{ *os.File }{in}, Stdout: &syncBuffer{}, Stderr: &stderr, Environ: addr,
		Now: clock, Location: time.UTC, Random: rand.Reader, Terminal: true,
	}
	code := make(chan int, 1)
	go func() { code <- app.Run(ctx, []string{"customer", "merge", id("laptop"), id("elif"), "--reason", "r"}) }()
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "[y/N]") }, deadline, time.Millisecond)
	cancel()
	require.Equal(t, cli.ExitFailed, <-code)
	require.Contains(t, stderr.String(), "Nothing was changed.")
	require.NoError(t, typing.Close()) // lets the reader go
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.merges)
}

func TestIdentityRefusals(t *testing.T) {
	t.Parallel()
	refused := func(code codes.Code, reason errorv1.Reason) error {
		return rpcerr.New(code, reason, "The server says so.")
	}
	merge := []string{"customer", "merge", id("laptop"), id("elif")}
	split := []string{"customer", "split", id("laptop"), "--profiles", id("ada")}
	for name, tc := range map[string]struct {
		args   []string
		refuse error
		want   []string
	}{
		"same":        {merge, refused(codes.FailedPrecondition, errorv1.Reason_REASON_SAME_CUSTOMER), []string{"The server says so. (SAME_CUSTOMER)", "nothing to merge"}},
		"large":       {merge, refused(codes.FailedPrecondition, errorv1.Reason_REASON_CUSTOMER_TOO_LARGE), []string{"parley identity block"}},
		"profile":     {split, refused(codes.FailedPrecondition, errorv1.Reason_REASON_NOT_A_PROFILE_OF_CUSTOMER), []string{"which profiles he has now"}},
		"nothing":     {split, refused(codes.FailedPrecondition, errorv1.Reason_REASON_NOTHING_TO_SPLIT), []string{"some must stay"}},
		"lost":        {merge, refused(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE), []string{"is not known", "--request-id "}},
		"lost split":  {split, refused(codes.DeadlineExceeded, errorv1.Reason_REASON_UNSPECIFIED), []string{"--timeout", "is not known", "--request-id "}},
		"not allowed": {merge, refused(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED), []string{"NOT_ALLOWED"}},
		"themselves":  {[]string{"customer", "merge", id("laptop"), id("ada")}, nil, []string{"both are customer " + id("laptop") + " already"}},
		"nobody":      {[]string{"customer", "merge", id("laptop"), "nobody@example.com"}, nil, []string{"nobody has the email nobody@example.com"}},
		"several": {[]string{"customer", "merge", id("laptop"), "anonymous_id:b-family"}, nil, []string{
			"2 customers have the anonymous id b-family", id("elif") + "  Elif Demir", "Noor·[31m Haddad",
		}},
		"several split":  {[]string{"customer", "split", "--anonymous-id", "b-family", "--undo", newEvent}, nil, []string{"2 customers have"}},
		"no profile":     {[]string{"customer", "split", id("laptop"), "--profiles", "email:grace@example.com"}, nil, []string{"has no profile email:grace@example.com"}},
		"too short":      {[]string{"customer", "split", id("laptop"), "--profiles", "ada"}, nil, []string{"has no profile ada;"}},
		"ambiguous":      {[]string{"customer", "split", id("grace"), "--profiles", "graceful"}, nil, []string{"graceful is the beginning of 2 profiles"}},
		"everything":     {[]string{"customer", "split", id("noor"), "--profiles", all(wide())}, nil, []string{"of the 200 profiles", "200 would leave: there is nothing to split"}},
		"explain nobody": {[]string{"customer", "explain", "x"}, nil, []string{"CUSTOMER_NOT_FOUND"}},
	} {
		p := household()
		p.refuse = tc.refuse
		args := tc.args
		if args[1] != "explain" {
			args = append(slices.Clone(args), "--reason", "r", "--yes")
		}
		r := runWith(t, "", p.serve(t), args...)
		require.Equal(t, cli.ExitFailed, r.code, "%s: %s", name, r.stderr)
		for _, want := range tc.want {
			require.Contains(t, r.stderr, want, name)
		}
		require.NotContains(t, r.stderr, "\x1b", name)
		require.Empty(t, r.stdout, name)
		if tc.refuse == nil {
			p.mu.Lock()
			require.Empty(t, p.merges, name)
			require.Empty(t, p.splits, name)
			p.mu.Unlock()
		}
	}
	unread := asking(t, household().serve(t), "y\n", "customer", "split", id("laptop"), "--undo", newEvent, "--reason", "r")
	require.Equal(t, cli.ExitFailed, unread.code)
	require.Contains(t, unread.stderr, "no merge of customer "+id("laptop"))
}

func all(g *customerv1.ExplainIdentityResponse) string {
	var ids []string
	for _, p := range g.GetProfiles() {
		ids = append(ids, p.GetProfileId())
	}
	return strings.Join(ids, ",")
}

func TestIdentityUsage(t *testing.T) {
	t.Parallel()
	merge := []string{"customer", "merge", "a", "b", "--reason", "r"}
	split := []string{"customer", "split", "a", "--reason", "r", "--yes"}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{merge, "--yes does it without asking"},
		{[]string{"customer", "merge", "a", "--reason", "r"}, "name two customers"},
		{[]string{"customer", "merge", "a", " ", "--reason", "r"}, "name a customer"},
		{[]string{"customer", "merge", "a", "b", "--yes"}, "--reason: say why"},
		{[]string{"customer", "merge", "a", "b", "--yes", "--reason", " "}, "--reason: say why"},
		{[]string{"customer", "merge", "a", "b", "--yes", "--reason", strings.Repeat("ü", 513)}, "513 characters, the most are 512"},
		{append(slices.Clone(merge), "--request-id", "again"), "--request-id again: want a UUID"},
		{[]string{"customer", "merge", "a", "handle:whatsapp", "--reason", "r"}, "a handle has a provider"},
		{[]string{"customer", "merge", "a", "E Mail:x", "--reason", "r"}, "want kind:value"},
		{[]string{"customer", "merge", "a", "email:", "--reason", "r"}, "want kind:value"},
		{[]string{"customer", "merge", "a", strings.Repeat("a", 65), "--reason", "r"}, "no id is longer than 64"},
		{split, "say who leaves"},
		{append(slices.Clone(split), "--profiles", " , "), "say who leaves"},
		{append(slices.Clone(split), "--profiles", "p", "--undo", newEvent), "say who leaves"},
		{append(slices.Clone(split), "--undo", "the last one"), "want the id of a merge's event"},
		{append(slices.Clone(split), "--profiles", all(chain(10_001))), "10001 are more than the 10000"},
		{append(slices.Clone(split), "b", "--profiles", "p"), "name one customer, once"},
		{append(slices.Clone(split), "--email", "a@b.c", "--profiles", "p"), "name one customer, once"},
		{[]string{"customer", "split", "--profiles", "p", "--reason", "r"}, "name the customer"},
		{[]string{"customer", "split", "a", "--profiles", "p", "--reason", "r"}, "--yes does it without asking"},
		{[]string{"customer", "explain"}, "name the customer"},
		{[]string{"customer", "explain", "a", "b"}, "name one customer, once"},
		{[]string{"customer", "explain", "--email", "a@b.c", "--phone", "+43"}, "name the customer by one of"},
		{[]string{"customer", "explain", "a", "--limit", "-1"}, "--limit -1"},
		{[]string{"identity", "rules", "sett"}, `did you mean "get" or "set"?`},
		{[]string{"identity", "rules", "get", "x"}, "takes no arguments"},
		{[]string{"identity", "rules", "set", "--reason", "r"}, "--file: name the file"},
		{[]string{"identity", "rules", "set", "--file", "-"}, "--reason"},
		{[]string{"identity", "rules", "set", "--file", "-", "--reason", "r"}, "--yes does it without asking"},
		{[]string{"identity", "rules", "set", "--file", "/nowhere/at/all", "--reason", "r", "--yes"}, "no such file"},
		{[]string{"identity", "block", "--reason", "r"}, "name the identifiers"},
		{[]string{"identity", "block", "acme", "--reason", "r"}, "want kind:value"},
		{[]string{"identity", "block", "phone:+43"}, "--reason"},
		{[]string{"identity", "unblock", "--reason", "r"}, "name the identifiers"},
	} {
		r := run(t, tc.args...)
		require.Equal(t, cli.ExitUsage, r.code, "%v: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.want, "%v", tc.args)
		require.Contains(t, r.stderr, "--help` says how it is used", "%v", tc.args)
		require.Empty(t, r.stdout, "%v", tc.args)
	}
	// A file is no terminal, whatever standard error is.
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer func() { require.NoError(t, null.Close()) }()
	var stderr syncBuffer
	app := &cli.App{
		Stdin: null, Stdout: &syncBuffer{}, Stderr: &stderr, Now: clock, Location: time.UTC, Random: rand.Reader, Terminal: true,
	}
	require.Equal(t, cli.ExitUsage, app.Run(t.Context(), merge))
	require.Contains(t, stderr.String(), "--yes does it without asking")

	set := asking(t, nil, "{}", "identity", "rules", "set", "--file", "-", "--reason", "r")
	require.Equal(t, cli.ExitUsage, set.code)
	require.Contains(t, set.stderr, "standard input has the rules")

	for _, args := range [][]string{{"customer", "merge"}, {"customer", "split"}, {"customer", "explain"}, {"identity", "rules", "set"}, {"identity", "block"}} {
		help := run(t, append(args, "--help")...)
		require.Equal(t, cli.ExitDone, help.code)
		require.Contains(t, help.stdout, "Examples:", args)
	}
}

// chain is a customer of n profiles, each linked with the one before.
func chain(n int) *customerv1.ExplainIdentityResponse {
	g := &customerv1.ExplainIdentityResponse{CustomerId: id("c0")}
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		g.Profiles = append(g.Profiles, &customerv1.ExplainedProfile{ProfileId: id(name), Kind: "anonymous_id", Value: name})
		if i > 0 {
			g.Links = append(g.Links, link(fmt.Sprintf("c%d", i-1), name, 0))
		}
	}
	return g
}

// TestExplainIsBounded: the largest customer, all of him, is still drawn.
func TestExplainIsBounded(t *testing.T) {
	t.Parallel()
	p := household()
	p.graphs[id("grace")] = chain(10_000)
	r := runWith(t, "", p.serve(t), "customer", "explain", id("grace"), "--limit", "0")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "... and 9968 more; -o json has all")
	longest := slices.MaxFunc(strings.Split(r.stdout, "\n"), func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	require.Less(t, len(longest), 300)
}

func TestRules(t *testing.T) {
	t.Parallel()
	p := household()
	addr := p.serve(t)
	golden(t, "rules_get", runWith(t, "", addr, "identity", "rules", "get").stdout)

	whole := runWith(t, "", addr, "identity", "rules", "get", "-o", "json")
	require.Equal(t, cli.ExitDone, whole.code, whole.stderr)
	file := filepath.Join(t.TempDir(), "rules.json")
	require.NoError(t, os.WriteFile(file, []byte(whole.stdout), 0o600))
	set := []string{"identity", "rules", "set", "--file", file, "--reason", "Families share phones"}
	same := runWith(t, "", addr, append(set, "--yes")...)
	require.Equal(t, cli.ExitDone, same.code, same.stderr)
	require.Equal(t, "The rules are these already.\n", same.stdout)

	edited := &customerv1.GetIdentityRulesResponse{}
	require.NoError(t, protojson.Unmarshal([]byte(whole.stdout), edited))
	r := edited.GetRules()
	r.DefaultRegion, r.LinkProbability, r.MaxCustomerProfiles = "AT", 0.95, 500
	for _, k := range r.GetKinds() {
		if k.GetKind() == "phone" {
			k.Strength, k.Limit, k.SharedAbove = weak, 3, 2
		}
	}
	r.Kinds = slices.Delete(r.GetKinds(), 1, 2)
	r.Kinds = append(r.Kinds, &eventv1.KindRule{Kind: "loyalty", Strength: unique, Limit: 1, SharedAbove: 1})
	r.SharedLocalParts = append(slices.Clone(r.GetSharedLocalParts()[1:]), "frontdesk")
	r.Blocked = []*eventv1.BlockedIdentifier{{Kind: "email", Value: "test@example.com"}, {Kind: "phone", Value: "+4315550000"}}
	text, err := protojson.Marshal(edited)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))

	no := asking(t, addr, "no\n", set...)
	require.Equal(t, cli.ExitFailed, no.code)
	golden(t, "rules_set_asked", no.stderr)
	yes := asking(t, addr, "y\n", set...)
	require.Equal(t, cli.ExitDone, yes.code, yes.stderr)
	golden(t, "rules_set", yes.stdout)
	p.mu.Lock()
	require.Len(t, p.updates, 1)
	require.True(t, proto.Equal(r, p.updates[0].GetRules()))
	require.Equal(t, "Families share phones", p.updates[0].GetReason())
	p.rules.Time, p.rules.Actor = at(12, 9), &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: "bert"}
	p.mu.Unlock()
	golden(t, "rules_get_changed", runWith(t, "", append(addr, "COLUMNS=60"), "identity", "rules", "get").stdout)

	// The file was made of the rules before: whoever changed them is not overruled.
	stale := runWith(t, "", addr, append(set, "--yes")...)
	require.Equal(t, cli.ExitFailed, stale.code)
	require.Contains(t, stale.stderr, "made of other rules than those in force: those since 2026-03-12 09:07, by operator bert (event "+newEvent+")")

	// The rules alone follow upon whatever holds.
	text, err = protojson.Marshal(defaultRules())
	require.NoError(t, err)
	alone := runWith(t, string(text), addr, "identity", "rules", "set", "--file", "-", "--reason", "Back", "--yes", "-o", "json")
	require.Equal(t, cli.ExitDone, alone.code, alone.stderr)
	require.Contains(t, alone.stdout, `"eventId": "`+newEvent+`"`)
	p.mu.Lock()
	require.Len(t, p.updates, 2)
	require.Equal(t, newEvent, p.updates[1].GetFollowsEventId())
	p.mu.Unlock()

	for _, bad := range []string{"", "{}", "[]", "null", `{"rules":null}`, `{"rules":{"kind":[]}}`, `{"defaultRegion":7}`, "{", `{"rules":{}} x`, strings.Repeat(" ", 5<<20)} {
		r := runWith(t, bad, addr, "identity", "rules", "set", "--file", "-", "--reason", "r", "--yes")
		require.Equal(t, cli.ExitUsage, r.code, "%.40q: %s", bad, r.stderr)
		require.Contains(t, r.stderr, "--file -", "%.40q", bad)
	}

	p.mu.Lock()
	p.stale = 1 // between the reading and the setting
	p.mu.Unlock()
	text, err = protojson.Marshal(r)
	require.NoError(t, err)
	raced := runWith(t, string(text), addr, "identity", "rules", "set", "--file", "-", "--reason", "r", "--yes")
	require.Equal(t, cli.ExitFailed, raced.code)
	require.Contains(t, raced.stderr, "(CHANGED_SINCE)")
	require.Contains(t, raced.stderr, "Run it again")
}

func TestBlock(t *testing.T) {
	t.Parallel()
	p := household()
	p.stale = 3
	addr := p.serve(t)
	blocked := func() []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		var out []string
		for _, b := range p.rules.GetRules().GetBlocked() {
			out = append(out, b.GetKind()+":"+b.GetValue())
		}
		return out
	}
	block := []string{"identity", "block", "phone:+43 1 555-0000", "Team@Acme.example", "email:team@acme.example", "handle:telegram:@Bot", "--reason", "Shared"}
	r := runWith(t, "", addr, block...)
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	golden(t, "block", r.stdout)
	want := []string{"phone:+4315550000", "email:team@acme.example", "handle:telegram:bot"}
	require.Equal(t, want, blocked())
	p.mu.Lock()
	require.Len(t, p.updates, 1, "three that were overtaken came before it")
	require.Equal(t, "Shared", p.updates[0].GetReason())
	p.mu.Unlock()

	again := runWith(t, "", addr, block...)
	require.Equal(t, cli.ExitDone, again.code, again.stderr)
	require.Equal(t, "They are blocked already.\n", again.stdout)
	require.Equal(t, want, blocked())

	typo := runWith(t, "", addr, "identity", "unblock", "+4315550000", "phone:+4315550009", "--reason", "r")
	require.Equal(t, cli.ExitFailed, typo.code)
	require.Contains(t, typo.stderr, "not blocked: phone:+4315550009")
	require.Equal(t, want, blocked())
	free := runWith(t, "", addr, "identity", "unblock", "+4315550000", "TEAM@acme.example", "--reason", "r", "-o", "json")
	require.Equal(t, cli.ExitDone, free.code, free.stderr)
	require.Contains(t, free.stdout, newEvent)
	require.Equal(t, want[2:], blocked())

	p.mu.Lock()
	p.stale = 1000
	p.mu.Unlock()
	never := runWith(t, "", addr, "identity", "block", "user_id:test", "--reason", "r")
	require.Equal(t, cli.ExitFailed, never.code)
	require.Contains(t, never.stderr, "(CHANGED_SINCE)")
	p.mu.Lock()
	require.Equal(t, 1000-8, p.stale, "tries end")
	p.mu.Unlock()
}
