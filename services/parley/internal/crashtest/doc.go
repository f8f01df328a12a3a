// Package crashtest does to a Parley what happens to processes, and checks from
// outside and by digest what is guaranteed.
//
//   - Killed under load: whatever was acknowledged is in the log exactly once,
//     and the read models equal a clean replay's.
//   - Killed in a replay or a rebuild, with the views in the data directory and
//     in Postgres: it comes to an end, no read fails but while the process is
//     away, and nothing of an operation is left behind.
//   - Postgres stopped and killed under load: writes go on, reads are told, and
//     what was written is there once afterwards.
//   - Paused while another process takes the projection over: it cannot write
//     over its successor's rows.
//
// How often is PARLEY_CRASH_ROUNDS, how large the log PARLEY_CRASH_CALLS.
//
// A full disk is not among them: at this level it takes a file system of its
// own, which not every machine lets a test mount. The engine's tests and the
// drivers' own have file systems that are full.
package crashtest
