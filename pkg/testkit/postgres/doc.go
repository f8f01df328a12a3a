// Package postgres gives tests and benchmarks a private PostgreSQL.
//
// Database is a new, empty database for one test on a server that all tests of
// the process share. Server is a cluster of the test's own, which it may stop,
// kill and start again: for outages, settings and measurements.
//
// # Which server
//
// Database takes the first of
//
//  1. the server that the environment variable PARLEY_TEST_POSTGRES names, the
//     postgres:// URL of a role that may create databases,
//  2. a throw-away cluster, made with the PostgreSQL of this machine: the one in
//     PATH, else the newest where packages put it,
//  3. the same, after installing Debian's package postgresql, where we are root
//     and there is an apt-get. The package is kept from creating a cluster.
//
// Server needs the binaries, so that it takes the second or the third; where
// PARLEY_TEST_POSTGRES is set nothing is installed. Where there is nothing the
// test fails and says what to do. It never skips. The oldest version is
// MinVersion.
//
// # Life
//
// A throw-away cluster listens on 127.0.0.1 only, on a free port, and keeps its
// files in a folder of its own (parley-postgres-*) in the folder for temporary
// files. A small shell beside the test process watches over it and takes it
// down, with its folder, when the process is gone: ended, failed, panicked,
// timed out or killed. No TestMain is needed, nothing runs in the background of
// the test process, and goleak sees nothing. Whoever kills everything at once,
// as the end of a container does, leaves at most the folder; a later run removes
// those whose owners are gone.
//
// Most of what starting a cluster (half a second) and creating a database (a
// few hundredths) take is making small files: TMPDIR in memory, as /dev/shm is
// on Linux, makes both faster.
//
// initdb and postgres refuse to be root. A root's clusters run as the system
// user postgres, else as nobody.
//
// A database goes with its test. On the server of PARLEY_TEST_POSTGRES a killed
// process leaves its databases (parley_test_*); a later run drops those that
// are more than a day old and unused.
//
// # Settings
//
// A throw-away cluster has PostgreSQL's own settings, but for fsync, which is
// off: a commit survives the end of the server at any moment, not that of the
// machine. Durable turns it on. Databases are UTF-8 with the locale C. Tests are
// the role parley, which owns its databases and is no superuser. Anyone on the
// machine can connect while a test runs: there is no password.
package postgres
