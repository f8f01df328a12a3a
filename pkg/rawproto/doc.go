// Package rawproto lets a gRPC server answer with bytes that are encoded
// already, such as documents kept in the form in which they are served.
//
// Contract: a server set up with
//
//	grpc.NewServer(grpc.ForceServerCodecV2(rawproto.Codec()))
//
// sends a *Message as it is, and everything else as grpc's own protobuf codec
// does. On the wire there is no difference: the codec's name is `proto`, and
// clients need nothing. A generated handler can only return its own message
// type, so a service that answers with a Message registers a service
// description of its own (see Describe).
//
// Invariants: a Message's bytes are never copied and never changed; whoever
// made it must leave them alone. There is no state, so a crash concerns the
// package in no way.
package rawproto
