// Package match suggests which customers may be one person, and fits the
// tenant's model by which it does.
//
// # Contract
//
// A read model keeps of each customer what can be compared (MatchRecord) and an
// index of the blocking keys over it. FitMatchModel learns a model from all
// records of a tenant (package pkg/identity/match), appends it to the tenant's
// log as ModelFitted, searches for pairs, and links those over the tenant's
// own threshold, where the rules of who is who name one. ListMergeCandidates
// finds the pairs of one customer by the index, or gives the tenant's pairs as
// of the last search. It only suggests: customers are joined by the recorder
// alone, upon a person's or a model's command, and what a person told apart is
// neither listed nor linked.
//
// # Invariants
//
//   - A record is a fold that combines: that of all events is the combination
//     of those of any partition of them, in any order of arrival.
//   - Scores are pure functions of the model's event and the two records. A
//     model of another version of the comparisons is not used.
//   - Only what stands on the tenant's matching stream is taken for a model.
//   - A tenant has one job at a time; the server has Deps.Jobs. A job goes on
//     where its caller goes away, and ends with the server.
//   - Repeating a search or a linking does no harm: the id of a link's command
//     derives from the model's event and the pair.
//
// # Crash behaviour
//
// Records, rows and the checkpoint are committed together by the projection
// engine. The list of a tenant's pairs is in memory only, being a function of
// log and model; after a restart the first to ask for it has it searched for
// again. A job that a crash interrupts leaves its model or not, and some of its
// links; the next one does the rest.
package match
