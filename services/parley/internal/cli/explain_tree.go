package cli

import (
	"fmt"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// maxTreeDepth is how far a tree is followed: deeper ones are wider than any
// terminal.
const maxTreeDepth = 32

// identityTree is the graph of one customer as a tree: of what holds his
// profiles together the earliest that suffices, the way they came together,
// seen from his oldest profile.
type identityTree struct {
	nodes []treeNode // in the order of their distance from the root, which is the first
	// spare are links in force between profiles that were one without them.
	spare int
}

type treeNode struct {
	profile  *customerv1.ExplainedProfile
	parent   int // -1 for the root
	depth    int
	children []int
	size     int // of the subtree, with itself
	edge     treeEdge
}

// treeEdge is what joins a profile with its parent; neither for one whose
// reason is not among what was answered.
type treeEdge struct {
	link     *customerv1.ExplainedLink
	decision *customerv1.IdentityDecision
}

// neighbour is the other end of an edge.
type neighbour struct {
	at   int
	edge treeEdge
}

// forest joins profiles into components (union by halving paths).
type forest []int

func (f forest) find(i int) int {
	for f[i] != i {
		f[i] = f[f[i]]
		i = f[i]
	}
	return i
}

// join says whether the two were apart. The older one's component goes on.
func (f forest) join(i, j int) bool {
	i, j = f.find(i), f.find(j)
	f[max(i, j)] = min(i, j)
	return i != j
}

// newIdentityTree builds the tree: links in the order of evidence, then what
// people merged, then what is left, below the root. It has every profile once.
func newIdentityTree(graph *customerv1.ExplainIdentityResponse) *identityTree {
	t := &identityTree{}
	var profiles []*customerv1.ExplainedProfile
	index := make(map[string]int, len(graph.GetProfiles()))
	for _, p := range graph.GetProfiles() {
		if _, again := index[p.GetProfileId()]; !again {
			index[p.GetProfileId()] = len(profiles)
			profiles = append(profiles, p)
		}
	}
	if len(profiles) == 0 {
		return t
	}
	parts := make(forest, len(profiles))
	for i := range parts {
		parts[i] = i
	}
	edges := make([][]neighbour, len(profiles))
	join := func(i, j int, e treeEdge) bool {
		if !parts.join(i, j) {
			return false
		}
		edges[i] = append(edges[i], neighbour{j, e})
		edges[j] = append(edges[j], neighbour{i, e})
		return true
	}
	for _, l := range graph.GetLinks() {
		i, one := index[l.GetProfileId()]
		j, other := index[l.GetOtherProfileId()]
		if one && other && holds(l) && !join(i, j, treeEdge{link: l}) {
			t.spare++
		}
	}
	for _, d := range graph.GetDecisions() {
		i, one := index[d.GetCustomerId()]
		j, other := index[d.GetOtherCustomerId()]
		if one && other && d.GetAction() == customerv1.IdentityAction_IDENTITY_ACTION_MERGED {
			join(i, j, treeEdge{decision: d})
		}
	}
	for i := range profiles {
		join(0, i, treeEdge{})
	}
	t.walk(profiles, edges)
	return t
}

// holds says that a link is made and in force.
func holds(l *customerv1.ExplainedLink) bool {
	return l.GetInForce() && l.GetRefusal() == eventv1.LinkRefusal_LINK_REFUSAL_UNSPECIFIED
}

// walk goes from the root outwards.
func (t *identityTree) walk(profiles []*customerv1.ExplainedProfile, edges [][]neighbour) {
	place := make([]int, len(profiles)) // of each profile, 1 and up; 0 where it was not met yet
	at := make([]int, 0, len(profiles))
	add := func(i int, n treeNode) {
		n.profile, n.size = profiles[i], 1
		t.nodes = append(t.nodes, n)
		at = append(at, i)
		place[i] = len(t.nodes)
	}
	add(0, treeNode{parent: -1})
	for n := range profiles { // all hang together: the n-th node is there by then
		for _, next := range edges[at[n]] {
			if place[next.at] == 0 {
				t.nodes[n].children = append(t.nodes[n].children, len(t.nodes))
				add(next.at, treeNode{parent: n, depth: t.nodes[n].depth + 1, edge: next.edge})
			}
		}
	}
	for n := len(t.nodes) - 1; n > 0; n-- {
		t.nodes[t.nodes[n].parent].size += t.nodes[n].size
	}
}

// treeRow is a line of a drawn tree: the branch with the profile, and the
// cells beside it; a line for profiles left out has none.
type treeRow struct {
	label string
	cells []string
}

// rows draws the tree: the profiles nearest to the root, at most limit unless
// that is 0, and where others are left out how many.
func (t *identityTree) rows(limit int, s strokes, cells func(treeNode) []string) []treeRow {
	if len(t.nodes) == 0 {
		return nil
	}
	if limit == 0 {
		limit = len(t.nodes)
	}
	shown := func(n int) bool { return n < limit && t.nodes[n].depth < maxTreeDepth }
	var rows []treeRow
	var draw func(n int, before, below string)
	draw = func(n int, before, below string) { // at most maxTreeDepth deep
		node := t.nodes[n]
		rows = append(rows, treeRow{label: before + profileLabel(node.profile), cells: cells(node)})
		hidden := 0
		for _, c := range node.children {
			if !shown(c) {
				hidden += t.nodes[c].size
			}
		}
		for i, c := range node.children {
			if !shown(c) {
				continue // the children stand in the order of the nodes: what follows is left out too
			}
			branch, under := s.branch, s.down
			if hidden == 0 && i == len(node.children)-1 {
				branch, under = s.last, s.gap
			}
			draw(c, below+branch, below+under)
		}
		if hidden > 0 {
			rows = append(rows, treeRow{label: below + s.last + moreText(hidden, "more", s)})
		}
	}
	draw(0, "", "")
	return rows
}

// moreText says how many a list leaves out.
func moreText(n int, what string, s strokes) string {
	return fmt.Sprintf("%s and %d %s; -o json has all", s.more, n, what)
}

// profileLabel is a profile by its identifier; by its id where none was told.
func profileLabel(p *customerv1.ExplainedProfile) string {
	if p.GetKind() == "" {
		return "profile " + cell(p.GetProfileId())
	}
	return cell(p.GetKind() + " " + p.GetValue())
}

// strengthOf is how surely a profile's identifier names one person.
func strengthOf(p *customerv1.ExplainedProfile) string {
	text := enum(p.GetStrength().String(), "IDENTIFIER_STRENGTH_")
	if p.GetShared() {
		return "shared"
	}
	return text
}
