// Package s3blob keeps blobs in a bucket of S3, or of what speaks like it.
//
// Contract: blob.Store's. An object's key is the prefix followed by its name.
// Objects of at most PartBytes are written by one request, larger ones in
// parts; either way S3 shows an object whole or not at all, and has it durably
// once it answers. The SHA-256 of each request's body is signed, so that what was
// changed on the way is refused. A Put holds one part in memory.
//
// Requests that find the server busy or out of reach are tried again a few
// times, for some seconds; what still fails is blob.ErrUnavailable. A bucket
// that is missing is that too: its blobs must not look deleted.
//
// The credentials need s3:PutObject, GetObject, DeleteObject,
// AbortMultipartUpload and, on the bucket, ListBucket: without the last, S3
// answers for an object that is not there that access is denied.
//
// A process that crashes, or loses the server, in the middle of an upload in
// parts leaves parts that nobody sees but that cost; a lifecycle rule of the
// bucket (AbortIncompleteMultipartUpload) removes them. In a bucket with versions
// a deleted object goes on existing as a version; a rule ends that too.
package s3blob
