package hpack

import (
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// Encoder encodes the header blocks of one direction of a connection.
type Encoder struct {
	table table
	// pairs and names say where in the dynamic table a field, or a name, was last put: the entry's number. They hold what the table
	// holds, and the strings are the table's own, so that the table's limit bounds them too.
	pairs map[pair]uint64
	names map[string]uint64
	// memo has where the small fields of the last blocks were found, by the addresses of their strings: most blocks repeat those before.
	memo [memoSize]found
	// announce is the size to be announced with the next block; -1 for none. With emptied, 0 is announced before it.
	announce int
	emptied  bool
}

type pair struct{ name, value string }

const (
	memoSize = 32
	// memoField is the size of the largest field that is remembered. The memo keeps strings that are in no table any more, so that
	// their addresses are not used again; this bounds them to memoSize * memoField octets.
	memoField = 160
)

// found says where a field is: in the static table, or by its number in the dynamic one.
type found struct {
	field  pair
	static int
	number uint64
}

// memoOf gives the place of a field's memo; nil for one that is large, or whose strings may be used again for others (see [Field]).
func (e *Encoder) memoOf(f *Field) *found {
	if f.How != Indexed || f.Value == "" || f.Name == "" || f.Size() > memoField {
		return nil
	}
	name, value := uintptr(unsafe.Pointer(unsafe.StringData(f.Name))), uintptr(unsafe.Pointer(unsafe.StringData(f.Value)))
	return &e.memo[(name>>4^value>>4)%memoSize]
}

// same tells whether two strings are one, and not only equal.
func same(a, b string) bool { return len(a) == len(b) && unsafe.StringData(a) == unsafe.StringData(b) }

// NewEncoder makes an encoder for a peer that has not yet sent its SETTINGS.
func NewEncoder() *Encoder {
	e := &Encoder{
		table: table{limit: DefaultTableSize}, pairs: make(map[pair]uint64), names: make(map[string]uint64), announce: -1,
	}
	e.table.evicted = e.forget
	return e
}

// maxTableSize bounds our own side of what a peer allows: a larger table finds hardly more and costs memory per connection.
const maxTableSize = DefaultTableSize

// SetMaxTableSize takes the peer's SETTINGS_HEADER_TABLE_SIZE.
func (e *Encoder) SetMaxTableSize(n uint32) {
	size := int(min(n, maxTableSize))
	// Between two blocks the smallest size and the last one must both be announced (RFC 7541 §4.2) if the table had shrunk below
	// the last. golang.org/x/net, and so every grpc-go peer, takes the second of two only on an empty table, so we empty it.
	if e.announce >= 0 && e.announce < size {
		e.table.evict(0)
		e.emptied = true
	}
	e.announce = size
	e.table.resize(size)
}

// Begin begins a block: what the peer must know first is appended to dst.
func (e *Encoder) Begin(dst []byte) []byte {
	if e.announce < 0 {
		return dst
	}
	if e.emptied {
		dst = appendInteger(dst, 0x20, 5, 0)
	}
	dst = appendInteger(dst, 0x20, 5, uint64(e.announce))
	e.announce, e.emptied = -1, false
	return dst
}

// Append appends one field to a block.
func (e *Encoder) Append(dst []byte, f Field) []byte {
	memo := e.memoOf(&f)
	if memo != nil && same(memo.field.value, f.Value) && same(memo.field.name, f.Name) {
		if i := memo.static; i > 0 {
			return appendInteger(dst, 0x80, 7, uint64(i))
		}
		if i := e.index(memo.number); i > 0 {
			return appendInteger(dst, 0x80, 7, uint64(i))
		}
	}
	if f.How == Never {
		return e.literal(dst, f, 0x10, 4)
	}
	if i := staticPair(f.Name, f.Value); i > 0 {
		if memo != nil {
			*memo = found{field: pair{f.Name, f.Value}, static: i}
		}
		return appendInteger(dst, 0x80, 7, uint64(i))
	}
	if f.How == Plain || f.Size() > e.table.limit/2 {
		return e.literal(dst, f, 0, 4)
	}
	number := e.pairs[pair{f.Name, f.Value}]
	if memo != nil {
		*memo = found{field: pair{f.Name, f.Value}, number: number}
	}
	if i := e.index(number); i > 0 {
		return appendInteger(dst, 0x80, 7, uint64(i))
	}
	dst = e.literal(dst, f, 0x40, 6)
	kept := Field{Name: clone(f.Name), Value: clone(f.Value)}
	if e.table.add(kept) {
		e.pairs[pair{kept.Name, kept.Value}] = e.table.added
		e.names[kept.Name] = e.table.added
		if memo != nil {
			memo.number = e.table.added
		}
	}
	return dst
}

func clone(s string) string { return string(append([]byte(nil), s...)) }

// index gives the index of the entry with that number, 0 when it has left the table.
func (e *Encoder) index(number uint64) int {
	if number == 0 || e.table.added-number >= uint64(e.table.count) {
		return 0
	}
	return len(static) + int(e.table.added-number)
}

// forget drops what the maps say of an entry that leaves the table, unless they say where it was put again.
func (e *Encoder) forget(f *Field, number uint64) {
	if k := (pair{f.Name, f.Value}); e.pairs[k] == number {
		delete(e.pairs, k)
	}
	if e.names[f.Name] == number {
		delete(e.names, f.Name)
	}
}

// literal appends a field whose value is written out.
func (e *Encoder) literal(dst []byte, f Field, first byte, prefix uint8) []byte {
	i := staticName(f.Name)
	if i == 0 {
		i = e.index(e.names[f.Name])
	}
	dst = appendInteger(dst, first, prefix, uint64(i))
	if i == 0 {
		dst = appendText(dst, f.Name)
	}
	return appendText(dst, f.Value)
}

// appendText appends a string, in Huffman code where that is shorter.
func appendText(dst []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInteger(dst, 0x80, 7, n), s)
	}
	return append(appendInteger(dst, 0, 7, uint64(len(s))), s...)
}

var staticNames, staticPairs = indexStatic()

func indexStatic() (map[string]int, map[pair]int) {
	names, pairs := make(map[string]int), make(map[pair]int)
	for i := len(static) - 1; i > 0; i-- {
		names[static[i].Name] = i
		if static[i].Value != "" {
			pairs[pair{static[i].Name, static[i].Value}] = i
		}
	}
	return names, pairs
}

func staticName(name string) int { return staticNames[name] }

// staticPair looks only where the static table has values: at the pseudo-headers and accept-encoding.
func staticPair(name, value string) int {
	if len(name) == 0 || name[0] != ':' && name != "accept-encoding" {
		return 0
	}
	return staticPairs[pair{name, value}]
}
