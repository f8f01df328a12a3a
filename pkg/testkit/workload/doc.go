// Package workload makes the traffic that Parley is measured and tortured
// with: the same seed gives the same bytes on every machine.
//
// People come in sessions of eight calls. A session begins anonymously on the
// person's own device, identifies with the user id and the e-mail address in
// its third call and ends with an order in a quarter of the cases, so that a
// person has three identifiers: anonymous id, user id, e-mail address. Many
// sessions run at once and interleave. A call is about 300 bytes of Segment JSON.
//
// The numbers come from a seeded generator on purpose.
//
// The package makes calls in the form of Segment's tracking API, the front
// door's own format; whatever needs events maps them as the gateway does.
package workload
