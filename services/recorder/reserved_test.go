package recorder

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// reservedPayloads have no fault but their types, of which no source may bring any.
func reservedPayloads() map[string]*eventv1.Payload {
	payloads := map[string]*eventv1.Payload{}
	for _, p := range []*eventv1.Payload{
		{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
			Projection: "customer", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_DROP, Version: 1, Generation: 1,
		}}},
		{Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{
			Projection: "customer", Position: 1, Reason: "somebody would like it",
		}}},
		{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{
			ProfileId: profileOf("acme", "user_id=7"), OtherProfileId: profileOf("acme", "user_id=8"), Rule: eventv1.LinkRule_LINK_RULE_SAME_EVENT,
		}}},
		{Kind: &eventv1.Payload_ModelFitted{ModelFitted: &eventv1.ModelFitted{
			Model: &eventv1.ModelFitted_Match{Match: &eventv1.MatchModel{Version: 1}},
		}}},
	} {
		typ, _, _ := event.TypeOf(p)
		payloads[typ] = p
	}
	return payloads
}

// TestNoSourceBringsReservedTypes tries every way in.
func TestNoSourceBringsReservedTypes(t *testing.T) {
	t.Parallel()
	v, err := validator()
	require.NoError(t, err)
	intake, err := NewIntake(IntakeDeps{Publisher: nobody{}, Validator: v})
	require.NoError(t, err)
	for typ, payload := range reservedPayloads() {
		reason, reserved := event.ReservedType(typ)
		require.True(t, reserved, typ)
		in := interaction("1")
		in.Payload = payload
		inJSON, err := protojson.Marshal(in)
		require.NoError(t, err)
		inProto, err := proto.Marshal(payload)
		require.NoError(t, err)
		cloud := func(media string) nats.Header {
			return nats.Header{
				"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/ops"}, "ce-type": {typ}, "content-type": {media},
			}
		}
		ev := page("1", "user_id=7")
		ev.Payload = payload
		event.Stamp(ev)
		untyped := proto.CloneOf(ev)
		untyped.Type, untyped.SchemaVersion = "", 0

		for way, message := range map[string]func(g *rig) bus.Message{
			"NATS":                 func(g *rig) bus.Message { return g.message("acme", ev) },
			"NATS, without a type": func(g *rig) bus.Message { return g.message("acme", untyped) },
			"CloudEvent in protobuf": func(g *rig) bus.Message {
				m := g.rawMessage("acme", inProto)
				m.Header = cloud("application/protobuf")
				return m
			},
			"CloudEvent in JSON": func(g *rig) bus.Message {
				m := g.rawMessage("acme", inJSON)
				m.Header = cloud("application/json")
				return m
			},
			"structured CloudEvent": func(g *rig) bus.Message {
				m := g.rawMessage("acme", fmt.Appendf(nil,
					`{"specversion":"1.0","id":"1","source":"/ops","type":%q,"datacontenttype":"application/json","data":%s}`, typ, inJSON))
				m.Header = nats.Header{"content-type": {"application/cloudevents+json"}}
				return m
			},
		} {
			t.Run(typ+" by "+way, func(t *testing.T) {
				t.Parallel()
				g := newRig(t, openLog(t))
				reply := g.record(message(g))[0]
				require.Equal(t, []interactionv1.RecordOutcome{inQuarantine}, outcomes(reply))
				require.Contains(t, reply.GetResults()[0].GetReason(), reason)
				require.Equal(t, []string{event.QuarantineStream("acme") + " " + event.TypeQuarantine}, g.lines())
				require.Equal(t, codeReserved, g.quarantined()[0].GetCode())
				g.requireIndexIsLog()
			})
		}

		// Imports come in by RecordBatch too.
		_, err = intake.Record(caller(t, "acme"), &interactionv1.RecordRequest{Interaction: in})
		require.Equal(t, codes.InvalidArgument, rpcerr.CodeOf(err), typ)
		require.Equal(t, []rpcerr.Violation{{Field: "interaction.payload", Rule: "reserved", Message: reason}}, rpcerr.ViolationsOf(err))
		in.Backfill = true
		resp, err := intake.RecordBatch(caller(t, "acme"), &interactionv1.RecordBatchRequest{Interactions: []*interactionv1.Interaction{in}})
		require.NoError(t, err, typ)
		require.Equal(t, interactionv1.RecordOutcome_RECORD_OUTCOME_REFUSED, resp.GetResults()[0].GetOutcome())
		require.Contains(t, resp.GetResults()[0].GetReason(), reason)
	}
}

// TestNobodySpeaksForOperators has what comes in for tenants that are none,
// and on the operators' channel.
func TestNobodySpeaksForOperators(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	skip := page("1", "")
	skip.Tenant, skip.Payload = event.OperationsTenant, reservedPayloads()["parley.dead_letter.skipped"]
	event.Stamp(skip)
	cloud := g.rawMessage(event.OperationsTenant, []byte(`{"userId":"7"}`))
	cloud.Header = nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/ops"}, "ce-type": {"com.example.x"}, "content-type": {"application/json"},
	}
	g.record(
		g.message(event.OperationsTenant, forTenant(page("2", "user_id=7"), event.OperationsTenant)),
		g.message(event.OperationsTenant, skip),
		g.batchMessage(event.OperationsTenant, &interactionv1.IngressBatch{Command: mergeCommand(1, "user_id=7", "user_id=8")}),
		g.message(event.QuarantineTenant, forTenant(page("3", "user_id=7"), event.QuarantineTenant)),
		cloud,
	)
	for _, b := range g.quarantined() {
		require.Equal(t, TenantUnknown, b.GetTenant())
		require.Equal(t, codeReserved, b.GetCode())
		require.Contains(t, b.GetReason(), "is kept for")
		require.NotEmpty(t, b.GetBody(), "it can be looked at")
	}
	require.Len(t, g.quarantined(), 5)
	require.Len(t, g.lines(), 5, "nothing else is written")

	of := page("4", "user_id=7")
	of.Channel = "operations"
	reply := g.recordEvents(of)
	require.Equal(t, []interactionv1.RecordOutcome{inQuarantine}, outcomes(reply))
	require.Contains(t, reply.GetResults()[0].GetReason(), "channel")
	g.requireIndexIsLog()
}

// appendOperation writes what an operator did, as its service does: beside the recorder.
func appendOperation(t testing.TB, store eventstore.Store, n int) (uuid.UUID, eventstore.Position) {
	t.Helper()
	ev := page(fmt.Sprint("operation ", n), "")
	ev.Id = event.DeterministicID(event.OperationsTenant, "ops", fmt.Sprint(n)).String()
	ev.Tenant, ev.Channel, ev.Direction = event.OperationsTenant, "operations", eventv1.Direction_DIRECTION_UNSPECIFIED
	ev.Payload = reservedPayloads()[[]string{"parley.projection.operated", "parley.dead_letter.skipped"}[n%2]]
	event.Stamp(ev)
	v, err := validator()
	require.NoError(t, err)
	require.Empty(t, v.Check(ev))
	rec, err := event.NewCodec().Encode(ev)
	require.NoError(t, err)
	at, err := store.Append(t.Context(), event.OperationsStream(), eventstore.Any, rec)
	require.NoError(t, err)
	return rec.ID, at.Position
}

// interrupted is a store in which somebody else appends before an append of
// the recorder's.
type interrupted struct {
	eventstore.Store
	before func()
}

func (s *interrupted) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	s.before()
	return s.Store.AppendBatch(ctx, appends)
}

func (s *interrupted) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	s.before()
	return s.Store.Append(ctx, stream, expected, records...)
}

// TestOperationsStandInTheIndex has operators at work while interactions are
// recorded: the index follows the whole log, and every answer is right.
func TestOperationsStandInTheIndex(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(eventstore.Store) eventstore.Store{
		"batches": func(s eventstore.Store) eventstore.Store { return s },
		"single":  func(s eventstore.Store) eventstore.Store { return &remote{Store: s, plain: true} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := openLog(t)
			operations, between := 0, false
			var last uuid.UUID
			var at eventstore.Position
			var mu sync.Mutex
			operate := func() {
				mu.Lock()
				defer mu.Unlock()
				last, at = appendOperation(t, log, operations)
				operations++
			}
			store := &interrupted{Store: open(log), before: func() {
				if between {
					operate()
				}
			}}
			operate()
			g := newRig(t, store)
			for i := range 6 {
				between = i%2 == 0
				if !between {
					operate()
				}
				later := time.Duration(i) * time.Second
				reply := g.recordEvents(after(later, page(fmt.Sprint(i, " a"), "anonymous_id=a")), after(later, page(fmt.Sprint(i, " b"), "anonymous_id=a user_id=7")))
				require.Equal(t, []interactionv1.RecordOutcome{recorded, recorded}, outcomes(reply))
				for _, x := range reply.GetResults() {
					rec := g.records()[x.GetPosition()-1]
					require.EqualValues(t, x.GetPosition(), rec.Position)
					require.Equal(t, x.GetEventId(), rec.ID.String(), "it stands where the answer says")
				}
				g.requireIndexIsLog()
			}
			require.NoError(t, g.catcher.catchUp(t.Context(), g.index))
			revision, err := g.index.revision(event.OperationsStream())
			require.NoError(t, err)
			require.Equal(t, eventstore.Revision(operations-1), revision)
			e, found, err := g.index.event(eventKey{event.OperationsTenant, last})
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, at, e.position)
			_, found, err = g.index.event(eventKey{"acme", last})
			require.NoError(t, err)
			require.False(t, found, "it is no other tenant's")

			links := 0
			for _, rec := range g.records() {
				if rec.Type == "parley.link.asserted" {
					links++
				}
			}
			require.Equal(t, 1, links)
			g.reopen(true)
			require.Equal(t, []interactionv1.RecordOutcome{duplicate}, outcomes(g.recordEvents(page("0 a", "anonymous_id=a"))))
			g.requireIndexIsLog()
		})
	}
}
