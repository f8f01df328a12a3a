// Package cloudevents reads and writes CloudEvents 1.0 as they travel on NATS,
// and turns those of any producer into Parley's events.
//
// Binary mode has the attributes in headers `ce-<name>`, percent-encoded as in
// the HTTP binding, and the data as the message. Structured mode has all of it
// as one JSON object, with a content type of `application/cloudevents+json` or,
// as older versions of the NATS binding have it, with no headers at all. The
// data's media type is `ce-datacontenttype`; `content-type` says the same for
// producers that follow the HTTP binding. Header names are read in any case.
//
// What is not a CloudEvent is a *MalformedError that names the attribute;
// nothing is guessed and nothing is dropped. Reading and writing are inverse:
// what ToHeaders writes, FromNATS reads back the same.
package cloudevents
