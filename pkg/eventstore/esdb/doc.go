// Package esdb keeps the log in an EventStoreDB or KurrentDB cluster.
//
// # Contract
//
// It keeps eventstore.Store without the two capabilities that the cluster
// cannot have: a commit over many streams, and positions that count records.
// One stream's append is bound by the cluster's maximum append size, 1 MiB
// unless it is set otherwise, and refused above it; nothing is split, for what
// is split is not all or nothing. Versions from 23.10 on are needed.
//
// A Position is EventStoreDB's commit position. Streams and types that begin
// with '$' are the cluster's own and never come out, nor does the stream
// parley-log, whose one record is the log's id; of two processes that open an
// empty cluster at the same time one writes it and both read it. A connection
// to a cluster that holds another log is refused.
//
// The user of the connection string must be allowed to read $all, which in
// EventStoreDB are at first the members of $admins, and to append.
//
// No call blocks past its context, nor goes on for longer than Config.Patience
// while the cluster is away; it fails with ErrUnavailable then. Subscriptions
// wait for ever, and say where they are every heartbeat.
//
// # The connection
//
// The official Go client gives the connection string and the protocol. Its
// connection it does not give: there a failed look-out ends a goroutine for
// good while calls wait for it without heeding their context, and closing makes
// them panic; a connection that is found anew loses the old one; reading
// panics at kinds of messages that it does not know, and a malformed time ends
// the process; and a wrong expected revision is told as a text. All this
// happens between its calls, where no wrapper comes to. So the connector here
// keeps a link to the leader, found by gossip where there is a cluster: one
// connection for appends and short questions, one for reads that last, since a
// node takes about 100 calls on each. One goroutine looks for it, calls wait at
// a gate with their contexts. A link that failed, or whose node leads no more,
// gets no further calls and is closed behind its last one; gRPC may not mend it
// by itself, for what answers then has not been looked at.
//
// Everything is asked of the leader, so that whoever appended reads it at once.
//
// # Appends
//
// One append to a stream is on its way at a time, in the order of the calls;
// different streams go side by side, up to Config.AppendsInFlight. Where an
// answer is lost the driver looks whether exactly these ids stand behind the
// expected revision, and sends the append again, at the same revision, where
// they do not. EventStoreDB takes the same ids at the same revision once, but
// does not say that it had them: a success whose position is not beyond what
// the driver knew before is a repetition. So Repeated is exact within a
// process, and for what was there when it began; where two processes append the
// same ids within the same moment both may be told that they were first.
//
// # Subscriptions
//
// One subscription in the cluster, the tail, follows the whole log for all
// subscriptions of the process and keeps the latest records (Config.TailBytes).
// Whoever is near the head reads from it, which costs the cluster nothing and
// makes its place exact also where nothing matches. Whoever is behind it has a
// subscription of its own, with a filter that the cluster applies: prefixes of
// streams, or else types; it is read ahead by at most 2 MiB and 1 MiB on the
// wire, and given up where it has come to the head, or where nobody takes what
// is there for a second: another one goes on behind it.
//
// A position that is handed out is never beyond the log's head, though the
// cluster's own records may be. CaughtUp says that everything was handed out
// that the driver had heard of: by appending, by reading, from the tail, or by
// asking for the head when the subscription and each connection began.
//
// # What EventStoreDB does not guarantee
//
// The recorded time is the leader's clock, and can go back when another node
// leads. Streams can be deleted, truncated and scavenged with the cluster's own
// tools: whoever does that to streams of the log takes away what read models
// were made of, and reading such a stream is ErrCorrupt or begins later.
//
// A position is a place in bytes. From any but a record's the cluster does not
// read: Subscribe takes positions that were handed out, and ReadAll those and
// the one right below a record's; others are ErrInvalid.
//
// # Crashes
//
// The driver keeps nothing. Appends that were on their way when the process or
// the node ended are there whole or not at all; sent again, they are Repeated
// or written.
package esdb
