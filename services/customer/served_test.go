package customer_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/customer"
)

// answers are the calls that give a customer away, each by its RPC: with the
// mask, about the customer who has the user id and is found by the query, as of
// the token.
func answers(h *house, userID, query, tok string) map[string]func(*fieldmaskpb.FieldMask) (proto.Message, error) {
	id := h.profile("user_id", userID)
	here := func() context.Context {
		return tenant.NewContext(h.t.Context(), tenant.Identity{Tenant: "acme", Scopes: tenant.All})
	}
	get := func(mask *fieldmaskpb.FieldMask) *customerv1.GetCustomerRequest {
		return &customerv1.GetCustomerRequest{CustomerId: id, ConsistencyToken: tok, ReadMask: mask}
	}
	batch := func(mask *fieldmaskpb.FieldMask) *customerv1.BatchGetCustomersRequest {
		return &customerv1.BatchGetCustomersRequest{CustomerIds: []string{id}, ConsistencyToken: tok, ReadMask: mask}
	}
	lookup := func(mask *fieldmaskpb.FieldMask) *customerv1.LookupCustomerRequest {
		return &customerv1.LookupCustomerRequest{Kind: "user_id", Value: userID, ConsistencyToken: tok, ReadMask: mask}
	}
	search := func(mask *fieldmaskpb.FieldMask) *customerv1.SearchCustomersRequest {
		return &customerv1.SearchCustomersRequest{Query: query, ConsistencyToken: tok, ReadMask: mask}
	}
	return map[string]func(*fieldmaskpb.FieldMask) (proto.Message, error){
		"GetCustomer": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.client.GetCustomer(h.call("acme"), get(mask))
		},
		"GetCustomer with claims": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			req := get(mask)
			req.IncludeClaims = true
			return h.client.GetCustomer(h.call("acme"), req)
		},
		"BatchGetCustomers": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.client.BatchGetCustomers(h.call("acme"), batch(mask))
		},
		"LookupCustomer": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.client.LookupCustomer(h.call("acme"), lookup(mask))
		},
		"SearchCustomers": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.client.SearchCustomers(h.call("acme"), search(mask))
		},
		"WatchCustomer": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			ctx, end := context.WithCancel(h.call("acme"))
			defer end()
			stream, err := h.client.WatchCustomer(ctx, &customerv1.WatchCustomerRequest{CustomerId: id, ConsistencyToken: tok, ReadMask: mask})
			if err != nil {
				return nil, err
			}
			return stream.Recv()
		},
		"GetCustomer in process": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.server.GetCustomer(here(), get(mask))
		},
		"BatchGetCustomers in process": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.server.BatchGetCustomers(here(), batch(mask))
		},
		"LookupCustomer in process": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.server.LookupCustomer(here(), lookup(mask))
		},
		"SearchCustomers in process": func(mask *fieldmaskpb.FieldMask) (proto.Message, error) {
			return h.server.SearchCustomers(here(), search(mask))
		},
	}
}

func masked(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

// requireServed looks through an answer for customers, and at what is in them.
func requireServed(t *testing.T, answer proto.Message, what string) (customers []*customerv1.Customer) {
	t.Helper()
	var look func(protoreflect.Message)
	look = func(m protoreflect.Message) {
		require.Empty(t, m.GetUnknown(), "%s: %s", what, m.Descriptor().FullName())
		if c, ok := m.Interface().(*customerv1.Customer); ok {
			require.Nil(t, c.GetWorking(), what)
			require.Empty(t, c.GetSpoiled(), what)
			customers = append(customers, c)
		}
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case fd.Message() == nil:
			case fd.IsList():
				for i := range v.List().Len() {
					look(v.List().Get(i).Message())
				}
			default:
				look(v.Message())
			}
			return true
		})
	}
	look(answer.ProtoReflect())
	return customers
}

// withWorkingForm records somebody whose document has something of everything
// that only folding needs, and what was only claimed of him.
func withWorkingForm(h *house, userID string) (tok string) {
	ids := []string{"user_id", userID, "email", userID + "@example.com"}
	affiliated := func(name, role string) *eventv1.Payload {
		return &eventv1.Payload{Kind: &eventv1.Payload_AffiliationAsserted{AffiliationAsserted: &eventv1.AffiliationAsserted{
			OrganisationId: "acme", Name: name, Role: role,
		}}}
	}
	h.record(said{at: 1, ids: ids, payload: traits("name", `"Ada"`, "plan", "null")})
	h.record(said{at: 2, ids: ids, payload: order("o1", eur(10, 0))})
	h.record(said{at: 3, ids: ids, payload: refund("o1", nil)})
	h.record(said{at: 4, ids: ids, payload: affiliated("Acme Ltd", "")})
	h.record(said{
		at: 5, channel: "email", ids: []string{"email", userID + "@example.com"}, payload: order("claimed", eur(5, 0)),
		assurance: eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED,
	})
	return h.record(said{at: 6, ids: ids, payload: affiliated("", "buyer")})
}

func TestTheWorkingFormIsNeverServed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := withWorkingForm(h, "u1")
	c := h.get("user_id", "u1", tok)

	found, err := h.engine.Reader().Get(t.Context(), "acme", c.GetCustomerId())
	require.NoError(t, err)
	stored := &customerv1.Customer{}
	require.NoError(t, wire.Unmarshal(found.Data, stored))
	require.Len(t, stored.GetWorking().GetTraits(), 1, "it is there to be seen")
	require.Len(t, stored.GetWorking().GetAffiliations(), 2)
	require.NotEmpty(t, stored.GetWorking().GetOrders().GetTotals())
	stored.Working = nil
	require.True(t, proto.Equal(stored, c), "all else is served")

	for rpc, call := range answers(h, "u1", "ada", tok) {
		for _, mask := range []*fieldmaskpb.FieldMask{nil, masked(), masked("*"), masked("traits", "orders.totals", "affiliations")} {
			answer, err := call(mask)
			require.NoError(t, err, rpc)
			customers := requireServed(t, answer, rpc)
			require.Len(t, customers, 1, rpc)
			require.Len(t, customers[0].GetTraits(), 1, rpc)
			require.Len(t, customers[0].GetOrders().GetTotals(), 1, rpc)
			require.Len(t, customers[0].GetAffiliations(), 1, rpc)
		}
		_, unknown := call(masked("no_such"))
		requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, unknown)
		for _, path := range []string{"working", "working.traits", "spoiled"} {
			for _, mask := range []*fieldmaskpb.FieldMask{masked(path), masked("*", path), masked("traits", path)} {
				_, err := call(mask)
				requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, err)
				require.Equal(t, rpcerr.ViolationsOf(unknown)[0].Rule, rpcerr.ViolationsOf(err)[0].Rule, "%s: as an unknown field", rpc)
				require.Contains(t, rpcerr.ViolationsOf(err)[0].Message, "Customer has no field ", rpc)
			}
		}
	}

	explained, err := h.client.ExplainIdentity(h.call("acme"), &customerv1.ExplainIdentityRequest{CustomerId: c.GetCustomerId(), ConsistencyToken: tok})
	require.NoError(t, err)
	require.Empty(t, requireServed(t, explained, "ExplainIdentity"), "it gives no customer away")
	require.Len(t, explained.GetClaims(), 1)
	with, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{CustomerId: c.GetCustomerId(), IncludeClaims: true})
	require.NoError(t, err)
	require.Len(t, with.GetClaims(), 1)
}

// TestAWatchNeverSendsTheWorkingForm changes what only folding needs, between
// changes that people see: the one is not sent, the others without it.
func TestAWatchNeverSendsTheWorkingForm(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := withWorkingForm(h, "u1")
	for _, mask := range []*fieldmaskpb.FieldMask{nil, masked("traits")} {
		stream := h.watch(&customerv1.WatchCustomerRequest{CustomerId: h.profile("user_id", "u1"), ConsistencyToken: tok, ReadMask: mask})
		first, err := stream.Recv()
		require.NoError(t, err)
		requireServed(t, first, "the first state")
		before := len(first.GetCustomer().GetTraits())
		name := []string{"size", "colour"}[min(1, len(mask.GetPaths()))]
		h.record(said{at: 10, ids: []string{"user_id", "u1"}, payload: traits(name+"_gone", "null")})
		tok = h.record(said{at: 11, ids: []string{"user_id", "u1"}, payload: traits(name, `"x"`)})
		last := until(t, stream, func(c *customerv1.Customer) bool {
			requireServed(t, c, "a state")
			return len(c.GetTraits()) == before+1
		})
		require.True(t, slices.ContainsFunc(last.GetCustomer().GetTraits(), func(trait *customerv1.CustomerTrait) bool { return trait.GetName() == name }))
	}
}

// TestASpoiledCustomerIsRefused has a fold that could not finish somebody:
// nobody gets half of him, nor the reason, by whichever call.
func TestASpoiledCustomerIsRefused(t *testing.T) {
	t.Parallel()
	const reason = "an inner matter of the fold"
	model := customer.Definition()
	finish := model.Finish
	model.Finish = func(doc *customerv1.Customer, who projection.Customer) {
		finish(doc, who)
		if slices.ContainsFunc(doc.GetIdentifiers(), func(id *customerv1.CustomerIdentifier) bool { return id.GetValue() == "bad" }) {
			doc.Spoiled = reason
		}
	}
	h := houseOf(t, model)
	h.record(said{at: 1, ids: []string{"user_id", "good", "email", "good@example.com"}})
	tok := h.record(said{at: 2, ids: []string{"user_id", "bad", "email", "bad@example.com"}, payload: order("o1", eur(10, 0))})
	for rpc, call := range answers(h, "good", "good@example", tok) {
		answer, err := call(nil)
		require.NoError(t, err, rpc)
		require.Len(t, requireServed(t, answer, rpc), 1, rpc)
	}
	refusals := answers(h, "bad", "bad@example", tok)
	refusals["ExplainIdentity"] = func(*fieldmaskpb.FieldMask) (proto.Message, error) {
		return h.client.ExplainIdentity(h.call("acme"), &customerv1.ExplainIdentityRequest{CustomerId: h.profile("user_id", "bad"), ConsistencyToken: tok})
	}
	for rpc, call := range refusals {
		for _, mask := range []*fieldmaskpb.FieldMask{nil, masked("display_name")} {
			_, err := call(mask)
			require.Equal(t, codes.DataLoss, rpcerr.CodeOf(err), "%s: %v", rpc, err)
			parsed, ok := rpcerr.Parse(err)
			require.True(t, ok, rpc)
			require.NotContains(t, parsed.GRPCStatus().Message(), reason, rpc)
		}
	}
}
