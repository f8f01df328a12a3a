package ops

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
)

// Show is a document as operators see it: protobuf's JSON form in one line,
// without what is personal.
func Show(document proto.Message) (string, error) {
	data, err := protojson.Marshal(event.WithoutPersonal(document))
	if err != nil {
		return "", fmt.Errorf("show %s: %w", document.ProtoReflect().Descriptor().FullName(), err)
	}
	// protojson's white space is not the same from one binary to the next.
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return "", fmt.Errorf("show %s: %w", document.ProtoReflect().Descriptor().FullName(), err)
	}
	return line.String(), nil
}
