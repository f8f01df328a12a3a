package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Bounds of QuarantinedBody.
const (
	maxQuarantinedBytes = 256 << 10
	maxReasonBytes      = 2048
	maxMediaBytes       = 128
	maxSourceBytes      = 256
)

// TenantUnknown is the tenant in whose quarantine messages go that name no
// tenant, or one that Parley keeps for itself.
const TenantUnknown = event.QuarantineTenant

// reservedChannels are those whose streams are written by commands and by
// operators, or would read like them. Interactions of them would speak with
// another's voice.
var reservedChannels = map[string]bool{
	"identity": true, "quarantine": true, "ticket": true, "customer": true, "config": true, "operations": true,
}

// placeQuarantine plans the record of something that failed a check, unless
// the very same is in quarantine already.
func (r *Recorder) placeQuarantine(x *index, p *plan, it *item) error {
	body := it.body
	if it.reject != nil {
		body = rejected(it)
	}
	id := it.id
	if it.command != nil {
		it.result = invalidCommand(reasonText(it.reject))
	}
	if it.reject != nil {
		id = event.DeterministicID(it.tenant, body.GetSource(), quarantineID(it, body))
		body.Id = id.String()
	}
	it.outcome = interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED
	it.stream = event.QuarantineStream(it.tenant)
	k := eventKey{it.tenant, id}
	e, again, err := x.event(k)
	if err != nil {
		return err
	}
	if again {
		it.position, it.known = e.position, e.position <= p.base
		return nil
	}
	data, err := proto.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a quarantined body: %w", err)
	}
	it.position, it.known = p.next(), false
	x.events[k] = entry{position: it.position}
	return p.add(x, it.stream, bonds{}, eventstore.NewRecord{ID: id, Type: event.TypeQuarantine, ContentType: eventstore.ContentProtobuf, Data: data})
}

// rejected is the body for something that failed a check here.
func rejected(it *item) *interactionv1.QuarantinedBody {
	source := it.ev.GetSource()
	if source == "" || len(source) > maxSourceBytes || !utf8.ValidString(source) {
		source = "ingress"
	}
	return &interactionv1.QuarantinedBody{
		Tenant:       it.tenant,
		Source:       source,
		Code:         it.reject.code,
		Reason:       fit(it.reject.reason, maxReasonBytes),
		MediaType:    fit(it.media, maxMediaBytes),
		Body:         it.raw[:min(len(it.raw), maxQuarantinedBytes)],
		BodySize:     int64(len(it.raw)),
		ReceivedTime: timestamppb.New(it.received),
	}
}

// quarantineID tells rejections apart: by why, and the whole body. The same
// body rejected for the same reason is there once; of an event with other
// content than before, what its source calls its content counts, since a
// gateway notes anew when it took it.
func quarantineID(it *item, body *interactionv1.QuarantinedBody) string {
	if digest := it.ev.GetContentDigest(); body.GetCode() == codeContentDiffers && len(digest) > 0 {
		return body.GetCode() + " " + it.id.String() + " " + hex.EncodeToString(digest)
	}
	sum := sha256.Sum256(it.raw)
	return body.GetCode() + " " + hex.EncodeToString(sum[:])
}

// fit makes text from outside a field of a bound.
func fit(s string, most int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
