package takeovertest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// auditor reads the log as it grows and checks what must hold at every record,
// without asking the recorder's code.
type auditor struct {
	t *testing.T
	// batches: the store commits many streams at once. Else what is of one
	// stream has an order, and decisions stand before what waits for them.
	batches bool

	codec *event.Codec
	graph *identity.Graph
	state *identity.Memory

	position  eventstore.Position
	revisions map[string]eventstore.Revision
	ids       map[tenantID]eventstore.Position
	sequences map[string]uint64 // the last one of each source
	// interactions by id, and where they stand; decisions by id.
	interactions map[string]*eventv1.RecordedEvent
	decisions    map[string]*eventv1.RecordedEvent
	byCause      map[string][]*eventv1.RecordedEvent
	quarantined  int
	// pending is the interaction that the decisions just read wait for, by tenant.
	pending map[string]string
	// profiles that were named, by tenant.
	profiles map[string]map[string]*eventv1.Identifier
	// waiting are decisions whose evidence has not come yet: it stands behind them.
	waiting []*eventv1.RecordedEvent
}

type tenantID struct {
	tenant string
	id     uuid.UUID
}

func newAuditor(t *testing.T, batches bool) *auditor {
	t.Helper()
	a := &auditor{
		t: t, batches: batches, codec: event.NewCodec(), state: identity.NewMemory(),
		revisions: map[string]eventstore.Revision{}, ids: map[tenantID]eventstore.Position{}, sequences: map[string]uint64{},
		interactions: map[string]*eventv1.RecordedEvent{}, decisions: map[string]*eventv1.RecordedEvent{}, byCause: map[string][]*eventv1.RecordedEvent{},
		pending: map[string]string{}, profiles: map[string]map[string]*eventv1.Identifier{},
	}
	rules := identity.DefaultRules()
	a.graph = identity.NewGraph(func(string) *identity.Rules { return &rules }, a.state)
	return a
}

// read goes on behind where it was.
func (a *auditor) read(store eventstore.Store) {
	a.t.Helper()
	for rec, err := range store.ReadAll(a.t.Context(), eventstore.ReadAllOptions{From: a.position}) {
		require.NoError(a.t, err)
		a.take(rec)
	}
	require.NoError(a.t, a.graph.Flush(a.state))
	if !a.batches {
		return // any evidence may be on its way
	}
	var waiting []*eventv1.RecordedEvent
	for _, d := range a.waiting {
		if cause := d.GetEvent().GetCausationId(); cause == a.pending[event.TenantOf(d.GetStream())] {
			waiting = append(waiting, d)
			continue
		}
		a.checkEvidence(d)
	}
	a.waiting = waiting
}

func (a *auditor) take(rec *eventstore.Record) {
	a.t.Helper()
	require.Equal(a.t, a.position+1, rec.Position, "positions count the records")
	a.position = rec.Position
	last, there := a.revisions[rec.Stream]
	if !there {
		last = eventstore.NoStream
	}
	require.Equal(a.t, last+1, rec.Revision, "%s at %d", rec.Stream, rec.Position)
	a.revisions[rec.Stream] = rec.Revision
	tenant := event.TenantOf(rec.Stream)
	require.Contains(a.t, tenants, tenant)
	k := tenantID{tenant, rec.ID}
	require.Zero(a.t, a.ids[k], "%s %s at %d was recorded before", rec.Type, rec.ID, rec.Position)
	a.ids[k] = rec.Position
	if rec.Type == event.TypeQuarantine {
		a.quarantined++
		return
	}
	ev, err := a.codec.Decode(rec)
	require.NoError(a.t, err)
	ev.Event.Tenant = tenant
	if identity.IsIdentityType(rec.Type) {
		require.Equal(a.t, event.IdentityStream(tenant), rec.Stream)
		a.takeDecision(tenant, ev)
	} else {
		a.takeInteraction(tenant, ev)
	}
	require.NoError(a.t, a.graph.Apply(ev.GetEvent(), uint64(rec.Position)))
}

// takeInteraction: each source's events are in the order in which it published
// them, and what an interaction shows stands right before it. Without batches
// the former holds of each stream.
func (a *auditor) takeInteraction(tenant string, rec *eventv1.RecordedEvent) {
	a.t.Helper()
	ev := rec.GetEvent()
	if cause := a.pending[tenant]; cause != "" {
		require.Equal(a.t, cause, ev.GetId(), "position %d: the decisions before are another's", rec.GetPosition())
		delete(a.pending, tenant)
	}
	// The tenant is the desk's own, and a publisher has one order for all.
	source := ev.GetSource()
	if source == "web/"+deskSource {
		source += " " + tenant
	}
	if !a.batches {
		source += " " + rec.GetStream()
	}
	require.Greater(a.t, ev.GetSourceSequence(), a.sequences[source], "%s at %d: out of order", source, rec.GetPosition())
	a.sequences[source] = ev.GetSourceSequence()
	a.interactions[ev.GetId()] = rec
	a.name(tenant, ev.GetIdentifiers())
}

func (a *auditor) takeDecision(tenant string, rec *eventv1.RecordedEvent) {
	a.t.Helper()
	ev := rec.GetEvent()
	a.decisions[ev.GetId()] = rec
	a.byCause[ev.GetCausationId()] = append(a.byCause[ev.GetCausationId()], rec)
	a.waiting = append(a.waiting, rec)
	if ev.GetSource() == deskSource {
		require.Empty(a.t, a.pending[tenant], "position %d", rec.GetPosition())
		return
	}
	if cause := a.pending[tenant]; cause != "" {
		require.Equal(a.t, cause, ev.GetCausationId(), "position %d: the decisions before wait for their interaction", rec.GetPosition())
	}
	require.Nil(a.t, a.interactions[ev.GetCausationId()], "position %d: it was decided when the interaction was recorded", rec.GetPosition())
	if !a.batches {
		return
	}
	a.pending[tenant] = ev.GetCausationId()
}

func (a *auditor) name(tenant string, ids []*eventv1.Identifier) {
	if a.profiles[tenant] == nil {
		a.profiles[tenant] = map[string]*eventv1.Identifier{}
	}
	for _, id := range ids {
		if id.GetProfileId() != "" {
			a.profiles[tenant][id.GetProfileId()] = id
		}
	}
}

// checkEvidence: what a decision says of its evidence is so.
func (a *auditor) checkEvidence(rec *eventv1.RecordedEvent) {
	a.t.Helper()
	var evidence, x, y string
	switch p := rec.GetEvent().GetPayload().GetKind().(type) {
	case *eventv1.Payload_LinkAsserted:
		evidence, x, y = p.LinkAsserted.GetEvidenceEventId(), p.LinkAsserted.GetProfileId(), p.LinkAsserted.GetOtherProfileId()
	case *eventv1.Payload_LinkRefused:
		evidence, x, y = p.LinkRefused.GetEvidenceEventId(), p.LinkRefused.GetProfileId(), p.LinkRefused.GetOtherProfileId()
	case *eventv1.Payload_CustomersMerged:
		if id := p.CustomersMerged.GetLinkEventId(); id != "" {
			link := a.decisions[id]
			require.NotNil(a.t, link, "position %d: the link that merges", rec.GetPosition())
			require.Less(a.t, link.GetPosition(), rec.GetPosition())
		}
		return
	default:
		return
	}
	if cause := rec.GetEvent().GetCausationId(); rec.GetEvent().GetSource() == deskSource && evidence == cause {
		return // a model's word, by command
	}
	there, found := a.interactions[evidence]
	if !found {
		// A link that a model spoke for and that is judged anew.
		require.NotEmpty(a.t, a.byCause[evidence], "position %d: evidence %s is nowhere", rec.GetPosition(), evidence)
		return
	}
	named := map[string]bool{}
	for _, id := range there.GetEvent().GetIdentifiers() {
		named[id.GetProfileId()] = true
	}
	require.True(a.t, named[x] && named[y], "position %d: evidence %s does not name both", rec.GetPosition(), evidence)
}

// checkComplete: what was published is there, and nothing else.
func (a *auditor) checkComplete(l *load) {
	a.t.Helper()
	require.Empty(a.t, a.pending, "decisions without their interactions")
	for _, d := range a.waiting {
		if cause := d.GetEvent().GetCausationId(); d.GetEvent().GetSource() != deskSource {
			require.NotNil(a.t, a.interactions[cause], "position %d: a decision without its interaction", d.GetPosition())
		}
		a.checkEvidence(d)
	}
	for id, ev := range l.accepted {
		require.NotNil(a.t, a.interactions[id], "%s %s was lost", ev.GetSource(), ev.GetSourceId())
	}
	require.Len(a.t, a.interactions, len(l.accepted))
	require.Equal(a.t, l.quarantined, a.quarantined, "in quarantine")
	for _, result := range l.answers {
		if result.GetOutcome() == interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED {
			continue
		}
		rec := a.interactions[result.GetEventId()]
		require.NotNil(a.t, rec, "answered with %v", result)
		require.Equal(a.t, rec.GetPosition(), result.GetPosition(), "%v", result)
		require.Equal(a.t, rec.GetStream(), result.GetStream(), "%v", result)
	}
}

// checkCommands: each was carried out once and as it was answered, or not at all.
func (a *auditor) checkCommands(l *load) {
	a.t.Helper()
	for id, c := range l.commands {
		var told []string
		for _, rec := range a.byCause[id] {
			require.Equal(a.t, deskSource, rec.GetEvent().GetSource())
			if rec.GetEvent().GetId() == c.result.GetEventId() {
				told = append(told, rec.GetEvent().GetType())
			}
		}
		if c.result.GetRefusal() != none {
			// The refusal stands once, and nothing else but what a model's link was refused for.
			refused := 0
			for _, rec := range a.byCause[id] {
				if rec.GetEvent().GetType() == identity.TypeDecisionRefused {
					refused++
				} else {
					require.Equal(a.t, identity.TypeLinkRefused, rec.GetEvent().GetType(), "command %v was refused: %v", c, c.result)
				}
			}
			require.Equal(a.t, 1, refused, "command %v was refused: %v", c, c.result)
			continue
		}
		want := identity.TypeRulesChanged
		switch {
		case c.GetMerge() != nil:
			want = identity.TypeCustomersMerged
		case c.GetSplit() != nil:
			want = identity.TypeCustomersSplit
		}
		require.Equal(a.t, []string{want}, told, "command %v was answered with %v", c, c.result)
		decided := 0
		for _, rec := range a.byCause[id] {
			if rec.GetEvent().GetPayload().GetCustomersMerged().GetRule() == eventv1.GroupingRule_GROUPING_RULE_DECIDED ||
				rec.GetEvent().GetPayload().GetCustomersSplit().GetRule() == eventv1.GroupingRule_GROUPING_RULE_DECIDED ||
				rec.GetEvent().GetType() == identity.TypeRulesChanged {
				decided++
			}
		}
		require.Equal(a.t, 1, decided, "command %v was carried out %d times", c, decided)
	}
	for cause, events := range a.byCause {
		if events[0].GetEvent().GetSource() == deskSource {
			require.NotNil(a.t, l.commands[cause], "nobody gave that command")
		}
	}
}

// checkGraph folds the log as readers do: every profile is in one customer, and
// no two user ids are one unless a person has said so.
func (a *auditor) checkGraph() (customers, together int) {
	a.t.Helper()
	for tenant, profiles := range a.profiles {
		member := map[string]string{}
		users := map[string][]string{}
		for id, identifier := range profiles {
			customer, err := a.graph.CustomerOf(tenant, id)
			require.NoError(a.t, err)
			members, err := a.graph.Members(tenant, customer)
			require.NoError(a.t, err)
			require.Contains(a.t, members, id)
			for _, m := range members {
				if owner := member[m]; owner != "" {
					require.Equal(a.t, owner, customer, "profile %s is in two customers", m)
				}
				member[m] = customer
			}
			require.Len(a.t, slices.Compact(slices.Sorted(slices.Values(members))), len(members), "customer %s", customer)
			if identifier.GetKind() == identity.KindUserID {
				users[customer] = append(users[customer], identifier.GetValue())
			}
			customers++
			if len(members) > 1 {
				together++
			}
		}
		for customer, names := range users {
			if len(names) < 2 {
				continue
			}
			for _, name := range names {
				require.True(a.t, strings.HasPrefix(name, "desk-"), "customer %s has the user ids %v", customer, names)
			}
		}
	}
	return customers, together
}
