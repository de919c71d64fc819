// Package hpack is header compression for HTTP/2 (RFC 7541) as a relay needs it: it decodes and encodes whole header blocks without
// allocating in the usual case, keeps the difference between indexed, plain and never-indexed literals, and leaves values that
// change with every call out of the dynamic table.
//
// Neither a Decoder nor an Encoder may be used concurrently. The two ends of a connection stay in step only if every block is
// decoded, and sent, in the order of the frames (RFC 7541 §2.2).
package hpack

import "errors"

// Field is one header field. Name and Value are valid until the next call of the Decoder that gave them; those of an Indexed field, and
// where NameStays is set the name, for ever. An Encoder relies on that of Indexed fields: their strings are never changed.
type Field struct {
	Name, Value string
	// How is the representation in which the field came, or in which it is to be sent.
	How How
	// NameStays says that Name is a table's own string, which stays valid.
	NameStays bool
}

// How is the representation of a field (RFC 7541 §6).
type How uint8

// The representations.
const (
	// Indexed fields are, or may be put, in the dynamic table.
	Indexed How = iota
	// Plain literals are not put there.
	Plain
	// Never literals are not put there by anybody on the way: they may be secret (RFC 7541 §7.1.3).
	Never
)

// Size is what the field counts towards the limits of RFC 7541 §4.1 and RFC 9113 §6.5.2, in octets.
func (f *Field) Size() int { return len(f.Name) + len(f.Value) + 32 }

// DefaultTableSize is SETTINGS_HEADER_TABLE_SIZE where nothing else was said (RFC 9113 §6.5.2).
const DefaultTableSize = 4096

// The errors of a Decoder. All but ErrTooLarge are connection errors of type COMPRESSION_ERROR (RFC 9113 §4.3).
var (
	ErrTruncated = errors.New("hpack: block ends within a field")
	ErrInteger   = errors.New("hpack: integer too large")
	ErrIndex     = errors.New("hpack: index outside the tables")
	ErrHuffman   = errors.New("hpack: string is not Huffman code")
	ErrTableSize = errors.New("hpack: table size update not allowed here")
	// ErrTooLarge says that the block decodes to more than the limit. The tables are in step all the same.
	ErrTooLarge = errors.New("hpack: header list too large")
)

// appendInteger appends n with a prefix of the given number of bits, under the bits of first (RFC 7541 §5.1).
func appendInteger(dst []byte, first byte, prefix uint8, n uint64) []byte {
	most := uint64(1)<<prefix - 1
	if n < most {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(most))
	for n -= most; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|128)
	}
	return append(dst, byte(n))
}

// integer reads an integer and gives what follows it. Nothing here needs more than 32 bits.
func integer(b []byte, prefix uint8) (n uint32, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, ErrTruncated
	}
	most := uint32(1)<<prefix - 1
	n = uint32(b[0]) & most
	if n < most {
		return n, b[1:], nil
	}
	sum := uint64(n)
	for i, shift := 1, 0; i < len(b); i, shift = i+1, shift+7 {
		if shift > 28 {
			return 0, nil, ErrInteger
		}
		if sum += uint64(b[i]&127) << shift; sum > 1<<31 {
			return 0, nil, ErrInteger
		}
		if b[i] < 128 {
			return uint32(sum), b[i+1:], nil
		}
	}
	return 0, nil, ErrTruncated
}
