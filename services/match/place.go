package match

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
)

// place is where a pair stands in every list: the heaviest first, then by ids,
// the lesser one first.
type place struct {
	weight float64
	a, b   string
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(other.weight, p.weight), cmp.Compare(p.a, other.a), cmp.Compare(p.b, other.b))
}

func placeOf(weight float64, a, b string) place {
	return place{weight: weight, a: min(a, b), b: max(a, b)}
}

// maxPlaceID is the longest id in bytes that a cursor holds; those that
// profiles have are of 26.
const maxPlaceID = 255

func (p place) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(p.weight))
	b = append(b, byte(min(len(p.a), maxPlaceID)))
	b = append(b, p.a[:min(len(p.a), maxPlaceID)]...)
	return append(b, p.b[:min(len(p.b), maxPlaceID)]...)
}

var errPlace = errors.New("no place in a list of pairs")

func parsePlace(b []byte) (place, error) {
	const fixed = 9
	if len(b) < fixed {
		return place{}, errPlace
	}
	weight := math.Float64frombits(binary.BigEndian.Uint64(b))
	n := int(b[8])
	if math.IsNaN(weight) || len(b)-fixed < n || len(b)-fixed-n > maxPlaceID {
		return place{}, errPlace
	}
	return place{weight: weight, a: string(b[fixed : fixed+n]), b: string(b[fixed+n:])}, nil
}
