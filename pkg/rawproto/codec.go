package rawproto

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one builds on
	"google.golang.org/grpc/mem"
)

// Codec is the codec for grpc.ForceServerCodecV2.
func Codec() encoding.CodecV2 { return codec{standard: encoding.GetCodecV2(name)} }

// name under which grpc knows protobuf.
const name = "proto"

type codec struct{ standard encoding.CodecV2 }

// Marshal hands a *Message's bytes through and leaves the rest to the standard
// codec.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*Message); ok {
		return m.buffers(), nil
	}
	data, err := c.standard.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return data, nil
}

// Unmarshal is the standard codec's; into a *Message it keeps the bytes.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*Message); ok {
		m.parts = [][]byte{data.Materialize()}
		return nil
	}
	if err := c.standard.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

// Name is that of the standard codec.
func (c codec) Name() string { return name }
