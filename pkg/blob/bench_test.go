package blob_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/fsblob"
)

var benchSizes = []struct {
	name string
	size int
}{{"20kB", 20_000}, {"5MB", 5_000_000}}

func benchVault(b *testing.B) *blob.Vault {
	b.Helper()
	store, err := fsblob.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return vault(b, store, secret, blob.Options{})
}

// A new content each time: hashed, encrypted, written, synced, renamed, synced.
func BenchmarkVaultPut(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			v := benchVault(b)
			content := random(1, s.size)
			b.SetBytes(int64(s.size))
			b.ReportAllocs()
			n := uint64(0)
			for b.Loop() {
				n++
				binary.BigEndian.PutUint64(content, n)
				if _, err := v.Put(context.Background(), "acme", bytes.NewReader(content)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The yardstick of VaultPut: one write and one sync of a new file.
func BenchmarkYardstickWriteAndSync(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			dir, content := b.TempDir(), random(1, s.size)
			b.SetBytes(int64(s.size))
			n := 0
			for b.Loop() {
				n++
				f, err := os.Create(filepath.Join(dir, fmt.Sprint(n)))
				if err != nil {
					b.Fatal(err)
				}
				_, err = f.Write(content)
				if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// From the page cache.
func BenchmarkVaultOpen(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			v := benchVault(b)
			ref, err := v.Put(context.Background(), "acme", bytes.NewReader(random(1, s.size)))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(s.size))
			b.ReportAllocs()
			for b.Loop() {
				r, err := v.Open(context.Background(), "acme", ref)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, r)
				if err = errors.Join(err, r.Close()); err != nil || n != int64(s.size) {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// The yardstick of VaultOpen.
func BenchmarkYardstickReadFile(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			name := filepath.Join(b.TempDir(), "file")
			if err := os.WriteFile(name, random(1, s.size), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(s.size))
			for b.Loop() {
				if _, err := os.ReadFile(name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
