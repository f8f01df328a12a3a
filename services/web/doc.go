// Package web is the gateway for web and apps: it speaks the Segment tracking
// API to browsers, apps and servers, and serves the pixels and links of mails.
//
// It turns calls into events and hands what one request brought to a Publisher
// as one IngressBatch. A request is answered with 200 only after Publish
// returned nil, so that what a client got a 200 for is in the ingress stream.
// The gateway keeps nothing: a crash at any moment loses only what was not yet
// answered, which clients send again, and which gets the same event ids and
// content digests again.
//
// Invariants:
//   - The id of an event is a function of tenant, source and the client's
//     messageId. A call without messageId gets a fresh id: a retry of it cannot be
//     recognised. Imported lines without one derive it from their content.
//   - The content digest covers what the client said of the event and nothing of
//     how it was sent; see digest.
//   - Nothing that was said under a valid key is dropped: what does not become an
//     event is in IngressBatch.quarantined, cut at 256 KiB, unless the answer
//     asks to send it again (408, 429, 503) or it did not come whole (400
//     incomplete_body, 413).
//   - Every event that is published passes event.Validator.
package web
