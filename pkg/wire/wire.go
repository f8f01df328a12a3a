package wire

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
)

// marshaler is what the generator adds to a message.
type marshaler interface {
	SizeVT() int
	MarshalToSizedBufferVT(buf []byte) (int, error)
}

type unmarshaler interface {
	UnmarshalVT(data []byte) error
}

// Size is the length in bytes of the marshalled message.
func Size(m proto.Message) int {
	if v, ok := m.(marshaler); ok {
		return v.SizeVT()
	}
	return proto.Size(m)
}

// Marshal returns the message's bytes, in memory of their size.
func Marshal(m proto.Message) ([]byte, error) {
	return Append(nil, m)
}

// Append appends the message's bytes to dst, which it grows where needed. After
// an error dst is as it was.
func Append(dst []byte, m proto.Message) ([]byte, error) {
	v, ok := m.(marshaler)
	if !ok {
		out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, m)
		if err != nil {
			return dst, fmt.Errorf("marshal: %w", err)
		}
		return out, nil
	}
	// The generated code writes from the end, into exactly what it takes.
	size := v.SizeVT()
	out := slices.Grow(dst, size)[:len(dst)+size]
	if _, err := v.MarshalToSizedBufferVT(out[len(dst):]); err != nil {
		return dst, fmt.Errorf("marshal: %w", err)
	}
	return out, nil
}

// Unmarshal reads data into m, which it empties first. Nothing of data is
// kept. After an error the content of m is undefined.
func Unmarshal(data []byte, m proto.Message) error {
	v, ok := m.(unmarshaler)
	if !ok {
		if err := proto.Unmarshal(data, m); err != nil {
			return fmt.Errorf("unmarshal: %w", err)
		}
		return nil
	}
	proto.Reset(m)
	if err := v.UnmarshalVT(data); err != nil {
		return fmt.Errorf("unmarshal: %w", err)
	}
	return nil
}
