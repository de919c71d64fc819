package grpcengine

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// frame is the slot in which one direction of a call carries its current message. It owns one reference to data.
type frame struct{ data mem.BufferSlice }

// free drops what a send has not taken over.
func (f *frame) free() {
	f.data.Free()
	f.data = nil
}

// rawCodec passes a *frame's bytes as they are, without a copy, whatever they mean. The services that the engine's server answers
// itself speak protobuf.
type rawCodec struct{ proto encoding.CodecV2 }

func newCodec() rawCodec { return rawCodec{encoding.GetCodecV2(proto.Name)} }

// Marshal hands the frame's reference over to grpc-go, which frees it once the message is written.
func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return c.proto.Marshal(v)
	}
	data := f.data
	f.data = nil
	return data, nil
}

// Unmarshal takes a reference of its own: grpc-go frees data when it returns.
func (c rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return c.proto.Unmarshal(data, v)
	}
	data.Ref()
	f.data = data
	return nil
}

// Name is empty because grpc-go makes a forced codec's name the content-subtype of calls that have none.
func (rawCodec) Name() string { return "" }
