// Package blob keeps what is too large for events: raw mails, attachments,
// recordings, long texts. An event carries a Ref, never the content.
//
// A Store keeps opaque objects under names and encrypts nothing; the drivers
// are blob/fsblob (a folder) and blob/s3blob (S3 and what speaks like it), held
// to one contract by blob/blobtest. A Vault stands before a Store and encrypts.
//
// # One key a blob
//
// Every blob has a key of its own, and the only copy of it stands in the Ref,
// inside the personal payload of the event. Whoever destroys the payload's key
// destroys this one, and the blob can never be read again, even while the
// object and its backups are still there. For the same reason a Ref never
// shows its key in a log: only Text gives it.
//
// # The same content is the same blob
//
// Key and id are derived from a secret, the tenant and the SHA-256 of the
// content (convergent encryption: Douceur et al., Reclaiming Space from
// Duplicate Files, 2002, here with a secret). A mail that is delivered twice
// gives the same Ref, so its event is the same event, and one object. Without
// the secret nobody can test a guess of the content against ids; whoever has
// it can, so content that can be guessed is not hidden from its holder. Reading
// needs no secret: with another one the old blobs stay readable, and only the
// sameness across the change is lost.
//
// One object may therefore stand behind many events. An object may be deleted
// only once no event refers to it and it is older than events take from a
// gateway to the log: Put makes an object that was there already as new as a
// fresh one (Info.Modified), so that a retried delivery holds it.
//
// # Format
//
// An object is DARE 2.0 (github.com/minio/sio, DARE.md) with AES-256-GCM in
// chunks of 64 KiB and a nonce of zeros, which is safe since no key ever
// encrypts two contents. Its first byte inside is the format, 1; the content
// follows. A chunk that was changed, moved, cut off, or made with another key
// is ErrCorrupt, before a byte of that chunk is handed out. Only io.EOF says
// that the content was whole.
//
// # Crashes
//
// Put returns once the object would survive a power cut, and nobody ever sees
// half of one. A Put that failed or was cut off may or may not have happened;
// to repeat it is harmless.
package blob
