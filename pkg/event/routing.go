package event

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Routing is what can be said of a stored event without decoding it.
type Routing struct {
	ID           string
	Tenant       string
	Type         string
	ProfileID    string
	Channel      string
	Conversation string
	Backfill     bool
	// Sealed says that the personal part is encrypted.
	Sealed bool
}

// PeekRouting reads the routing fields of a marshalled Event, stored or whole,
// by field number alone. It looks at every top-level tag, since a later value
// of a field takes the place of an earlier one, and enters nothing.
func PeekRouting(data []byte) (Routing, error) {
	var id, tenant, typ, profile, channel, conversation []byte
	var r Routing
	for b := data; len(b) > 0; {
		number, wire, value, field, err := nextField(b)
		if err != nil {
			return Routing{}, fmt.Errorf("peek routing: %w: %w", ErrMalformed, err)
		}
		b = b[len(field):]
		if wire == protowire.VarintType && number == numBackfill {
			v, _ := protowire.ConsumeVarint(value)
			r.Backfill = v != 0
		}
		if wire != protowire.BytesType {
			continue
		}
		switch number {
		case numID:
			id = value
		case numTenant:
			tenant = value
		case numType:
			typ = value
		case numProfileID:
			profile = value
		case numChannel:
			channel = value
		case numConversation:
			conversation = value
		case numPayloadKey:
			r.Sealed = len(value) > 0
		default:
		}
	}
	r.ID, r.Tenant, r.ProfileID = string(id), string(tenant), string(profile)
	r.Type, r.Channel, r.Conversation = internType(typ), internChannel(channel), string(conversation)
	return r, nil
}

// internType gives a type of the catalogue without allocating.
func internType(b []byte) string {
	if e, ok := contract.byType[string(b)]; ok {
		return e.typ
	}
	return string(b)
}

// internChannel gives a common channel without allocating.
func internChannel(b []byte) string {
	switch string(b) {
	case "web":
		return "web"
	case "email":
		return "email"
	case "phone":
		return "phone"
	case "chat":
		return "chat"
	case channelIdentity:
		return channelIdentity
	default:
		return string(b)
	}
}
