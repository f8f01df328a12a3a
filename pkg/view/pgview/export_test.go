package pgview

import "context"

// OpenAs opens a store on a server that says that it is of a version.
func OpenAs(ctx context.Context, cfg Config, version int) (*Store, error) {
	return open(ctx, cfg, hooks{version: version})
}

// FewDocuments is up to how many a commit is one round trip.
const FewDocuments = fewDocuments

// Names are what a namer makes of names, in their order.
func Names(want ...string) []string {
	n := names{}
	var all []string
	for _, name := range want {
		all = append(all, n.take(name))
	}
	return all
}

// SchemaName is that of a generation.
var SchemaName = schemaName

// Classify is for errors of all kinds.
var Classify = classify

// BlockSize is how many texts are in a block.
const BlockSize = blockSize

// LockClass of the store's advisory locks.
func LockClass(s *Store) int32 { return s.lockClass() }

// Grams are those of a text with a number.
func Grams(tenant string, number int32, text string) []int32 {
	return textGrams(nil, salt(tenant, number>>blockBits), text)
}
