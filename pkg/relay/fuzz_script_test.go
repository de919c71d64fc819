package relay_test

import (
	"bytes"
	"encoding/binary"
	"strings"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

// fuzzScript makes frames of octets: one says which, those behind it how it is made. It never fails: what is missing is 0.
type fuzzScript struct {
	in     []byte
	client bool
	next   uint32 // the next stream of a client
	frames int
	last   []byte // the frame before
}

// mostFuzzFrames keeps a script from taking long.
const mostFuzzFrames = 2000

func (s *fuzzScript) more() bool { return len(s.in) > 0 && s.frames < mostFuzzFrames }

func (s *fuzzScript) byte() byte {
	if len(s.in) == 0 {
		return 0
	}
	b := s.in[0]
	s.in = s.in[1:]
	return b
}

func (s *fuzzScript) uint32() uint32 {
	return uint32(s.byte())<<24 | uint32(s.byte())<<16 | uint32(s.byte())<<8 | uint32(s.byte())
}

// take takes up to n octets.
func (s *fuzzScript) take(n int) []byte {
	n = min(n, len(s.in))
	b := s.in[:n]
	s.in = s.in[n:]
	return b
}

// stream gives a stream id that is likely to mean something.
func (s *fuzzScript) stream() uint32 {
	switch b := s.byte(); {
	case b < 192:
		return uint32(b%6)*2 + 1
	case b < 224:
		return uint32(b % 8)
	case b < 240:
		return max(s.next, 2) - 2
	default:
		return s.uint32() & (1<<31 - 1)
	}
}

// frame appends the next frame. await says that the engine is to read everything before the script goes on.
func (s *fuzzScript) frame(dst []byte) (out []byte, await bool) {
	from := len(dst)
	s.frames++
	op := s.byte()
	switch op % 16 {
	case 0, 1:
		dst = s.headers(dst, true)
	case 2:
		dst = s.headers(dst, false)
	case 3:
		dst = appendFlat(dst, http2.FrameHeaders, http2.Flags(s.byte()), s.stream(), s.take(int(s.byte())))
	case 4:
		dst = appendFlat(dst, http2.FrameContinuation, http2.Flags(s.byte()), s.stream(), s.take(int(s.byte())))
	case 5, 6, 7:
		dst = s.data(dst)
	case 8:
		dst = appendFlat(dst, http2.FrameRSTStream, 0, s.stream(), binary.BigEndian.AppendUint32(nil, uint32(s.byte())))
	case 9:
		var settings []byte
		for range 1 + s.byte()%3 {
			settings = binary.BigEndian.AppendUint32(append(settings, 0, s.byte()%8), s.number())
		}
		dst = appendFlat(dst, http2.FrameSettings, 0, 0, settings)
	case 10, 11:
		dst = appendFlatCredit(dst, s.stream(), s.number())
	case 12:
		payload := binary.BigEndian.AppendUint32(nil, s.stream())
		dst = appendFlat(dst, http2.FrameGoAway, 0, 0, binary.BigEndian.AppendUint32(payload, uint32(s.byte())))
	case 13:
		dst = appendFlat(dst, http2.FrameType(s.byte()), http2.Flags(s.byte()), s.stream(), s.take(int(s.byte())))
	case 14:
		return dst, true
	case 15:
		for range 1 + int(s.byte()) {
			dst = append(dst, s.last...)
		}
		s.frames += 10
		return dst, len(s.last) > 1000
	}
	s.last = bytes.Clone(dst[from:])
	return dst, op >= 224
}

// number gives a number that is likely to be near a bound.
func (s *fuzzScript) number() uint32 {
	near := []uint32{0, 1, 100, 4096, 16384, 65535, 1 << 20, 1<<24 - 1, 1<<31 - 1, 1 << 31, 1<<32 - 1}
	b := s.byte()
	return near[int(b)%len(near)] + uint32(b>>6)
}

// data appends DATA of up to 16,384 octets, padded or not.
func (s *fuzzScript) data(dst []byte) []byte {
	id, flags, n := s.stream(), http2.Flags(s.byte())&(http2.FlagDataEndStream|http2.FlagDataPadded), int(s.byte())
	if n >= 128 {
		n = n * 128 % 16385
	}
	payload := make([]byte, n)
	if flags.Has(http2.FlagDataPadded) && n > 0 {
		payload[0] = s.byte()
	}
	return appendFlat(dst, http2.FrameData, flags, id, payload)
}

// headers appends HEADERS with a request, a response or trailers; right ones, or changed in up to two places.
func (s *fuzzScript) headers(dst []byte, right bool) []byte {
	flags := http2.FlagHeadersEndHeaders | http2.Flags(s.byte())&http2.FlagHeadersEndStream
	var id uint32
	var fields []h2script.Field
	switch {
	case s.client:
		id, s.next = s.next, s.next+2
		fields = h2script.Request("/fuzz.Service/Call")
	case s.byte()%3 == 0:
		id, fields = s.stream(), h2script.Fields("grpc-status", "0", "grpc-message", "")
	default:
		id, fields = s.stream(), h2script.Response()
	}
	if !right {
		flags ^= http2.Flags(s.byte()) & (http2.FlagHeadersPadded | http2.FlagHeadersPriority | http2.FlagHeadersEndHeaders)
		for range 1 + s.byte()%2 {
			fields = s.change(fields)
		}
	}
	if s.client && s.byte() >= 240 {
		id = s.stream()
	}
	return appendFlat(dst, http2.FrameHeaders, flags, id, h2script.Encode(fields...))
}

// change does something to a field list.
func (s *fuzzScript) change(fields []h2script.Field) []h2script.Field {
	i := int(s.byte()) % len(fields)
	switch s.byte() % 8 {
	case 0:
		if len(fields) > 1 {
			return append(fields[:i:i], fields[i+1:]...)
		}
	case 1:
		return append(fields, fields[i])
	case 2:
		fields[i].Value = string(s.take(int(s.byte())))
	case 3:
		fields[i].Name = string(s.take(int(s.byte() % 16)))
	case 4:
		fields[i].Form, fields[i].Huffman = h2script.Form(s.byte()%3), s.byte()%2 == 0
	case 5:
		fields[i].Ref = uint64(s.byte())
	case 6:
		names := []string{"connection", "transfer-encoding", "content-length", "grpc-timeout", "fly-force-instance-id", "flyproxy-service",
			"te", ":status", ":protocol", "x-a", "grpc-previous-rpc-attempts", "grpc-retry-pushback-ms"}
		return append(fields, h2script.Field{Name: names[int(s.byte())%len(names)], Value: string(s.take(int(s.byte() % 8)))})
	case 7:
		return append(fields, h2script.Field{Name: "x-long", Value: strings.Repeat("l", int(s.byte())*256), Form: h2script.Indexed})
	}
	return fields
}
