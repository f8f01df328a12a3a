// Package fsblob keeps blobs as files in a folder.
//
// Contract: blob.Store's. An object is a file at its name below the folder,
// `<tenant>/<2 hex>/<id>`, folders 0700 and files 0600. Nothing is followed out
// of the folder, not even by links inside it. Several stores, in one process or
// several, may use one folder at the same time.
//
// Put writes a file in `.tmp`, syncs it, renames it to its name and syncs the
// folders on the way, so that it is there whole or not at all, and stays once
// Put returned. What a crash leaves in `.tmp` is removed by the next Open: files
// being written are locked (flock), so that one whose lock is free was left.
//
// A full disk, like every other failure of the machine, is blob.ErrUnavailable.
package fsblob
