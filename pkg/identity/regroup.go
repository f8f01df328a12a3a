package identity

import (
	"cmp"
	"maps"
	"slices"
)

// regroup judges all evidence around some customers anew, in its order, and
// says who belongs together: first what persons decided, then link by link.
//
// It looks at the customers that were given. What links them with others was
// refused, and is judged again with the others as they are; only where such a
// link is not refused any more the other customer is taken in, and all begins
// anew. So a customer far away is not looked at, however many refused links
// lead there, and the outcome is the one of judging the whole graph.
//
// ok is false where this would take in more than maxRegroup profiles.
func (g *Graph) regroup(tenant string, customers ...string) (*region, bool, error) {
	inside := map[string]bool{}
	for _, c := range customers {
		inside[c] = true
	}
	for {
		r := &region{g: g, tenant: tenant, rules: g.rules(tenant), inside: inside, index: map[string]int{}}
		if err := r.load(); err != nil {
			return nil, false, err
		}
		if len(r.nodes) > maxRegroup {
			return nil, false, nil
		}
		r.judgeAll()
		if r.taken == "" {
			return r, true, nil
		}
		inside[r.taken] = true
	}
}

// maxRegroup bounds the profiles that are judged anew at once, and with them
// the time that one late interaction may take: some tens of milliseconds.
const maxRegroup = 4_000

// region is a part of the graph under judgement.
type region struct {
	g      *Graph
	tenant string
	rules  *Rules
	// inside are the customers whose profiles may change hands.
	inside map[string]bool
	// taken is a customer that has to be taken in, if any.
	taken string

	index map[string]int // of nodes, by profile
	nodes []node
	edges []edge
	// refusals by edge, of those that do not link.
	refusals map[int]refusal
}

type node struct {
	id       string
	profile  Profile
	customer string
	parent   int  // of the union-find
	side     side // of a root
}

type edge struct {
	a, b int
	Link
}

// load brings in the customers inside, those whom a refused link leads to, and
// all links among the former and within the latter.
func (r *region) load() error {
	for _, c := range slices.Sorted(maps.Keys(r.inside)) {
		if err := r.addCustomer(c); err != nil {
			return err
		}
	}
	within := len(r.nodes)
	outside := map[string]bool{}
	for i := range within {
		for _, l := range r.nodes[i].profile.Links {
			if _, there := r.index[l.Other]; there {
				continue
			}
			c, err := r.g.CustomerOf(r.tenant, l.Other)
			if err != nil {
				return err
			}
			outside[c] = true
		}
		if len(outside) > maxRegroup {
			break
		}
	}
	for _, c := range slices.Sorted(maps.Keys(outside)) {
		if err := r.addCustomer(c); err != nil {
			return err
		}
		if len(r.nodes) > maxRegroup {
			return nil
		}
	}
	for i := range r.nodes {
		for _, l := range r.nodes[i].profile.Links {
			j, there := r.index[l.Other]
			// Each once; between two customers outside nothing changes.
			if !there || l.Other < r.nodes[i].id || i >= within && j >= within && r.nodes[i].customer != r.nodes[j].customer {
				continue
			}
			r.edges = append(r.edges, edge{i, j, l})
		}
	}
	slices.SortFunc(r.edges, func(x, y edge) int {
		return cmp.Or(x.Order.compare(y.Order), cmp.Compare(r.nodes[x.a].id, r.nodes[y.a].id), cmp.Compare(r.nodes[x.b].id, r.nodes[y.b].id))
	})
	return nil
}

func (r *region) addCustomer(id string) error {
	c, err := r.g.component(r.tenant, id)
	if err != nil {
		return err
	}
	for _, m := range c.Members {
		p, _, err := r.g.profile(r.tenant, m)
		if err != nil {
			return err
		}
		r.index[m] = len(r.nodes)
		n := node{id: m, profile: p, customer: id, parent: len(r.nodes), side: side{size: 1, apart: p.Apart}}
		n.side.kinds = addKind(nil, p.Kind, 1)
		r.nodes = append(r.nodes, n)
	}
	return nil
}

func (r *region) judgeAll() {
	groups := map[Mark]int{}
	for i := range r.nodes {
		m := r.nodes[i].profile.Group
		if m.isZero() {
			continue
		}
		if first, there := groups[m]; there {
			r.union(r.root(first), r.root(i))
		} else {
			groups[m] = i
		}
	}
	r.refusals = map[int]refusal{}
	for i := range r.edges {
		e := &r.edges[i]
		if r.nodes[e.a].profile.Shared != 0 || r.nodes[e.b].profile.Shared != 0 {
			continue
		}
		a, b := r.root(e.a), r.root(e.b)
		if a == b {
			continue
		}
		if no := judge(r.rules, r.nodes[a].side, r.nodes[b].side); no.refused() {
			r.refusals[i] = no
			continue
		}
		for _, end := range [...]int{e.a, e.b} {
			if c := r.nodes[end].customer; !r.inside[c] && r.nodes[e.a].customer != r.nodes[e.b].customer {
				r.taken = c
				return
			}
		}
		r.union(a, b)
	}
}

func (r *region) root(i int) int {
	for r.nodes[i].parent != i {
		r.nodes[i].parent = r.nodes[r.nodes[i].parent].parent
		i = r.nodes[i].parent
	}
	return i
}

func (r *region) union(a, b int) {
	if a == b {
		return
	}
	if r.nodes[a].side.size < r.nodes[b].side.size {
		a, b = b, a
	}
	r.nodes[a].side = unite(r.nodes[a].side, r.nodes[b].side)
	r.nodes[b].parent = a
}

// together says whether two profiles within are one customer's.
func (r *region) together(a, b string) bool {
	return r.root(r.index[a]) == r.root(r.index[b])
}

// refusalOf a pair of profiles, if it was refused.
func (r *region) refusalOf(a, b string) refusal {
	for i, no := range r.refusals {
		e := &r.edges[i]
		x, y := r.nodes[e.a].id, r.nodes[e.b].id
		if x == a && y == b || x == b && y == a {
			return no
		}
	}
	return refusal{}
}

// changed are the links whose outcome is another one now, in their order.
func (r *region) changed() []change {
	var out []change
	for i := range r.edges {
		e := &r.edges[i]
		a, b := &r.nodes[e.a], &r.nodes[e.b]
		if a.profile.Shared != 0 || b.profile.Shared != 0 || !r.inside[a.customer] || !r.inside[b.customer] {
			continue
		}
		before, now := a.customer == b.customer, r.root(e.a) == r.root(e.b)
		if before != now {
			out = append(out, change{a: a.id, b: b.id, link: e.Link, together: now, refusal: r.refusals[i]})
		}
	}
	return out
}

// change is a link whose outcome is another one than it was.
type change struct {
	a, b     string
	link     Link
	together bool
	refusal  refusal
}

// part is what becomes of some of a customer's profiles.
type part struct {
	customer string
	root     int // of whom they belong to now
	members  []string
	first    uint64 // of the oldest of them, with its name
	oldest   string
}

// parts are the customers inside by whom their profiles belong to now, in the
// order of the customers' names; of each customer the part that keeps his
// name first.
func (r *region) parts() []part {
	var parts []part
	type owner struct {
		customer string
		root     int
	}
	at := map[owner]int{}
	for i := range r.nodes {
		n := &r.nodes[i]
		if !r.inside[n.customer] {
			continue
		}
		o := owner{n.customer, r.root(i)}
		k, there := at[o]
		if !there {
			k = len(parts)
			at[o] = k
			parts = append(parts, part{customer: n.customer, root: o.root, first: unseen})
		}
		p := &parts[k]
		p.members = append(p.members, n.id)
		if p.oldest == "" || cmp.Or(cmp.Compare(n.profile.First, p.first), cmp.Compare(n.id, p.oldest)) < 0 {
			p.first, p.oldest = n.profile.First, n.id
		}
	}
	keeps := func(p *part) int {
		if slices.Contains(p.members, p.customer) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(parts, func(x, y part) int {
		return cmp.Or(cmp.Compare(x.customer, y.customer), cmp.Compare(keeps(&x), keeps(&y)), cmp.Compare(x.first, y.first), cmp.Compare(x.oldest, y.oldest))
	})
	return parts
}
