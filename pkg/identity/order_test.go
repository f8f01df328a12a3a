package identity

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// tight rules make nearly everything meet a limit.
func tight(r *Rules) {
	r.MaxCustomerProfiles = 6
	r.Kinds[KindEmail] = Kind{Strength: strengthStrong, Rank: 1, Limit: 2, SharedAbove: 3}
	r.Kinds[KindAnonymousID] = Kind{Strength: strengthWeak, Rank: 4, Limit: 3, SharedAbove: 2}
}

// oracle says who belongs together by judging all evidence there is at once, in
// its order: the meaning of the rules, without anything that makes it fast.
func oracle(t *testing.T, w *world, interactions []*eventv1.Event) []string {
	t.Helper()
	rules := w.resolver.Rules(testTenant)
	type pair struct {
		Pair
		order Order
	}
	kinds := map[string]string{}
	unique := map[string]map[string]bool{}
	earliest := map[Pair]Order{}
	for _, ev := range interactions {
		ev := proto.CloneOf(ev)
		w.resolver.Stamp(ev)
		for i, id := range ev.GetIdentifiers() {
			kinds[id.GetProfileId()] = id.GetKind()
			if id.GetProfileId() == ev.GetProfileId() {
				continue
			}
			p := PairOf(ev.GetProfileId(), id.GetProfileId())
			o := orderOf(ev.GetOccurredTime().AsTime(), ev.GetId(), uint32(i))
			if old, there := earliest[p]; !there || o.compare(old) < 0 {
				earliest[p] = o
			}
		}
	}
	for p := range earliest {
		for _, end := range [][2]string{{p.A, p.B}, {p.B, p.A}} {
			if rules.Kind(kinds[end[1]]).Strength == strengthUnique {
				if unique[end[0]] == nil {
					unique[end[0]] = map[string]bool{}
				}
				unique[end[0]][end[1]] = true
			}
		}
	}
	shared := func(id string) bool {
		k := rules.Kind(kinds[id])
		return k.Strength < strengthUnique && len(unique[id]) > k.SharedAbove
	}
	var pairs []pair
	for p, o := range earliest {
		if !shared(p.A) && !shared(p.B) {
			pairs = append(pairs, pair{p, o})
		}
	}
	slices.SortFunc(pairs, func(x, y pair) int { return x.order.compare(y.order) })
	of := map[string]*[]string{}
	for id := range kinds {
		of[id] = &[]string{id}
	}
	sideOf := func(members []string) side {
		s := side{size: len(members)}
		for _, m := range members {
			s.kinds = addKind(s.kinds, kinds[m], 1)
		}
		return s
	}
	for _, p := range pairs {
		a, b := of[p.A], of[p.B]
		if a == b || judge(rules, sideOf(*a), sideOf(*b)).refused() {
			continue
		}
		*a = append(*a, *b...)
		for _, m := range *b {
			of[m] = a
		}
	}
	var sets []string
	done := map[*[]string]bool{}
	for _, members := range of {
		if done[members] {
			continue
		}
		done[members] = true
		var names []string
		for _, m := range *members {
			names = append(names, w.names[m])
		}
		slices.Sort(names)
		sets = append(sets, strings.Join(names, " "))
	}
	slices.Sort(sets)
	return sets
}

func randomInteractions(r *rand.Rand, n, people int) []*eventv1.Event {
	kinds := []string{"user_id=u%d", "email=e%d@b.example", "anonymous_id=a%d", "phone=+1415867530%d", "card=c%d"}
	var out []*eventv1.Event
	for second := 1; second <= n; second++ {
		var ids []string
		for range 1 + r.IntN(3) {
			ids = append(ids, fmt.Sprintf(kinds[r.IntN(len(kinds))], r.IntN(people)))
		}
		ev := interaction(second, strings.Join(ids, " "))
		// Some occur in the same second: then their ids are their order.
		ev.OccurredTime.Seconds = int64(second / 2)
		out = append(out, ev)
	}
	return out
}

func (w *world) take(ev *eventv1.Event) {
	w.t.Helper()
	ev = proto.CloneOf(ev)
	w.resolver.Stamp(ev)
	for _, id := range ev.GetIdentifiers() {
		w.names[id.GetProfileId()] = id.GetKind() + "=" + id.GetValue()
	}
	decisions, err := w.graph.Decide(ev, uint64(len(w.log)+1), func(purpose string) string { return ev.GetId() + "/" + purpose })
	require.NoError(w.t, err)
	w.append(ev, decisions)
	w.log = append(w.log, ev)
}

// Whatever the order of arrival, profiles end up together just as if all
// evidence had been judged at once in the order of occurrence.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		rules := tight
		if seed%3 == 0 {
			rules = nil
		}
		interactions := randomInteractions(r, 20+r.IntN(100), 3+r.IntN(8))
		var want []string
		for round := range 4 {
			w := newWorld(t, rules)
			if round > 0 {
				r.Shuffle(len(interactions), func(i, j int) { interactions[i], interactions[j] = interactions[j], interactions[i] })
			}
			for i, ev := range interactions {
				w.take(ev)
				if r.IntN(10) == 0 {
					w.flush()
				}
				if i%17 == 0 {
					require.Equal(t, oracle(t, w, interactions[:i+1]), w.customers(), "seed %d, round %d, behind %d", seed, round, i)
				}
			}
			got := w.customers()
			if want == nil {
				want = oracle(t, w, interactions)
			}
			require.Equal(t, want, got, "seed %d, round %d", seed, round)
			w.requireNamedByOldest()
			w.requireReplayAgrees()
		}
	}
}

// requireNamedByOldest: a customer is named by his oldest profile.
func (w *world) requireNamedByOldest() {
	w.t.Helper()
	for id := range w.names {
		c, err := w.graph.CustomerOf(testTenant, id)
		require.NoError(w.t, err)
		members, err := w.graph.Members(testTenant, c)
		require.NoError(w.t, err)
		oldest, err := w.graph.oldest(testTenant, members)
		require.NoError(w.t, err)
		require.Equal(w.t, w.names[oldest], w.names[c])
	}
}

// Persons decide in between: their decisions hold, and what arrives afterwards
// may arrive in any order.
func TestDecisionsOutlastLaterLinks(t *testing.T) {
	t.Parallel()
	merges, splits := 0, 0 // that were looked at
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 11))
		people := 3 + r.IntN(6)
		before := randomInteractions(r, 10+r.IntN(40), people)
		after := randomInteractions(r, 10+r.IntN(40), people)
		for i, ev := range after {
			// They occur all over the time, also before the others.
			ev.Id = eventName(1000 + i)
			ev.OccurredTime.Seconds = int64(r.IntN(60))
		}
		var want []string
		for round := range 4 {
			w := newWorld(t, tight)
			choice := rand.New(rand.NewPCG(seed, 13)) // the same persons every time
			for _, ev := range before {
				w.take(ev)
			}
			w.clock = 5000
			var together, apart [][2]string
			for range 3 {
				names := slices.Sorted(func(yield func(string) bool) {
					for _, n := range w.names {
						if !yield(n) {
							return
						}
					}
				})
				a, b := names[choice.IntN(len(names))], names[choice.IntN(len(names))]
				if w.customer(a) != w.customer(b) {
					if _, err := w.merge(a, b); err == nil {
						together = append(together, [2]string{a, b})
					}
				} else if a != b {
					_, err := w.split(a, b)
					require.NoError(t, err)
					apart = append(apart, [2]string{a, b})
				}
			}
			if round > 0 {
				r.Shuffle(len(after), func(i, j int) { after[i], after[j] = after[j], after[i] })
			}
			for _, ev := range after {
				w.take(ev)
			}
			// Only the last word about two counts; here only the last decision is known to be that.
			if n := len(together); n > 0 && len(apart) == 0 {
				merges++
				require.Equal(t, w.customer(together[n-1][0]), w.customer(together[n-1][1]), "seed %d: merged by a person", seed)
			}
			if n := len(apart); n > 0 && len(together) == 0 {
				splits++
				require.NotEqual(t, w.customer(apart[n-1][0]), w.customer(apart[n-1][1]), "seed %d: split by a person", seed)
			}
			if want == nil {
				want = w.customers()
			}
			require.Equal(t, want, w.customers(), "seed %d, round %d", seed, round)
			w.requireReplayAgrees()
		}
	}
	require.Positive(t, merges)
	require.Positive(t, splits)
}

// A split right after a merge brings both customers back as they were.
func TestSplitUndoesMerge(t *testing.T) {
	t.Parallel()
	tried := 0
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 17))
		w := newWorld(t, tight)
		for _, ev := range randomInteractions(r, 40, 6) {
			w.take(ev)
		}
		w.clock = 5000
		names := slices.Sorted(func(yield func(string) bool) {
			for _, n := range w.names {
				if !yield(n) {
					return
				}
			}
		})
		a, b := names[r.IntN(len(names))], names[r.IntN(len(names))]
		if w.customer(a) == w.customer(b) {
			continue
		}
		tried++
		before, ids := w.customers(), w.owners()
		_, err := w.merge(a, b)
		require.NoError(t, err)
		require.Equal(t, w.customer(a), w.customer(b))
		absorbed := w.log[len(w.log)-1].GetPayload().GetCustomersMerged().GetAbsorbedProfileIds()
		var back []string
		for _, id := range absorbed {
			back = append(back, w.names[id])
		}
		said, err := w.split(a, back...)
		require.NoError(t, err)
		require.Equal(t, before, w.customers(), "seed %d: %s", seed, said)
		require.Equal(t, ids, w.owners(), "seed %d", seed)
		w.requireReplayAgrees()
	}
	require.Greater(t, tried, 40)
}

// owners are the customers of all profiles, by name.
func (w *world) owners() map[string]string {
	out := map[string]string{}
	for _, name := range w.names {
		out[name] = w.customer(name)
	}
	return out
}
