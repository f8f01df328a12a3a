// Package bench measures the rows of the performance table, each beside its
// yardstick in the same run, on the seeded workload. It holds benchmarks only:
// `make bench` runs them all and prints the table.
//
// PARLEY_BENCH_SCALE shrinks (or grows) every size, to see quickly that all
// still runs; figures for the table are taken at 1. PARLEY_BENCH_LARGE is the
// number of calls of the large log, 10,000,000 where it is not set.
// Where PARLEY_BENCH_PROFILES names a folder, profiles of ingest and replay are
// left there.
//
// What sends the load shares the machine with what is measured.
package bench
