package cli_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
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
