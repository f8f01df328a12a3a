// Package bus carries what gateways take in to the recorder, over NATS
// JetStream: an embedded server that other processes can connect to, or an
// external one.
//
// # Contract
//
// NATS is the transport, never the system of record. Gateways publish on
// `ingress.<tenant>.<channel>` into one stream, PARLEY_INGRESS; one ordered
// consumer, the recorder's, takes everything in the order of the stream.
//
//   - Publishing returns nil only after JetStream has acknowledged all of it.
//     After an error some of it may have been taken: repeat it as it is, the
//     recorder knows event ids again.
//   - Consuming is at least once and strictly in order. A batch whose handler
//     fails is handed out again, the same one, before anything behind it. What
//     was handled is acknowledged once per batch.
//   - What was acknowledged is purged from the stream soon after, so that the
//     stream holds what is not yet recorded and little else. A full stream
//     refuses what is new (ErrFull) and never drops what is old.
//
// # Takeover
//
// Consume deletes the consumer of whoever consumed before and makes its own
// behind the acknowledged floor; the other one's Consume ends with
// ErrTakenOver. Two processes may for a moment both have a batch in hand; the
// log's expected revisions decide between them, not the bus.
//
// # Crashes
//
// The embedded server writes every message through to the disk before it
// acknowledges it. A crash between handling and acknowledging brings the batch
// again. The consumer's floor on disk may be up to a tenth of a second old
// after a crash, which also brings batches again and never skips one.
package bus
