package pebbleview

import "unicode/utf8"

// Grams are hashed adjacent characters: triples to the first trigrams, pairs
// to the bigrams behind. White space is in none, since no word has any.
const (
	trigrams = 4096
	bigrams  = 1024
	gramSpan = trigrams + bigrams
)

// gramSet is a set of grams that is emptied in no time.
type gramSet struct {
	round uint32
	seen  [gramSpan]uint32
	list  []uint16
}

func (g *gramSet) reset() {
	g.list = g.list[:0]
	if g.round++; g.round == 0 {
		g.seen, g.round = [gramSpan]uint32{}, 1
	}
}

func (g *gramSet) add(gram uint16) {
	if g.seen[gram] != g.round {
		g.seen[gram] = g.round
		g.list = append(g.list, gram)
	}
}

func (g *gramSet) has(gram uint16) bool { return g.seen[gram] == g.round }

// addText adds all grams of a normalised text.
func (g *gramSet) addText(text string) {
	var a, b rune // the characters before; 0 for none
	for _, r := range text {
		if r == ' ' || r == '\n' {
			a, b = 0, 0
			continue
		}
		if b != 0 {
			g.add(bigram(b, r))
			if a != 0 {
				g.add(trigram(a, b, r))
			}
		}
		a, b = b, r
	}
}

// addWord adds the grams that narrow a search for a word down best: triples
// where it has any, else its pair. A single character has none.
func (g *gramSet) addWord(word string) {
	if utf8.RuneCountInString(word) > 2 {
		var a, b rune
		for _, r := range word {
			if a != 0 {
				g.add(trigram(a, b, r))
			}
			a, b = b, r
		}
		return
	}
	var a rune
	for _, r := range word {
		if a != 0 {
			g.add(bigram(a, r))
		}
		a = r
	}
}

// The hashes are stored: changing them is a change of the format.
func trigram(a, b, c rune) uint16 {
	h := (uint32(a)*0x9E3779B1 ^ uint32(b)) * 0x85EBCA6B
	h = (h ^ h>>15 ^ uint32(c)) * 0xC2B2AE35
	return uint16(h >> 20) // the upper 12 bits
}

func bigram(a, b rune) uint16 {
	h := (uint32(a)*0x9E3779B1 ^ uint32(b)) * 0x85EBCA6B
	return trigrams + uint16(h>>22) // the upper 10 bits
}
