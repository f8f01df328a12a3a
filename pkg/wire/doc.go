// Package wire marshals messages by their generated methods, which take about
// a third of the time of the library's.
//
// Messages of this project have such methods (vtprotobuf's MarshalVT and
// UnmarshalVT); all others go through the library. What is written is the same
// message either way: fields in the order of their numbers, so that equal
// messages without maps give equal bytes. The messages of this project have no
// maps.
//
// The generated methods do not check that strings are UTF-8. Therefore this
// package is for bytes that this platform wrote itself, and for messages whose
// texts were checked when they came in; whatever comes from outside is read
// with proto.Unmarshal, which refuses such strings.
//
// All functions are safe for concurrent use on different messages.
package wire
