package match

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	linkage "github.com/parleyhq/parley/pkg/identity/match"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// What stands where a profile would, for facts about the whole tenant. No
// profile is called that.
const (
	// profileModel: an event that brought a model, with the payload.
	profileModel = "model"
	// profileNewest: the same without, to see cheaply which is the newest.
	profileNewest = "newest_model"
	// profileRules: a change of the rules, with what concerns matching of them.
	profileRules = "rules"
)

// factRows keeps models, rules, and for each profile on either side a person's
// decision that keeps customers apart.
func factRows(rec *eventv1.RecordedEvent, put func(id string, row proto.Message) error) error {
	ev := rec.GetEvent()
	fact := &customerv1.MatchFact{Position: rec.GetPosition(), EventId: ev.GetId()}
	if t := ev.GetOccurredTime(); t != nil {
		fact.Time = &timestamppb.Timestamp{Seconds: t.GetSeconds(), Nanos: t.GetNanos()}
	}
	row := func(profile string) error {
		fact.ProfileId = profile
		return put(ev.GetId()+"."+profile, fact)
	}
	switch kind := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_ModelFitted:
		if kind.ModelFitted.GetMatch() == nil || rec.GetStream() != Stream(ev.GetTenant()) {
			return nil
		}
		if err := row(profileNewest); err != nil {
			return err
		}
		payload, err := wire.Marshal(kind.ModelFitted)
		if err != nil {
			return fmt.Errorf("model: %w", err)
		}
		fact.Model = payload
		return row(profileModel)
	case *eventv1.Payload_IdentityRulesChanged:
		payload, err := wire.Marshal(&eventv1.IdentityRules{LinkProbability: kind.IdentityRulesChanged.GetRules().GetLinkProbability()})
		if err != nil {
			return fmt.Errorf("rules: %w", err)
		}
		fact.Model = payload
		return row(profileRules)
	case *eventv1.Payload_CustomersSplit:
		return splitRows(kind.CustomersSplit, func(profile string, side uint32) error {
			fact.Side = side
			return row(profile)
		})
	default:
		return nil
	}
}

// splitRows gives the profiles that a person's decision keeps apart, each once.
func splitRows(p *eventv1.CustomersSplit, row func(profile string, side uint32) error) error {
	switch p.GetRule() {
	case eventv1.GroupingRule_GROUPING_RULE_DECIDED, eventv1.GroupingRule_GROUPING_RULE_UNSPECIFIED:
	default:
		return nil
	}
	seen := map[string]bool{"": true}
	for side, of := range [...]struct {
		name     string
		profiles []string
	}{{p.GetCustomerId(), p.GetRemainingProfileIds()}, {p.GetNewCustomerId(), p.GetMovedProfileIds()}} {
		for _, profile := range append([]string{of.name}, of.profiles...) {
			if seen[profile] {
				continue
			}
			seen[profile] = true
			if err := row(profile, uint32(side)); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxMarks is how many decisions about one customer are looked at.
const maxMarks = 20_000

// marks say on which sides of persons' decisions a customer is, by the
// decision's event: bit 0 for the one, bit 1 for the other.
type marks map[string]uint8

// apart says whether a decision keeps two customers apart.
func (m marks) apart(other marks) bool {
	if len(other) < len(m) {
		m, other = other, m
	}
	const one, two = 1, 2
	for decision, a := range m {
		b := other[decision]
		if a&one != 0 && b&two != 0 || a&two != 0 && b&one != 0 {
			return true
		}
	}
	return false
}

// fitted is a model with the event that brought it. Model is nil where this
// version cannot use it.
type fitted struct {
	eventID string
	time    time.Time
	model   *linkage.Model
	why     error
}

// newest reads the newest fact of those about the whole tenant; nil for none.
func (r *read) newest(ctx context.Context, profile string) (*customerv1.MatchFact, error) {
	page, err := r.Reader.Rows(ctx, facts, view.Query{
		Tenant: r.Tenant, Index: byPosition, Reverse: true, Limit: 1, Prefixes: []view.Tuple{{view.String(profile)}},
	})
	if err != nil || len(page.Entries) == 0 {
		return nil, err
	}
	return decodeFact(page.Entries[0])
}

func decodeFact(entry view.Entry) (*customerv1.MatchFact, error) {
	f := &customerv1.MatchFact{}
	if err := wire.Unmarshal(entry.Data, f); err != nil {
		return nil, fmt.Errorf("fact %s: %w: %w", entry.Key.ID, view.ErrCorrupt, err)
	}
	return f, nil
}

// model is the tenant's newest model; nil where there is none. A tenant's stays
// in memory until there is a newer one.
func (r *read) model(ctx context.Context) (*fitted, error) {
	head, err := r.newest(ctx, profileNewest)
	if err != nil || head == nil {
		return nil, err
	}
	if known := r.models.get(r.Tenant); known != nil && known.eventID == head.GetEventId() {
		return known, nil
	}
	fact, err := r.newest(ctx, profileModel)
	if err != nil {
		return nil, err
	}
	payload := &eventv1.ModelFitted{}
	if err := wire.Unmarshal(fact.GetModel(), payload); err != nil {
		return nil, fmt.Errorf("model of event %s: %w: %w", fact.GetEventId(), view.ErrCorrupt, err)
	}
	f := &fitted{eventID: fact.GetEventId(), time: fact.GetTime().AsTime()}
	f.model, f.why = modelFromProto(payload.GetMatch())
	r.models.put(r.Tenant, f)
	return f, nil
}

// linkProbability is how probable a pair must be to be linked without being
// asked; 0 for never.
func (r *read) linkProbability(ctx context.Context) (float64, error) {
	fact, err := r.newest(ctx, profileRules)
	if err != nil || fact == nil {
		return 0, err
	}
	rules := &eventv1.IdentityRules{}
	if err := wire.Unmarshal(fact.GetModel(), rules); err != nil {
		return 0, fmt.Errorf("rules of event %s: %w: %w", fact.GetEventId(), view.ErrCorrupt, err)
	}
	return rules.GetLinkProbability(), nil
}

// marksOf says who a customer is and what persons decided about him. One whom
// the read model does not know has neither: view.ErrNotFound.
func (r *read) marksOf(ctx context.Context, id string) (projection.Customer, marks, error) {
	var cursor []byte
	var profiles []string
	var m marks
	for {
		who, page, err := r.Reader.CustomerRows(ctx, facts, r.Tenant, id, func(c projection.Customer) view.Query {
			if !slices.Equal(profiles, c.Profiles) {
				// Another customer than the page before: from the beginning.
				cursor, m = nil, nil
			}
			profiles = c.Profiles
			q := view.Query{Index: byPosition, Limit: view.MaxLimit, Reverse: true, Cursor: cursor}
			for _, profile := range c.Profiles {
				q.Prefixes = append(q.Prefixes, view.Tuple{view.String(profile)})
			}
			return q
		})
		if err != nil {
			return projection.Customer{}, nil, err
		}
		if m == nil && len(page.Entries) > 0 {
			m = marks{}
		}
		for _, entry := range page.Entries {
			f, err := decodeFact(entry)
			if err != nil {
				return projection.Customer{}, nil, err
			}
			m[f.GetEventId()] |= 1 << min(f.GetSide(), 1)
		}
		if cursor = page.Next; cursor == nil || len(m) >= maxMarks {
			return who, m, nil
		}
	}
}

// toldApart remembers, over the pairs of one call, what persons decided.
type toldApart struct {
	read  *read
	known map[string]marks
}

func newToldApart(r *read) toldApart { return toldApart{read: r, known: map[string]marks{}} }

func (t *toldApart) marks(ctx context.Context, id string) (marks, error) {
	if m, ok := t.known[id]; ok {
		return m, nil
	}
	_, m, err := t.read.marksOf(ctx, id)
	if err != nil && !errors.Is(err, view.ErrNotFound) {
		return nil, err
	}
	t.known[id] = m
	return m, nil
}

// pair says whether a person told two customers apart.
func (t *toldApart) pair(ctx context.Context, a, b string) (bool, error) {
	ma, err := t.marks(ctx, a)
	if err != nil || len(ma) == 0 {
		return false, err
	}
	mb, err := t.marks(ctx, b)
	return ma.apart(mb), err
}
