// Package credential knows API keys: how they are made, how a configuration
// names them without holding them, and whom a presented one stands for.
//
// Contract: a key is 256 random bits behind a prefix by which leaked ones are
// found; a configuration holds only its SHA-256. A plain hash suffices because
// there is nothing to guess: the slow hashes are for passwords. A key belongs
// to one tenant, records as one source and is limited to scopes.
//
// Invariants: an unknown key identifies nobody, and how long the refusal takes
// says nothing about the keys there are. Keys is immutable and may be used
// concurrently. The package keeps no state, so a crash concerns it in no way.
package credential
