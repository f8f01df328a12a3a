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
// An identifier that its source does not vouch for links nothing. Where a check failed (a
// mail that is not from whom it says), it is a claim: a profile of its own
// beside the one of the same value.
//
// [Graph] folds the identity events of the log. Membership, which customer a
// profile belongs to, follows CustomersMerged and CustomersSplit only; a
// profile that neither names is a customer by itself. LinkAsserted and
// LinkRefused are the evidence: which pairs were looked at, and with what
// outcome.
//
// # Evidence and its order
//
// Two profiles that an interaction names as the same person's are evidence.
// All evidence is judged in the order of occurrence (time, event id), whatever
// the order of arrival: each pair makes one customer of two unless that would
// break a limit. What breaks a limit once breaks it for ever, since customers
// only grow by judging; so only the earliest evidence about a pair counts, and
// what comes last in the order can be judged by itself, which is what nearly
// always happens. Evidence that arrives late is judged with all around it
// ([Graph.Decide]), and what was decided against it is taken back: links flip,
// customers are split and merged, each by an event.
//
// An identifier that is not unique itself and is seen with more unique ones
// than its kind allows is shared (a kiosk, the mailbox of a department): its
// links count for nothing, those made before included.
//
// # What persons decide
//
// [Graph.Merge] and [Graph.Split] are judged before all evidence. The profiles of one side
// of a decision stay together, those of different sides apart, until a later
// decision about them. No limit but the greatest size holds for it.
//
// # Invariants
//
//   - Every profile belongs to exactly one customer, and every profile id ever
//     given out resolves for ever.
//   - A customer is named by the oldest of his profiles.
//   - A customer has at most as many identifiers of a kind as its limit, one
//     user id among them, unless a person decided otherwise.
//   - A shared identifier is never linked.
//   - Deciding and folding what was decided gives the same graph as folding it
//     from the log.
//   - Which profiles are one customer does not depend on the order in which
//     interactions arrive, as long as none of them has over 10,000 links and no
//     more than 4,000 profiles have to be judged at once. Beyond that evidence
//     counts as if it had come last.
//
// # Crash behaviour
//
// The graph is a projection of the log. What it has decided, but the log does
// not have, is dropped by [Graph.Discard] or with the process.
package identity
