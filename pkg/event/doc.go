// Package event is what Parley knows of events: the catalogue of their types,
// how they are stored, what their ids, times and streams are, and what bounds
// they keep.
//
// # Stored form
//
// An event is stored as the bytes of one parley.event.v1.Event in which the
// personal fields stand apart in `sealed`, as the bytes of an Event that has
// only them. Personal are the fields that the contract marks, at the top level
// of Event and of the payload's message, and all that the contract does not
// know. Parsing the record and merging `sealed` gives the whole. An event that
// names a payload key has `sealed` encrypted; without the key it is read
// without its personal part, and everything else stays as it was. Whatever
// reads payloads goes through Codec, which does all of this; a record can be
// told apart (IsEvent) and routed (PeekRouting) without.
//
// # Ids
//
// What comes from outside has a DeterministicID, what another event causes a
// DerivedID, what starts here a UUID of version 7. The first two are written
// into logs for ever: how they are made never changes.
//
// # Versions
//
// A payload's schema may change; readers never see an older version than the
// current one, since Codec brings every event up when it decodes. What is
// stored is never rewritten: an event keeps the type, the version and the bytes
// that it was written with. So numbers and types of fields are for ever, and a
// field that nobody fills any more is marked deprecated and kept.
//
// Upcasters are pure functions of the event and run in a chain, each from one
// version to the next. A version without an upcaster is ErrNoUpcaster, not a
// guess. An event of a newer version than this binary knows is handed out as
// it is, without the fields that are new.
//
// What follows are the three changes that there are. What a projection does
// about each is told in package projection, whose tests of these recipes go from
// records of the old shape to the rollback.
//
// # To add a field
//
//  1. Add it to the message with a number of its own, its bound, and the mark of
//     what is personal where it is. Empty must mean that it was not said, as in
//     all events so far; where these should have a value that follows from
//     other fields, it is a change of meaning (below).
//  2. Leave schema_version as it is. There is no upcaster.
//
// No order of deployment loses anything: a binary that does not know the field
// keeps it, among what is personal, and passes over it. For the same reason
// there is nothing to roll back in the log.
//
// # To rename a field, or to change what it means
//
//  1. Keep the old field in the message, marked deprecated, and add the new one.
//  2. Raise schema_version in the message's EventType option by one.
//  3. Register an upcaster from the old version (WithUpcaster), wherever a
//     process makes its Codec. It fills the new field from the old one and clears
//     the old one; its example shows one. A new field that is filled already
//     stays: producers that leave schema_version out are taken to write version 1.
//  4. Fill the new field only. What looks at events that no Codec has decoded, as
//     the recorder does with those that come in, reads both fields until the
//     last writer of the old one is gone.
//
// # To split a type
//
//  1. Add the new types to the catalogue, in version 1. Keep the old one with its
//     message: what is stored has it for ever. The same goes for a type whose
//     meaning changes altogether.
//  2. Write one function that says of an event of any of them what it is, and have
//     everything that reads (folds, policies, Summary) ask that one. The example
//     of a split type shows it. An upcaster cannot do this: subscriptions and
//     projections choose by the type that the record has, and decode only what
//     they chose. Upcasters change the payload within its type.
//  3. Write the new types only.
//
// # In which order to deploy, and to roll back
//
// In one process there is no order to mind. With several, replace
//
//  1. the recorder and its standbys, since it puts types and versions that it
//     does not know into quarantine;
//  2. whatever reads the log: read models, the feed, policies;
//  3. whatever writes: gateways and importers, last.
//
// Roll back in the opposite order, writers first. A reader of the old binary that
// meets events of the new shape neither fails nor waits: of a renamed field it
// sees nothing, and types that it does not know it passes over. What it
// computes of them is wrong until it is computed anew; what the new binary has
// computed beside it is not touched.
//
// # What is kept for Parley itself
//
// Some types say what Parley or its operators decided (ReservedType), and some
// tenants' names are nobody's (ReservedTenant). Nothing that comes in from
// outside has either.
//
// # Crashes
//
// Nothing here keeps state.
package event
