// Package proto is the home of Parley's contracts: the .proto files under
// parley/<area>/v1 and the Go code generated from them under gen. It needs no
// server code, so that a service which talks to Parley imports this module
// alone.
package proto
