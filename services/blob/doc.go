// Package blob serves what lies beside the log: raw mails, attachments,
// recordings and long texts, by the references that events carry.
//
// # Contract
//
// A reference is read within the tenant of the call; that of another tenant
// is as unknown as one that never was. Content is streamed and authenticated
// part by part: what was changed in the store ends the stream with an error,
// never with other bytes. A stream that ends without an error was whole.
//
// # Crash behaviour
//
// Nothing is written. A stream that breaks is begun anew.
package blob
