package pgview

import (
	"hash/fnv"
	"slices"
	"unicode/utf8"
)

// Texts are found by their grams: triples of adjacent characters, hashed. They
// are not pebbleview's: a GIN index has room for all of a hash's bits and
// suffers from each gram that is kept, so there are no pairs but of characters
// as of U+1100, in whose scripts two are a name. White space is in none.
//
// A gram is hashed with the text's tenant and block, blockSize documents that
// were numbered one after the other. So a search looks at a tenant's texts
// alone, block by block, and can stop between any two.
const (
	blockBits = 12
	blockSize = 1 << blockBits

	firstOfPairs = 0x1100
)

// salt is what a tenant's grams in a block are hashed with.
func salt(tenant string, block int32) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tenant)) // never fails
	return (h.Sum32() ^ uint32(block)*0x9E3779B1) * 0x85EBCA6B
}

// textGrams appends all grams of a normalised text, each once.
func textGrams(dst []int32, salt uint32, text string) []int32 {
	from := len(dst)
	var a, b rune // the characters before; 0 for none
	for _, r := range text {
		if r == ' ' || r == '\n' {
			a, b = 0, 0
			continue
		}
		if b != 0 && (b >= firstOfPairs || r >= firstOfPairs) {
			dst = append(dst, hashGram(salt, 0, b, r))
		}
		if a != 0 {
			dst = append(dst, hashGram(salt, a, b, r))
		}
		a, b = b, r
	}
	slices.Sort(dst[from:])
	return dst[:from+len(slices.Compact(dst[from:]))]
}

// maxGrams of a query are looked up in each block; more narrow down no further.
const maxGrams = 6

// wordGrams gives the grams that narrow a search for words down best; none
// where the words are too short to have any.
func wordGrams(salt uint32, words []string) []int32 {
	var all []int32
	for _, word := range words {
		runes := []rune(word)
		if len(runes) > 2 {
			for i := range runes[2:] {
				all = append(all, hashGram(salt, runes[i], runes[i+1], runes[i+2]))
			}
			continue
		}
		if utf8.RuneCountInString(word) == 2 && (runes[0] >= firstOfPairs || runes[1] >= firstOfPairs) {
			all = append(all, hashGram(salt, 0, runes[0], runes[1]))
		}
	}
	if len(all) <= maxGrams {
		return all
	}
	// From all over the query.
	chosen := make([]int32, 0, maxGrams)
	for i := range maxGrams {
		chosen = append(chosen, all[i*(len(all)-1)/(maxGrams-1)])
	}
	return chosen
}

// The hashes are stored: changing them is a change of the format.
func hashGram(salt uint32, a, b, c rune) int32 {
	h := (salt ^ uint32(a)*0x9E3779B1 ^ uint32(b)) * 0x85EBCA6B
	h = (h ^ h>>15 ^ uint32(c)) * 0xC2B2AE35
	return int32(h ^ h>>13)
}
