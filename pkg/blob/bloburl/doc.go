// Package bloburl opens the blob store that a setting names.
//
// Contract: a location is one of
//
//	(empty)                        the folder that the caller has for it
//	/var/lib/blobs, ./blobs, file:///var/lib/blobs
//	                               a folder
//	s3://bucket/prefix?endpoint=https://s3.example.com:9000&region=eu-1&path-style=true&create=true
//	                               a bucket; the prefix and every parameter may be missing
//
// endpoint is host, host:port or a URL; `http://` in it gives up TLS. Without
// one it is Amazon's. The bucket has to be there; create=true makes it. A
// location is shown and logged, so that credentials in it are refused.
//
// The package keeps no state, so a crash concerns it in no way.
package bloburl
