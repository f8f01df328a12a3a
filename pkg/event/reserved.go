package event

// Why nobody but Parley writes an event, as it is said to whoever tries.
const (
	reservedIdentity   = "who is who is decided by the recorder and by commands"
	reservedModel      = "models are fitted by Parley itself"
	reservedOperations = "what operators do is noted by Parley itself"
)

// reservedTypes are those of the events that Parley's own decisions make.
var reservedTypes = map[string]string{
	"parley.link.asserted":          reservedIdentity,
	"parley.link.refused":           reservedIdentity,
	"parley.customers.merged":       reservedIdentity,
	"parley.customers.split":        reservedIdentity,
	"parley.identifier.shared":      reservedIdentity,
	"parley.identity_rules.changed": reservedIdentity,
	"parley.decision.refused":       reservedIdentity,
	"parley.model.fitted":           reservedModel,
	"parley.projection.operated":    reservedOperations,
	"parley.dead_letter.skipped":    reservedOperations,
}

// ReservedType says that no source may bring events of a type, whichever way
// they come in, and why: Parley alone writes them.
func ReservedType(typ string) (reason string, reserved bool) {
	reason, reserved = reservedTypes[typ]
	return reason, reserved
}
