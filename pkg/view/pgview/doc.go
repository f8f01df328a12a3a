// Package pgview keeps views in Postgres.
//
// # Contract
//
// It keeps view.Store, and answers as the embedded driver (view/pebbleview)
// does: the same documents, byte for byte, in the same order, with the same
// cursors and digests. Several processes may have a store open at once and
// read all of it; who writes a generation is settled by fencing tokens. It
// needs Postgres 13 or newer, a database with the encoding UTF8, and a user who
// may create schemas in it; no extension.
//
// # Layout
//
// Parley's own tables are in the schema of Config.Schema, with a version that
// migrations raise:
//
//	parley.migrations    the versions so far
//	parley.generations   a generation: its schema, newest fencing token, checkpoint, commits
//	parley.controls      control records
//
// Every generation has a schema, such as parley_customer_v2_g1, and in it
//
//	<collection>           tenant, id, document, meta, terms
//	<collection>           tenant, value_1 …, id, document, meta: a clustered one
//	<collection>__<index>  tenant, value_1 …, id: an ordered index; its entries
//	<collection>__<index>  tenant, id, number, text, grams: a text index
//
// Texts have the collation "C", so they order by bytes. A document is jsonb in
// protobuf's JSON form (package jsonform says where it differs), for people
// with SQL and for dashboards; opaque documents are bytea. meta and terms are
// the writer's bookkeeping. A namespace that is used again after a drop gets
// another schema, so that whoever has the dropped generation open can never
// take the new one's rows for it. Names that Postgres would cut are shortened
// with a hash. Nobody but Parley writes here; reading is welcome, views upon the
// tables go with the generation.
//
// The JSON has names where protobuf has numbers. A message that lost or renamed
// a field or an enum value since documents were written is refused with
// view.ErrSchema when the generation is opened: raise the projection's version.
//
// # Commits
//
// A commit first takes the generation's row, which checks the token, moves the
// checkpoint, and makes whoever comes too late fail. Up to 256 documents go in
// one round trip: one statement for each table that changes, with an array for
// each of its columns. More go by COPY straight into their tables where they
// are new, else through the same statements in portions.
//
// The row also counts commits. A server that comes back without the last ones
// (a standby that took over, or one with synchronous_commit off) is noticed by
// the count: the commit fails with view.ErrUnavailable, and the writer goes on at
// the checkpoint. Where a connection broke during a commit its outcome is not
// known and the error says so; the checkpoint tells.
//
// Fence and SaveControl survive a crash whatever synchronous_commit says. A
// commit of a process that hangs would hold up its successor: its session is
// ended after two seconds.
//
// # Reads
//
// A read is one round trip, but for Search and Scan, and sees one state. A
// snapshot is a read-only transaction on a connection of its own; half of the
// connections at most are given to them. One that lies unused for ten minutes is
// ended by the server. While one is open Postgres cannot clean up after
// updates: keep it open for moments.
//
// # Text search
//
// Each tenant's texts are numbered. Their triples of characters are hashed with
// the number's block, 4096 texts, and are in a GIN index. A search looks at 512 texts as they come,
// then asks the index block by block, verifies what it is given on the texts,
// and stops after so many with a cursor. While many texts are
// written they wait in the index's list, up to gin_pending_list_limit; the first small commit, or
// autovacuum, sorts them in, and until then searches take some milliseconds more.
//
// # Outages
//
// While the server is away all calls answer view.ErrUnavailable; connections
// are made anew by themselves. A full disk is view.ErrFull. A server that
// refuses the user, or cannot be used, is view.ErrServer and says what to do.
// Wakes come by LISTEN on one more connection, which is made again when it
// breaks; through PgBouncer in transaction mode, for which there is
// SimpleProtocol, they do not come from other processes, and followers look by
// themselves.
//
// # Where the time goes
//
// Measured on two cores shared with other work, Postgres 15 with fsync, and its
// own process's share given as CPU time (BenchmarkReplay, BenchmarkLive, and
// experiments with the statements alone):
//
//   - A row of a timeline (300 bytes of JSON) takes the server 6 to 10 µs by a
//     COPY in the order of its key, 9 to 12 in any order, 15 by INSERT … ON
//     CONFLICT, whether from arrays or from a staging table. Hence COPY for
//     what is new, sorted, and no staging tables: they gained nothing, and
//     leave something to clean up in the catalogue.
//   - A document of 4 kB of JSON takes it 35 µs with lz4, which is chosen
//     where the server has it, and 60 with pglz. Update and upsert are alike.
//   - A text takes 20 µs in the index: 50 when the list is small, 130 without
//     one, and twice as much each if pairs of letters were kept as well.
//   - JSON takes this process 2 µs for a kilobyte, an eighth of protojson's
//     time, while the server works on what was sent before.
//
// All in all a replay is written as fast as by hand: 45,000 rows/s beside 40,000
// with values made beforehand and pgx's own COPY. A commit of one document and one
// row takes 0.7 to 0.8 ms, as long as a single UPDATE does; Get and a page of 20 take
// as long as their SELECTs.
package pgview
