// Package cli is the command line of parley: `serve` and its kin, and the
// commands that ask a running server over gRPC.
//
// Contract: exit code 0 is done, 1 refused or failed, 2 used wrongly. What was
// asked for goes to standard output: tables for people, or with `-o json` the
// response message in protobuf's JSON form, one object, or one a line for
// streams. Everything else (errors, progress) goes to standard error. Errors
// say what to do. Text from outside is shown without control characters, so
// that no customer can write on an operator's terminal.
//
// But for `log copy`, whose target is the disk, a command keeps nothing on disk,
// so a crash of one concerns nobody; `import` and `log copy` may be run again and
// double nothing.
package cli
