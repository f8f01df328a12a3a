package event

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Violation is a bound of the contract that a message does not keep.
type Violation struct {
	// Field is the path of the field, for example `payload.tracked.name` or
	// `identifiers[2].value`; empty for the message as a whole.
	Field string
	// Rule is the id of the rule, for example `string.max_len`.
	Rule string
	// Message says it for people.
	Message string
}

// String is the violation in a line.
func (v Violation) String() string {
	if v.Field == "" {
		return v.Message
	}
	return v.Field + ": " + v.Message
}

// Validator checks messages against the bounds that their contract states. It
// is expensive to make and cheap to use. Safe for concurrent use.
type Validator struct {
	rules protovalidate.Validator
	quick acceptor
}

// NewValidator makes a validator. The rules of Event are compiled here, those
// of other messages when the first one comes, or here where they are named.
func NewValidator(also ...proto.Message) (*Validator, error) {
	warm := append([]proto.Message{&eventv1.Event{}}, also...)
	rules, err := protovalidate.New(protovalidate.WithMessages(warm...))
	if err != nil {
		return nil, fmt.Errorf("compile the contract's rules: %w", err)
	}
	return &Validator{rules: rules}, nil
}

// Check gives all that a message violates; nil is fine. Of an Event it also
// checks that its type is its payload's. A contract whose rules cannot be
// evaluated is a violation of rule `internal`.
func (v *Validator) Check(m proto.Message) []Violation {
	var out []Violation
	if !v.quick.accepts(m) {
		if err := v.rules.Validate(m); err != nil {
			out = violations(err)
		}
	}
	if ev, ok := m.(*eventv1.Event); ok {
		if typ, _, known := TypeOf(ev.GetPayload()); known && typ != ev.GetType() {
			out = append(out, Violation{
				Field: "type", Rule: "event.type", Message: fmt.Sprintf("must be %s, the type of its payload", typ),
			})
		}
	}
	return out
}

func violations(err error) []Violation {
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		return []Violation{{Rule: "internal", Message: err.Error()}}
	}
	out := make([]Violation, 0, len(invalid.Violations))
	for _, one := range invalid.Violations {
		out = append(out, Violation{
			Field:   protovalidate.FieldPathString(one.Proto.GetField()),
			Rule:    one.Proto.GetRuleId(),
			Message: one.Proto.GetMessage(),
		})
	}
	return out
}
