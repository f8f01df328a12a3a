package projection_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// visits is a small read model: how often and when a customer came, which
// pages were the last three, and his traits.
func visits() projection.Customers[*customerv1.Customer] {
	return projection.Customers[*customerv1.Customer]{
		Name: "visits", Version: 1,
		Documents: view.Collection{
			Name: "visitors",
			Indexes: []view.Index{
				{Name: "text", Kind: view.Text, Extract: func(doc proto.Message) []view.Tuple {
					return []view.Tuple{{view.String(visitor(doc).GetDisplayName())}}
				}},
				{Name: "count", Columns: []view.ColumnType{view.ColumnInt64}, Extract: func(doc proto.Message) []view.Tuple {
					return []view.Tuple{{view.Int64(visitor(doc).GetInteractionCount())}}
				}},
			},
		},
		New:     func() *customerv1.Customer { return &customerv1.Customer{} },
		Fold:    foldVisit,
		Combine: combineVisits,
		Finish:  finishVisits,
		Rows:    []projection.RowFold{{Collection: pages(), Fold: foldPage}},
	}
}

func visitor(doc proto.Message) *customerv1.Customer {
	c, ok := doc.(*customerv1.Customer)
	if !ok {
		panic("not a customer")
	}
	return c
}

func pages() view.Collection {
	return view.Collection{
		Name: "pages", Clustered: true, New: func() proto.Message { return &customerv1.InteractionSummary{} },
		Indexes: []view.Index{{
			Name: "time", Columns: []view.ColumnType{view.ColumnString, view.ColumnTime},
			Extract: func(doc proto.Message) []view.Tuple {
				s, ok := doc.(*customerv1.InteractionSummary)
				if !ok {
					panic("not a page")
				}
				return []view.Tuple{{view.String(s.GetProfileId()), view.Time(s.GetTime().AsTime())}}
			},
		}},
	}
}

const lastPages = 3

func foldVisit(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
	ev := rec.GetEvent()
	doc.InteractionCount++
	at := ev.GetOccurredTime()
	if doc.GetFirstSeenTime() == nil || at.AsTime().Before(doc.GetFirstSeenTime().AsTime()) {
		doc.FirstSeenTime = proto.CloneOf(at)
	}
	if page := ev.GetPayload().GetPageViewed(); page != nil {
		doc.RecentInteractions = append(doc.RecentInteractions, &customerv1.InteractionSummary{
			EventId: ev.GetId(), Time: proto.CloneOf(at), Summary: page.GetPath(),
		})
		trimPages(doc)
	}
	for _, trait := range ev.GetPayload().GetTraitsUpdated().GetTraits() {
		putTrait(doc, &customerv1.CustomerTrait{
			Name: trait.GetName(), ValueJson: trait.GetValueJson(), OccurredTime: proto.CloneOf(at), EventId: ev.GetId(),
		})
	}
	return nil
}

func trimPages(doc *customerv1.Customer) {
	slices.SortFunc(doc.GetRecentInteractions(), func(a, b *customerv1.InteractionSummary) int {
		return cmp.Or(b.GetTime().AsTime().Compare(a.GetTime().AsTime()), cmp.Compare(a.GetEventId(), b.GetEventId()))
	})
	doc.RecentInteractions = doc.GetRecentInteractions()[:min(lastPages, len(doc.GetRecentInteractions()))]
}

func putTrait(doc *customerv1.Customer, trait *customerv1.CustomerTrait) {
	for i, had := range doc.GetTraits() {
		if had.GetName() == trait.GetName() {
			if cmp.Or(trait.GetOccurredTime().AsTime().Compare(had.GetOccurredTime().AsTime()), cmp.Compare(trait.GetEventId(), had.GetEventId())) > 0 {
				doc.Traits[i] = trait
			}
			return
		}
	}
	doc.Traits = append(doc.Traits, trait)
}

func combineVisits(into, from *customerv1.Customer) {
	into.InteractionCount += from.GetInteractionCount()
	if at := from.GetFirstSeenTime(); at != nil && (into.GetFirstSeenTime() == nil || at.AsTime().Before(into.GetFirstSeenTime().AsTime())) {
		into.FirstSeenTime = proto.CloneOf(at)
	}
	for _, page := range from.GetRecentInteractions() {
		into.RecentInteractions = append(into.RecentInteractions, proto.CloneOf(page))
	}
	trimPages(into)
	for _, trait := range from.GetTraits() {
		putTrait(into, proto.CloneOf(trait))
	}
}

func finishVisits(doc *customerv1.Customer, c projection.Customer) {
	doc.CustomerId, doc.ProfileIds, doc.DisplayName = c.ID, c.Profiles, ""
	slices.SortFunc(doc.GetTraits(), func(a, b *customerv1.CustomerTrait) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, trait := range doc.GetTraits() {
		doc.DisplayName += trait.GetValueJson()
	}
}

func foldPage(rec *eventv1.RecordedEvent, put func(string, proto.Message) error) error {
	page := rec.GetEvent().GetPayload().GetPageViewed()
	if page == nil {
		return nil
	}
	return put(rec.GetEvent().GetId(), &customerv1.InteractionSummary{
		EventId: rec.GetEvent().GetId(), ProfileId: rec.GetEvent().GetProfileId(),
		Time: rec.GetEvent().GetOccurredTime(), Summary: page.GetPath(),
	})
}

// generator makes random events: visits, traits, merges and splits among few
// profiles of two tenants.
type generator struct {
	*rand.Rand
	made     int
	profiles int
	owner    map[view.Key]string
}

func newGenerator(seed uint64, profiles int) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 7)), profiles: profiles, owner: map[view.Key]string{}}
}

func (g *generator) events(n int) []*eventv1.Event {
	events := make([]*eventv1.Event, n)
	for i := range events {
		events[i] = g.event()
	}
	return events
}

func (g *generator) event() *eventv1.Event {
	g.made++
	tenant := []string{"acme", "beta"}[g.IntN(2)]
	profile := fmt.Sprintf("p%03d", g.IntN(g.profiles))
	payload := &eventv1.Payload{}
	switch g.IntN(20) {
	case 0, 1:
		payload.Kind = &eventv1.Payload_CustomersMerged{CustomersMerged: g.merge(tenant, profile)}
	case 2:
		payload.Kind = &eventv1.Payload_CustomersSplit{CustomersSplit: g.split(tenant, profile)}
	case 3, 4, 5:
		payload.Kind = &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{Traits: []*eventv1.Trait{
			{Name: fmt.Sprintf("t%d", g.IntN(4)), ValueJson: fmt.Sprintf("%q", fmt.Sprintf("value %d", g.IntN(50)))},
		}}}
	case 6:
		profile = ""
		fallthrough
	default:
		payload.Kind = &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: fmt.Sprintf("/%d", g.IntN(100))}}
	}
	at := projectiontest.Epoch.Add(time.Duration(g.IntN(100_000)) * time.Second)
	return projectiontest.NewEvent(tenant, profile, g.made, at, payload)
}

func (g *generator) customer(tenant, profile string) string {
	key := view.Key{Tenant: tenant, ID: profile}
	if g.owner[key] == "" {
		g.owner[key] = profile
	}
	return g.owner[key]
}

func (g *generator) of(tenant, customer string) []string {
	var profiles []string
	for key, owner := range g.owner {
		if key.Tenant == tenant && owner == customer {
			profiles = append(profiles, key.ID)
		}
	}
	slices.Sort(profiles)
	return profiles
}

func (g *generator) merge(tenant, profile string) *eventv1.CustomersMerged {
	survivor, absorbed := g.customer(tenant, profile), g.customer(tenant, fmt.Sprintf("p%03d", g.IntN(g.profiles)))
	moved := g.of(tenant, absorbed)
	for _, id := range moved {
		g.owner[view.Key{Tenant: tenant, ID: id}] = survivor
	}
	return &eventv1.CustomersMerged{CustomerId: survivor, AbsorbedCustomerId: absorbed, AbsorbedProfileIds: moved}
}

func (g *generator) split(tenant, profile string) *eventv1.CustomersSplit {
	customer := g.customer(tenant, profile)
	split := &eventv1.CustomersSplit{CustomerId: customer, NewCustomerId: customer}
	for _, id := range g.of(tenant, customer) {
		if id != customer && g.IntN(2) == 0 {
			if split.GetNewCustomerId() == customer {
				split.NewCustomerId = id
			}
			split.MovedProfileIds = append(split.MovedProfileIds, id)
			g.owner[view.Key{Tenant: tenant, ID: id}] = split.GetNewCustomerId()
		}
	}
	return split
}

func TestLaws(t *testing.T) {
	t.Parallel()
	events := projectiontest.Recorded(newGenerator(1, 10).events(200))
	projectiontest.Laws(t, visits(), events, 60)
}

func TestAgree(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	projectiontest.Agree(t, visits(), newGenerator(seed, 60).events(3000))
}

func TestFollow(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	e, _ := projectiontest.Start(t, visits(), log, views, projection.Options{})
	last := projectiontest.Append(t, log, projectiontest.Events(t, `
		p1 page.viewed {"path": "/pricing"}
		p1 page.viewed {"path": "/contact"}
		p2 traits.updated {"traits": [{"name": "name", "valueJson": "\"Ada\""}]}
		- page.viewed {"path": "/nobody"}`)...)
	projectiontest.WaitFor(t, e, last)
	r := e.Reader()
	doc, id, err := r.Document(t.Context(), "acme", "p1")
	require.NoError(t, err)
	require.Equal(t, "p1", id)
	require.Equal(t, int64(2), doc.GetInteractionCount())
	require.Equal(t, []string{"p1"}, doc.GetProfileIds())
	_, err = r.Get(t.Context(), "acme", "p3")
	require.ErrorIs(t, err, view.ErrNotFound)
	_, err = r.Get(t.Context(), "beta", "p1")
	require.ErrorIs(t, err, view.ErrNotFound)

	page, err := r.Search(t.Context(), view.Search{Tenant: "acme", Index: "text", Text: "ada", Limit: 5})
	require.NoError(t, err)
	require.Len(t, page.Entries, 1)
	page, err = r.Query(t.Context(), view.Query{Tenant: "acme", Index: "count", Reverse: true, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, "p1", page.Entries[0].Key.ID)
	page, err = r.Rows(t.Context(), "pages", view.Query{Tenant: "acme", Index: "time", Limit: 5, Prefixes: []view.Tuple{{view.String("")}}})
	require.NoError(t, err)
	require.Len(t, page.Entries, 1, "events without a profile have rows as well")
	require.Eventually(t, func() bool { return e.Status().State == projection.Live }, time.Minute, time.Millisecond)
	require.Equal(t, last, e.Position())
	require.Equal(t, last, e.Status().Head)
	require.Zero(t, e.Status().Behind)
}

func TestMergeAndSplit(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	e, _ := projectiontest.Start(t, visits(), log, views, projection.Options{})
	r := e.Reader()
	n := 0
	play := func(text string) {
		t.Helper()
		events := projectiontest.Events(t, text)
		for _, ev := range events {
			n++
			ev.Id = projectiontest.NewEvent("acme", "", n, projectiontest.Epoch, ev.GetPayload()).GetId()
		}
		projectiontest.WaitFor(t, e, projectiontest.Append(t, log, events...))
	}
	who := func(id string) (customer string, profiles []string, count int64) {
		t.Helper()
		doc, customer, err := r.Document(t.Context(), "acme", id)
		require.NoError(t, err)
		c, err := r.Customer(t.Context(), "acme", id)
		require.NoError(t, err)
		require.Equal(t, customer, c.ID)
		require.Equal(t, doc.GetProfileIds(), c.Profiles)
		return customer, c.Profiles, doc.GetInteractionCount()
	}
	expect := func(id, customer string, count int64, profiles ...string) {
		t.Helper()
		gotCustomer, gotProfiles, gotCount := who(id)
		require.Equal(t, customer, gotCustomer)
		require.Equal(t, profiles, gotProfiles)
		require.Equal(t, count, gotCount)
	}
	play(`
		a page.viewed {"path": "/1"}
		b page.viewed {"path": "/2"}
		b page.viewed {"path": "/3"}
		c page.viewed {"path": "/4"}`)
	expect("b", "b", 2, "b")
	play(`- customers.merged {"customerId": "a", "absorbedCustomerId": "b", "absorbedProfileIds": ["b"]}`)
	expect("a", "a", 3, "a", "b")
	expect("b", "a", 3, "a", "b")
	// The e-mail address of a merge that never had an event of its own.
	play(`- customers.merged {"customerId": "a", "absorbedCustomerId": "mail", "absorbedProfileIds": ["mail"]}
		b page.viewed {"path": "/5"}`)
	expect("mail", "a", 4, "a", "b", "mail")
	play(`- customers.merged {"customerId": "a", "absorbedCustomerId": "c", "absorbedProfileIds": ["c"]}`)
	expect("c", "a", 5, "a", "b", "c", "mail")

	c, page, err := r.CustomerRows(t.Context(), "pages", "acme", "c", func(c projection.Customer) view.Query {
		q := view.Query{Index: "time", Limit: 10, Reverse: true}
		for _, p := range c.Profiles {
			q.Prefixes = append(q.Prefixes, view.Tuple{view.String(p)})
		}
		return q
	})
	require.NoError(t, err)
	require.Equal(t, "a", c.ID)
	require.Len(t, page.Entries, 5)

	play(`- customers.split {"customerId": "a", "newCustomerId": "b", "movedProfileIds": ["b", "mail"]}`)
	expect("a", "a", 2, "a", "c")
	expect("mail", "b", 3, "b", "mail")
	found, err := r.GetMany(t.Context(), "acme", []string{"mail", "nobody", "c", "b"})
	require.NoError(t, err)
	require.Equal(t, "b", found[0].CustomerID)
	require.Nil(t, found[1].Data)
	require.Equal(t, "a", found[2].CustomerID)
	require.Equal(t, found[0].Data, found[3].Data)

	// What cannot be changes nothing: the profile that a customer is named by stays with him.
	play(`- customers.split {"customerId": "a", "newCustomerId": "c", "movedProfileIds": ["a", "b"]}
		- customers.split {"customerId": "b", "newCustomerId": "b", "movedProfileIds": ["mail"]}
		- customers.merged {"customerId": "b", "absorbedCustomerId": "mail", "absorbedProfileIds": ["mail"]}`)
	expect("a", "a", 1, "a")
	expect("c", "c", 1, "c")
	expect("mail", "b", 3, "b", "mail")
}

// TestRandom plays random events through engines that are stopped and
// started with other options all the time.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := newGenerator(seed, 40)
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	model := projectiontest.NewModel(visits())
	var all []*eventv1.Event
	for range 25 {
		opts := projection.Options{
			CommitEvents: 1 << g.IntN(13), ReadBatch: 1 << g.IntN(11), ReadAhead: 1 + g.IntN(3), Decoders: 1 + g.IntN(3),
			Partitions: 1 + g.IntN(5), ReplayCacheBytes: 1 << g.IntN(20), LiveCacheBytes: 1 << g.IntN(20),
		}
		e, stop := projectiontest.Start(t, visits(), log, views, opts)
		for range g.IntN(4) {
			events := g.events(1 + g.IntN(200))
			all = append(all, events...)
			last := projectiontest.Append(t, log, events...)
			if g.IntN(2) == 0 {
				projectiontest.WaitFor(t, e, last)
			}
		}
		stop()
	}
	for _, rec := range projectiontest.Recorded(all) {
		model.Apply(rec)
	}
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	head, err := log.Head(t.Context())
	require.NoError(t, err)
	projectiontest.WaitFor(t, e, head)
	model.Check(t, e.Reader())
	digest, err := e.Digest(t.Context())
	require.NoError(t, err)
	stop()
	fresh, _ := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{})
	projectiontest.WaitFor(t, fresh, head)
	clean, err := fresh.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, clean.String(), digest.String())
}

func TestDefinitionIsChecked(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	for name, spoil := range map[string]func(*projection.Customers[*customerv1.Customer]){
		"no fold":       func(d *projection.Customers[*customerv1.Customer]) { d.Fold = nil },
		"no version":    func(d *projection.Customers[*customerv1.Customer]) { d.Version = 0 },
		"bad name":      func(d *projection.Customers[*customerv1.Customer]) { d.Name = "Visits!" },
		"clustered":     func(d *projection.Customers[*customerv1.Customer]) { d.Documents.Clustered = true },
		"rows by key":   func(d *projection.Customers[*customerv1.Customer]) { d.Rows[0].Collection.Clustered = false },
		"collection":    func(d *projection.Customers[*customerv1.Customer]) { d.Documents.Name = "" },
		"twice the one": func(d *projection.Customers[*customerv1.Customer]) { d.Documents.Name = "pages" },
	} {
		def := visits()
		spoil(&def)
		_, err := projection.New(t.Context(), def, projection.Deps{Log: log, Codec: decoder{}, Views: views})
		require.Error(t, err, name)
	}
	_, err := projection.New(t.Context(), visits(), projection.Deps{Log: log})
	require.Error(t, err)
}

var errFold = errors.New("this event cannot be folded")
