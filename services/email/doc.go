// Package email is the gateway for inbound mail: an SMTP server, the inbound
// webhooks of Mailgun, Postmark and SendGrid, and the import of mails of the
// past over gRPC.
//
// All ways in end in Intake.Take: read the mail, judge its sender, separate the
// new text from quotation and signature, put the raw mail, its attachments and
// a long text beside the store, make events, hand them to a Publisher. The
// sender gets its 250, 2xx or answer only once all of that is safe. The gateway
// keeps nothing else: a crash at any moment loses only what was not yet
// answered, which senders send again, and which gets the same event ids,
// digests and blobs again.
//
// Invariants:
//   - The id of a mail's event is a function of tenant and Message-ID, whichever
//     way the mail came. A mail without one has an id of its content. Of a report
//     the ids are of its Message-ID and the recipient's number in it.
//   - The content digest covers authors, date, new text and attachments; see
//     digest. A list's copy and a direct one of a mail are one event; another
//     mail under a stolen Message-ID goes to quarantine.
//   - A mail for several tenants is acknowledged once each has it.
//   - Nothing that was acknowledged is dropped: what cannot become an event is
//     in IngressBatch.quarantined. Mails with defects are recorded, with the
//     defects named; the raw mail is kept whole.
//   - Every event that is published passes event.Validator.
//   - The size of what is in memory is bounded by Config.MaxBytesInFlight, a
//     few times over while mails are read.
//
// # Whose a mail is
//
// The first address of From is the customer's, unless it is one of ours: a mail
// from an address of the company's own (an agent's copy of what he wrote, a form
// on the site, a forged sender) names no customer by it, and stays inbound; its
// thread still says where it belongs. Who is in To and Cc is there as the
// company or as somebody else. How far the sender is believed is what the
// sender's domain says of the mail (package auth): passed it is his, unchecked
// it is attached and links nothing, failed it is a claim.
package email
