package rawproto

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Message is an encoded protobuf message, in parts that stand one behind the
// other. The zero value is the empty message.
type Message struct {
	parts [][]byte
}

// Nested appends a field that holds a message, given encoded. A repeated field
// is appended once for each element. It returns m.
func (m *Message) Nested(field protowire.Number, encoded []byte) *Message {
	head := make([]byte, 0, protowire.SizeTag(field)+protowire.SizeVarint(uint64(len(encoded))))
	head = protowire.AppendTag(head, field, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(encoded)))
	m.parts = append(m.parts, head)
	if len(encoded) > 0 {
		m.parts = append(m.parts, encoded)
	}
	return m
}

// Append appends a message that holds further fields, in protobuf's sense of merging:
// single fields replace earlier ones, repeated ones are added.
func (m *Message) Append(rest proto.Message) error {
	encoded, err := proto.Marshal(rest)
	if err != nil {
		return fmt.Errorf("encode %s: %w", rest.ProtoReflect().Descriptor().FullName(), err)
	}
	if len(encoded) > 0 {
		m.parts = append(m.parts, encoded)
	}
	return nil
}

// Size is the number of bytes of the whole.
func (m *Message) Size() int {
	n := 0
	for _, p := range m.parts {
		n += len(p)
	}
	return n
}

// Bytes is the whole in one piece, copied.
func (m *Message) Bytes() []byte {
	whole := make([]byte, 0, m.Size())
	for _, p := range m.parts {
		whole = append(whole, p...)
	}
	return whole
}

// Decode reads the whole into a message, which it resets.
func (m *Message) Decode(into proto.Message) error {
	if err := proto.Unmarshal(m.Bytes(), into); err != nil {
		return fmt.Errorf("decode %s: %w", into.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// buffers hands the parts to grpc, which does not change them. Small messages go
// as one part: grpc spends more on a part than a copy costs.
func (m *Message) buffers() mem.BufferSlice {
	if len(m.parts) > 1 && mem.IsBelowBufferPoolingThreshold(m.Size()) {
		return mem.BufferSlice{mem.SliceBuffer(m.Bytes())}
	}
	data := make(mem.BufferSlice, len(m.parts))
	for i, p := range m.parts {
		data[i] = mem.SliceBuffer(p)
	}
	return data
}
