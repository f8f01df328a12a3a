package blob_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/fsblob"
)

func Example() {
	dir, err := os.MkdirTemp("", "blobs")
	if err != nil {
		log.Fatal(err)
	}
	store, err := fsblob.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	vault, err := blob.NewVault(store, []byte("kept in the data directory"), blob.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	ref, err := vault.Put(ctx, "acme", strings.NewReader("Dear Sir or Madam"))
	if err != nil {
		log.Fatal(err)
	}
	payload := ref.Text() // with the key: into the personal payload only
	fmt.Println(len(payload), ref)

	ref, err = blob.ParseRef(payload)
	if err != nil {
		log.Fatal(err)
	}
	r, err := vault.Open(ctx, "acme", ref)
	if err != nil {
		log.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(content))
	for _, c := range []io.Closer{r, store} {
		if err := c.Close(); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 90 blob 043b5fa0db0418b518c8f80b3bb60563a4bbe6bf
	// Dear Sir or Madam
}
