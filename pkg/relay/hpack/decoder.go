package hpack

import "unsafe"

// Decoder decodes the header blocks of one direction of a connection.
type Decoder struct {
	table table
	// most is our SETTINGS_HEADER_TABLE_SIZE: the other side may choose less.
	most int
	// limit bounds the size of a field list.
	limit int
	// scratch holds the strings of the block at hand that are in no table.
	scratch []byte
}

// NewDecoder makes a decoder whose table may have tableSize octets and whose blocks may decode to limit octets, as [Field.Size]
// counts them.
func NewDecoder(tableSize, limit int) *Decoder {
	return &Decoder{table: table{limit: tableSize}, most: tableSize, limit: limit}
}

// Decode appends the fields of a whole block to fields. They are valid until the next call. After [ErrTooLarge], where the fields
// that fit have been appended, the decoder goes on; after any other error the connection is lost.
func (d *Decoder) Decode(fields []Field, block []byte) ([]Field, error) {
	d.scratch = d.scratch[:0]
	size, tooLarge, begun := 0, false, false
	for len(block) > 0 {
		b := block[0]
		if b&0xe0 == 0x20 { // dynamic table size update: only before the first field (RFC 7541 §4.2)
			n, rest, err := integer(block, 5)
			switch {
			case err != nil:
				return fields, err
			case begun || int(n) > d.most:
				return fields, ErrTableSize
			}
			d.table.resize(int(n))
			block = rest
			continue
		}
		begun = true
		var f Field
		var err error
		switch {
		case b&0x80 != 0:
			f, block, err = d.indexed(block)
		case b&0x40 != 0:
			f, block, err = d.literal(block, 6, Indexed)
		case b&0x10 != 0:
			f, block, err = d.literal(block, 4, Never)
		default:
			f, block, err = d.literal(block, 4, Plain)
		}
		if err != nil {
			return fields, err
		}
		if size += f.Size(); size > d.limit {
			tooLarge = true
			continue
		}
		fields = append(fields, f)
	}
	if tooLarge {
		return fields, ErrTooLarge
	}
	return fields, nil
}

// Trim gives large buffers of the last block back to the garbage collector. What was decoded from it, but for what is in the table, is
// not valid any more.
func (d *Decoder) Trim() {
	if cap(d.scratch) > mostScratch {
		d.scratch = nil
	}
}

// mostScratch is how large a buffer may be that is kept from one block to the next.
const mostScratch = 16 << 10

// lookup gives the field with an index of both tables (RFC 7541 §2.3.3).
func (d *Decoder) lookup(i uint32) (*Field, error) {
	switch {
	case i == 0:
		return nil, ErrIndex
	case int(i) < len(static):
		return &static[i], nil
	}
	if f := d.table.at(int(i) - len(static) + 1); f != nil {
		return f, nil
	}
	return nil, ErrIndex
}

func (d *Decoder) indexed(block []byte) (Field, []byte, error) {
	i, rest, err := integer(block, 7)
	if err != nil {
		return Field{}, nil, err
	}
	f, err := d.lookup(i)
	if err != nil {
		return Field{}, nil, err
	}
	return Field{Name: f.Name, Value: f.Value, How: Indexed}, rest, nil
}

func (d *Decoder) literal(block []byte, prefix uint8, how How) (f Field, rest []byte, err error) {
	i, rest, err := integer(block, prefix)
	if err != nil {
		return f, nil, err
	}
	f.How = how
	if i == 0 {
		if f.Name, rest, err = d.text(rest); err != nil {
			return f, nil, err
		}
	} else {
		named, err := d.lookup(i)
		if err != nil {
			return f, nil, err
		}
		f.Name, f.NameStays = named.Name, true
	}
	if f.Value, rest, err = d.text(rest); err != nil {
		return f, nil, err
	}
	if how == Indexed {
		kept := Field{Name: f.Name, Value: string(append([]byte(nil), f.Value...))}
		if i == 0 {
			kept.Name = string(append([]byte(nil), f.Name...))
		}
		// The field given out has the table's own strings, which outlive the block.
		d.table.add(kept)
		f.Name, f.Value = kept.Name, kept.Value
	}
	return f, rest, nil
}

// text reads a string (RFC 7541 §5.2). It is valid until the next block.
func (d *Decoder) text(block []byte) (string, []byte, error) {
	if len(block) == 0 {
		return "", nil, ErrTruncated
	}
	coded := block[0]&0x80 != 0
	n, rest, err := integer(block, 7)
	if err != nil {
		return "", nil, err
	}
	if int(n) > len(rest) {
		return "", nil, ErrTruncated
	}
	raw, rest := rest[:n], rest[n:]
	from := len(d.scratch)
	if coded {
		if d.scratch, err = appendHuffmanDecoded(d.scratch, raw); err != nil {
			return "", nil, err
		}
	} else {
		d.scratch = append(d.scratch, raw...)
	}
	// Growing the scratch moves it, but what was given out stays where it was.
	text := d.scratch[from:]
	return unsafe.String(unsafe.SliceData(text), len(text)), rest, nil
}
