// Package jsonform turns marshalled protobuf messages into JSON that a JSON
// document column can hold, and back into the very same bytes.
//
// # Form
//
// The form is protobuf's own JSON mapping with lowerCamelCase names, as
// protojson writes it. Where that or a jsonb column would lose something, it
// differs:
//
//   - a negative zero is the string "-0", since jsonb knows none;
//   - a NaN of other bits than Go's is "NaN(fff8000000000000)", with its bits;
//   - timestamps and durations outside of the range that the mapping has are
//     objects of seconds and nanos;
//   - Any, FieldMask, Struct, Value and ListValue are written as the messages
//     that they are: the numbers of plain JSON lose a NaN, and an Any needs a
//     registry to be read.
//
// # Exactness
//
// What AppendWire makes of AppendJSON's answer, also after jsonb has brought
// keys and numbers into its own order and form, equals what
// view.MarshalDocument makes of the message. What cannot be kept is refused
// with view.ErrInvalid: fields that the descriptor does not know, text that is not
// UTF-8 or holds U+0000, groups, and messages nested deeper than MaxDepth.
//
// # Speed
//
// Both directions go over the bytes once, led by a plan made of the
// descriptor, and build no message: about an eighth of protojson's time. Bytes
// that are not in canonical form (a field twice, a default written out) are
// brought into it first, by way of a message, and so is what comes out of
// messages with oneofs or maps.
package jsonform
