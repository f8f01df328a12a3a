// Package token makes the opaque strings that clients hand back: consistency
// tokens, resume tokens and page tokens.
//
// A token is base64url without padding: a byte of version and kind, its
// content, and a checksum over kind and content. The checksum recognises what
// was cut, mixed up or made by hand; it is no secret. Nothing may rest on a
// token being genuine: a position says only where to wait or read on, and a
// page cursor must be read within the tenant of the credential.
//
// A token that cannot be read is ErrInvalid, one of another request
// ErrMismatch; neither says more to the client.
package token
