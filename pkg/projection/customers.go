package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// Customers defines a read model about customers. Its functions are pure, and
// called from several goroutines for different customers at once.
type Customers[D proto.Message] struct {
	// Name is 1 to 64 characters: lower case letters, digits, underscores.
	Name string
	// Version is raised whenever the functions or collections change what is stored. From 1.
	Version uint32
	// Documents is the collection of the customers' combined documents, by
	// tenant and customer id; its indexes are over customers. New may be left out.
	Documents view.Collection
	// New makes an empty document: that of a profile without any event, and
	// the neutral element of Combine.
	New func() D
	// Fold takes an event into the document of the profile that it is stamped
	// with. It may be given a document that Finish has been over. It must not
	// change ev, nor keep any message of it, since their memory is used
	// again: timestamps are copied. Strings and bytes may be kept.
	Fold func(doc D, ev *eventv1.RecordedEvent) error
	// Combine takes from into into. It is commutative and associative up to
	// Finish. It neither changes from nor leaves into sharing with it anything that
	// a later Combine, Fold or Finish would change.
	Combine func(into, from D)
	// Finish sets the derived fields of a document anew from the others,
	// and brings lists into their order. It is called often on the same
	// document and loses nothing that Fold or Combine need. Optional.
	Finish func(doc D, c Customer)
	// Rows are collections with rows of single events.
	Rows []RowFold
	// Types are the event types that the folds look at; the others are passed over
	// without being decoded. Merges and splits are taken in any case. Empty for all.
	Types []string
}

// RowFold makes rows of single events. Rows are keyed by what the event says,
// never by customer, so that a merge rewrites nothing.
type RowFold struct {
	// Collection is a clustered one.
	Collection view.Collection
	// Fold calls put for each row of the event, with an id unique in the
	// tenant's collection. The row is marshalled before put returns. It is called for every
	// event, also for those without a profile.
	Fold func(ev *eventv1.RecordedEvent, put func(id string, row proto.Message) error) error
}

// Customer is who a customer is, without what he did.
type Customer struct {
	Tenant string
	// ID is that of the oldest profile.
	ID string
	// Profiles are all of the customer's, the first seen in the log first.
	Profiles []string
}

// Names of the engine's own collections.
const (
	profilesCollection = "parley_profiles"
	aliasesCollection  = "parley_aliases"
)

func (def *Customers[D]) validate() error {
	switch {
	case def.New == nil || def.Fold == nil || def.Combine == nil:
		return errors.New("New, Fold and Combine are required")
	case def.Version == 0:
		return errors.New("versions count from 1")
	case def.Documents.Clustered:
		return errors.New("the documents' collection cannot be clustered")
	}
	for i := range def.Rows {
		if !def.Rows[i].Collection.Clustered || def.Rows[i].Collection.New == nil || def.Rows[i].Fold == nil {
			return fmt.Errorf("row collection %q: Clustered, New and Fold are required", def.Rows[i].Collection.Name)
		}
	}
	return nil
}

// Collections are the definition's and the engine's own.
func (def *Customers[D]) Collections() []view.Collection {
	documents := def.Documents
	documents.New = def.newMessage
	all := make([]view.Collection, 0, 4+len(def.Rows))
	all = append(all, documents,
		view.Collection{Name: profilesCollection, New: def.newMessage},
		view.Collection{Name: aliasesCollection},
		deadLetters)
	for i := range def.Rows {
		all = append(all, def.Rows[i].Collection)
	}
	return all
}

// types are those that are decoded; nil for all.
func (def *Customers[D]) types() map[string]bool {
	if len(def.Types) == 0 {
		return nil
	}
	types := map[string]bool{typeMerged: true, typeSplit: true, typeSkipped: true}
	for _, t := range def.Types {
		types[t] = true
	}
	return types
}

// The types that say who belongs together, and which event is not to be folded.
const (
	typeMerged  = "parley.customers.merged"
	typeSplit   = "parley.customers.split"
	typeSkipped = "parley.dead_letter.skipped"
)

// definition is what the engine knows of a projection, whatever that folds.
type definition interface {
	// label is the name and the version.
	label() (name string, version uint32)
	validate() error
	// Collections are those that a generation has.
	Collections() []view.Collection
	// main is the collection whose changes are told to watchers.
	main() string
	// types are those that are decoded; nil for all.
	types() map[string]bool
	// profilesOf and documentsOf are for operators who look into a generation.
	profilesOf(ctx context.Context, r view.Reader, key view.Key) ([]string, error)
	documentsOf(ctx context.Context, r view.Reader, tenant string, ids []string) ([]proto.Message, error)
	newState(gen view.Generation, opts *Options, now func() time.Time) foldState
}

func (def *Customers[D]) label() (name string, version uint32) { return def.Name, def.Version }
func (def *Customers[D]) main() string                         { return def.Documents.Name }

func (def *Customers[D]) newState(gen view.Generation, opts *Options, now func() time.Time) foldState {
	return newFolder(def, gen, opts.Partitions, now)
}

func (def *Customers[D]) newMessage() proto.Message { return def.New() }
