// Package customer keeps the customer 360 and the timeline, and serves both.
//
// It is one read model in two shapes. The customer document
// (parley.customer.v1.Customer) is a fold over the events of each profile that
// also combines: the fold of all events is the combination of the folds of any
// partition of them, in any order of arrival. So a merge or a split of customers
// recombines documents and replays nothing. The timeline is one row for every
// interaction, keyed by its profile, so that a merge rewrites none of them;
// reading one merges the rows of the customer's profiles.
//
// Invariants: the fold reads no clock, no randomness and no map; every list of
// a document is sorted by a fixed total order and bounded by it (see limits.go); a
// document stored is the very message that GetCustomer sends, and behind it
// what only folding needs (see working.go).
//
// Crash behaviour: documents, rows and the checkpoint are committed together by
// the projection engine; this package keeps nothing else.
package customer
