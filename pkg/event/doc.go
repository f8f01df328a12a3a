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
// A payload's schema may grow; readers never see an older version than the
// current one, since Codec brings every event up when it decodes. What is
// stored is never rewritten. To change what a field means, or to rename one:
//
//  1. Keep the old field in the proto, marked deprecated, and add the new one.
//  2. Raise schema_version in the message's EventType option by one.
//  3. Register an upcaster from the old version (WithUpcaster) that fills the
//     new field from the old one and clears the old one; its example shows one.
//
// Upcasters are pure functions of the event and run in a chain, each from one
// version to the next. A version without an upcaster is ErrNoUpcaster, not a
// guess. An event of a newer version than this binary knows is handed out as
// it is. A type whose meaning changes altogether gets a new name instead.
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
