package recorder

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
)

// byStream is the whole log, stream by stream, byte for byte.
func (g *rig) byStream() map[string][]string {
	g.t.Helper()
	streams := map[string][]string{}
	for _, rec := range g.records() {
		require.EqualValues(g.t, len(streams[rec.Stream]), rec.Revision)
		streams[rec.Stream] = append(streams[rec.Stream], fmt.Sprintf("%s %s %x %s", rec.ID, rec.Type, rec.Data, rec.Metadata))
	}
	return streams
}

// portableIndex is the index without what differs from log to log: a position
// is told by stream and revision, and when a profile was first seen by its rank
// within the tenant.
func (g *rig) portableIndex() map[string]string {
	g.t.Helper()
	places := map[eventstore.Position]string{}
	for _, rec := range g.records() {
		places[rec.Position] = fmt.Sprintf("%s@%d", rec.Stream, int64(rec.Revision))
	}
	contents := g.index.contents(g.t)
	firsts := map[string][]uint64{} // by tenant
	first := func(key, value string) (tenant string, n uint64, rest string) {
		n, size := binary.Uvarint([]byte(value))
		require.Positive(g.t, size)
		tenant, _, _ = strings.Cut(key[1:], "\x00")
		return tenant, n, value[size:]
	}
	for key, value := range contents {
		if key[0] == 'p' {
			var p identity.Profile
			require.NoError(g.t, p.UnmarshalBinary([]byte(value)))
			tenant, n, _ := first(key, value)
			require.Equal(g.t, p.First, n, "a profile's record begins with it")
			firsts[tenant] = append(firsts[tenant], n)
		}
	}
	for _, all := range firsts {
		slices.Sort(all)
	}
	portable := map[string]string{}
	for key, value := range contents {
		switch key[0] {
		case 'M':
			continue
		case 'e':
			_, position, rest := first(key, value)
			require.NotEmpty(g.t, places[eventstore.Position(position)], "a record stands there")
			value = places[eventstore.Position(position)] + " " + rest
		case 'p', 'k':
			tenant, n, rest := first(key, value)
			rank, _ := slices.BinarySearch(firsts[tenant], n)
			value = fmt.Sprint(rank, " ", rest)
		default:
		}
		portable[key] = value
	}
	return portable
}

// whoIsWho is what the index knows of each profile, by whatever name: the
// evidence, with whom it is one customer, whom persons hold it together with and
// apart from.
func (g *rig) whoIsWho() map[string]string {
	g.t.Helper()
	profiles := map[string]map[string]identity.Profile{} // by tenant and name
	for key, value := range g.index.contents(g.t) {
		if key[0] != 'p' {
			continue
		}
		tenant, name, _ := strings.Cut(key[1:], "\x00")
		if profiles[tenant] == nil {
			profiles[tenant] = map[string]identity.Profile{}
		}
		var p identity.Profile
		require.NoError(g.t, p.UnmarshalBinary([]byte(value)))
		if p.Customer == "" {
			p.Customer = name
		}
		profiles[tenant][name] = p
	}
	known := map[string]string{}
	for tenant, all := range profiles {
		for name, p := range all {
			var same, held, apart []string
			for other, o := range all {
				if o.Customer == p.Customer {
					same = append(same, other)
				}
				if o.Group == p.Group && p.Group != (identity.Mark{}) {
					held = append(held, other)
				}
				if slices.ContainsFunc(p.Apart, func(m identity.Mark) bool {
					return slices.Contains(o.Apart, identity.Mark{Decision: m.Decision, Side: 1 - m.Side})
				}) {
					apart = append(apart, other)
				}
			}
			slices.Sort(same)
			slices.Sort(held)
			slices.Sort(apart)
			known[tenant+" "+name] = fmt.Sprint(p.Kind, p.Shared, same, held, apart, p.Links)
		}
	}
	return known
}
