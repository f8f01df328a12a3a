// Package webhook reads inbound mail as vendors deliver it over HTTP: Mailgun
// routes, Postmark's inbound webhook and SendGrid's Inbound Parse. Each makes
// one value of it, Inbound, whose Raw is a whole mail (RFC 5322), so that one
// parser serves all. Where a vendor gives only parsed fields, Raw is rebuilt
// from its header fields, bodies and attachments, and marked.
//
// A Decoder is a pure function of the request's head and body; of state there
// is only Tokens, which remembers the tokens of Mailgun requests. The whole of
// a request is in memory, at most the limit that Read is given, with a few
// times as much while it is decoded; nothing is written to files.
//
// How a request ends is its error:
//
//	error             what it was                              outcome
//	----------------  ---------------------------------------  ------------------
//	nil               a mail                                   Accepted, once it is
//	                                                           recorded
//	MalformedError    authentic, but not to be understood      Accepted, once it is in
//	                                                           quarantine
//	CredentialsError  signature, password or token is wrong    Unauthenticated
//	TooLargeError     longer than the limit                    Refused
//	ContentTypeError  not what the vendor sends                Refused
//	any other         the body did not come whole              RetryLater
//
// Decoder.Status gives the vendor's HTTP status for an outcome. Whatever fails
// behind the decoder, the answer is RetryLater's.
//
// Invariants:
//   - Nothing of a request is believed, nor an error about its content told,
//     before its credentials hold; they are compared in constant time.
//   - The same fields give the same Raw, byte for byte, in every process and
//     version of this package that says nothing else: content digests rest on it.
//   - A rebuilt mail has no field that the vendor did not give, but those that
//     say how it is built (MIME-Version, Content-…). No value can add a field or
//     a part of its own.
//   - A mail that lost an attachment on its way is malformed, never a mail
//     without it.
package webhook
