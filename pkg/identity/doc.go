// Package identity answers "who is this?": it normalises identifiers, names
// the profile that each of them is, and keeps the graph in which linked
// profiles are one customer.
//
// # Contract
//
// An identifier (kind and value) is normalised by the rules of its kind, or it
// identifies nobody: it is malformed, a placeholder such as `null`, or a
// withheld number. A normalised identifier is a profile; its id is a keyed
// hash, so that nothing about the person can be read from it. The profile of
// an event is that of its own strongest customer identifier. All of that is a
// pure function of the event, the rules and the tenant's secret: [Resolver].
//
// [Graph] folds the identity events of the log. Membership, which customer a
// profile belongs to, follows CustomersMerged and CustomersSplit only; a
// profile that neither names is a customer by itself. LinkAsserted and
// LinkRefused are the evidence: which pairs were looked at, and with what
// outcome. [Graph.Decide] says which of these events an interaction causes.
//
// # Invariants
//
//   - Every profile belongs to exactly one customer, and every profile id ever
//     given out resolves for ever.
//   - A customer has at most as many identifiers of a kind as its limit, one
//     user id among them, unless a person decided otherwise.
//   - A shared identifier is never linked.
//   - Deciding and folding what was decided gives the same graph as folding it
//     from the log.
//   - Where nothing is refused, which profiles are one customer does not
//     depend on the order of arrival.
//
// # Crash behaviour
//
// The graph is a projection of the log. What it has decided, but the log does
// not have, is dropped by [Graph.Discard] or with the process.
package identity
