package h2script

import (
	"golang.org/x/net/http2/hpack"
)

// Form is how a header field is written (RFC 7541 §6.2).
type Form uint8

// The forms of a literal. Plain leaves the receiver's table alone, so blocks in that form are right at any table size.
const (
	Plain   Form = iota // without indexing
	Indexed             // with incremental indexing: the receiver's table takes the field as its entry 62
	Never               // never indexed: no hop may put it into a table
)

// Field is a header field in a given form. With a Ref it is not a literal but a reference to that entry of the receiver's table
// (1 to 61 static, 62 the newest dynamic one).
type Field struct {
	Name, Value string
	Form        Form
	Huffman     bool
	Ref         uint64
}

// Fields makes plain fields of name, value, name, value…
func Fields(pairs ...string) []Field {
	fields := make([]Field, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		fields = append(fields, Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return fields
}

// Encode gives the header block of fields. It keeps no state.
func Encode(fields ...Field) []byte {
	var b []byte
	for _, f := range fields {
		if f.Ref != 0 {
			b = appendInt(b, 0x80, 7, f.Ref)
			continue
		}
		b = append(b, map[Form]byte{Plain: 0x00, Indexed: 0x40, Never: 0x10}[f.Form])
		b = appendString(b, f.Name, f.Huffman)
		b = appendString(b, f.Value, f.Huffman)
	}
	return b
}

func appendString(b []byte, s string, huffman bool) []byte {
	if huffman {
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, hpack.HuffmanEncodeLength(s)), s)
	}
	return append(appendInt(b, 0, 7, uint64(len(s))), s...)
}

// appendInt writes an integer with a prefix of n bits (RFC 7541 §5.1).
func appendInt(b []byte, first byte, n uint, i uint64) []byte {
	most := uint64(1)<<n - 1
	if i < most {
		return append(b, first|byte(i))
	}
	b = append(b, first|byte(most))
	for i -= most; i >= 0x80; i >>= 7 {
		b = append(b, byte(i)|0x80)
	}
	return append(b, byte(i))
}

// Values gives the values of the fields of that name, in order.
func Values(fields []hpack.HeaderField, name string) (values []string) {
	for _, f := range fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}
