package esdbserver

import (
	"strings"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Types and streams that have a meaning of their own.
const (
	allStream         = "$all"
	metaPrefix        = "$$"
	typeMetadata      = "$metadata"
	typeLink          = "$>"
	typeStreamDeleted = "$streamDeleted"

	storedMetadata      = "~" + typeMetadata
	storedLink          = "~" + typeLink
	storedStreamDeleted = "~" + typeStreamDeleted
	storedMetaPrefix    = "~" + metaPrefix
)

// inside is the name in the store of a stream or type that clients call name.
func inside(name string) string {
	if name != "" && (name[0] == '$' || name[0] == '~') {
		return "~" + name
	}
	return name
}

// outside is what clients call a stream or type of the store; the reverse of
// inside.
func outside(stored string) string {
	if len(stored) > 1 && stored[0] == '~' && (stored[1] == '$' || stored[1] == '~') {
		return stored[1:]
	}
	return stored
}

// metaStream is the stored name of the stream with a stream's metadata.
func metaStream(stored string) string { return storedMetaPrefix + outside(stored) }

// subject is the stream that a metadata stream is about, by outside names.
func subject(name string) (stream string, isMeta bool) { return strings.CutPrefix(name, metaPrefix) }

// streamName checks a stream's name as a client gives it, and answers with its
// name in the store.
func streamName(raw []byte) (name, stored string, err error) {
	name = string(raw)
	if name == allStream {
		return "", "", invalidArgument("%s is not a stream: read it by the option `all`", allStream)
	}
	if about, isMeta := subject(name); isMeta && (about == allStream || strings.HasPrefix(about, metaPrefix)) {
		return "", "", invalidArgument("stream %q: there is no metadata of %q", name, about)
	}
	stored = inside(name)
	if err := eventstore.ValidateStream(stored); err != nil {
		return "", "", invalidArgument("%v", err)
	}
	return name, stored, nil
}
