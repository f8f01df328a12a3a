// Package auth says whether a mail comes from whom its From field names: by
// DKIM (RFC 6376), SPF (RFC 7208) and DMARC (RFC 7489) where the connection or
// the raw mail can be checked, and by what a trusted server or vendor reported
// where it cannot (RFC 8601).
//
// The verdict is about the domain of the From field. Fail makes the mail a
// claim only, None attaches it without linking, so the question is always: has
// this domain vouched for the mail, denied it, or said nothing? What is
// missing for now (temporary errors, a deadline) counts neither way: a verdict
// other than None is one that no missing answer could change.
//
//	what is known                                                     verdict
//	----------------------------------------------------------------  -------
//	no From field, several, one that cannot be read, no address in
//	it, addresses of several domains, a header over the bounds        Fail
//	From is at an address literal ([192.0.2.1])                       None
//	DKIM or SPF passes, aligned as the DMARC record asks              Pass
//	... without a valid DMARC record: aligned relaxedly               Pass
//	... DMARC lookup failed for now: the very domain of From          Pass
//	... DMARC lookup failed for now: only the same organisation       None
//	no aligned pass, but an aligned DKIM or SPF has a temporary
//	error, or was not looked at                                       None
//	no aligned pass, DMARC record present, whatever its policy        Fail
//	no aligned pass, no valid record or lookup failed for now, and
//	SPF of an aligned domain is a hard fail                           Fail
//	all else: SPF softfail, neutral, none, permerror or unaligned,
//	broken signatures                                                 None
//
// Why so:
//   - From that is missing, doubled or of several domains is not RFC 5322 or has
//     nobody to speak for all of it. It is the shape in which two readers of one
//     mail disagree about its author; None would attach it to one of them.
//   - A DMARC record that fails is Fail also under p=none. The policy says what
//     receivers are to do with such mail; ours is kept in any case. The question
//     is who wrote it, and the largest consumer domains publish p=none while they
//     sign all their mail. Mail that a list has altered becomes a claim too,
//     which is what it is: the list sent it.
//   - A record that is no valid DMARC record counts as none (RFC 7489, 6.6.3).
//   - A hard fail of another domain's envelope is a forwarder's, not the author's.
//   - Of a report, `dmarc=pass` and `dmarc=fail` are final; `dmarc=none` and
//     `bestguesspass` mean no record; all else means that the record is unknown.
//
// Organisational domains come from the public suffix list with its private
// part, as compiled into golang.org/x/net/publicsuffix.
//
// Invariants: nothing here returns an error or panics for a mail's content,
// what went wrong is in the Result. Verify ends within its deadline, up to the
// hashing of one block of the body, provided that the Resolver keeps to its
// context. The package keeps no state but the Cache, which may be lost.
package auth
