package event

import (
	"fmt"
	"slices"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// upcaster brings events of one type from one version to the next.
type upcaster struct {
	from  uint32
	apply func(*eventv1.Event) error
}

// WithUpcaster registers what brings an event of a type from a schema version
// to the next one. It gets the event whole, and changes it in place; it needs
// not set schema_version. It must be a pure function of the event, and fit to
// be called for an event whose personal part is not to be had (IsSealed).
//
// The current version of a type is what the catalogue says, or one above the
// highest upcaster, whichever is more. See the package's comment for how to
// write one.
func WithUpcaster(typ string, from uint32, apply func(*eventv1.Event) error) Option {
	return func(c *Codec) {
		chain := slices.DeleteFunc(c.upcasters[typ], func(u upcaster) bool { return u.from == from })
		chain = append(chain, upcaster{from: from, apply: apply})
		slices.SortFunc(chain, func(a, b upcaster) int { return int(a.from) - int(b.from) })
		c.upcasters[typ] = chain
	}
}

// upcast brings an event up to the current version of its type. An event of a
// newer version than this contract knows is left as it is: a meaning never
// changes under one type, so what is known of it can still be read.
func (c *Codec) upcast(ev *eventv1.Event) error {
	typ := ev.GetType()
	current := Version(typ)
	chain := c.upcasters[typ]
	if len(chain) > 0 {
		current = max(current, chain[len(chain)-1].from+1)
	}
	// 0 stands for 1.
	version := max(ev.GetSchemaVersion(), 1)
	for version < current {
		i, ok := slices.BinarySearchFunc(chain, version, func(u upcaster, v uint32) int { return int(u.from) - int(v) })
		if !ok {
			return fmt.Errorf("%s from version %d to %d: %w", typ, version, version+1, ErrNoUpcaster)
		}
		if err := chain[i].apply(ev); err != nil {
			return fmt.Errorf("bring %s up from version %d: %w", typ, version, err)
		}
		version++
		ev.SchemaVersion = version
	}
	return nil
}
