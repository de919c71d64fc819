package hpack_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	nethpack "golang.org/x/net/http2/hpack"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// FuzzDecode gives one block to our decoder and to that of golang.org/x/net: both must refuse it, or find the same fields.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff})
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x40, 0x01, 'a', 0x01, 'b', 0xbe})
	f.Fuzz(func(t *testing.T, block []byte) {
		newPair().decode(t, block)
	})
}

// FuzzBlocks gives both decoders a row of blocks: an octet says how long the next one is. A third decoder, of ours, has a small limit;
// what is too large for it must leave its table as that of the others.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte("\x05\x40\x01a\x01b\x01\xbe\x02\xbe\xbe"))
	f.Add([]byte("\x07\x40\x01a\x01b\x20\xbe\x04\x40\x01c\x00\x01\xbe"))
	f.Add(slices.Concat([]byte("\xc8\x40\x04long\x7f\x40"), bytes.Repeat([]byte("l"), 191), []byte("\x01\xbe\x05\x40\x01s\x01s\x02\xbe\xbf")))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := newPair()
		small := hpack.NewDecoder(hpack.DefaultTableSize, 150)
		for len(in) > 0 {
			n := min(1+int(in[0]), len(in))
			block := in[1:n]
			in = in[n:]
			fields, ok := p.decode(t, block)
			got, err := small.Decode(nil, block)
			switch {
			case !ok:
				return
			case err != nil && !errors.Is(err, hpack.ErrTooLarge):
				t.Fatalf("%x: with a small limit %v", block, err)
			case err == nil && !equal(fields, got), err != nil && !subset(got, fields):
				t.Fatalf("%x: with a small limit %+v, want %+v", block, got, fields)
			}
		}
	})
}

// FuzzEncode has us encode fields that are made of the input, with changes of the table's size between and within rounds, and both
// decoders read them.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("\x03\x00\x01a\x01b\x00\x01a\x01b\x01\x01c\x02dd\x83\x00\x02\x01a\x01b\x02\x01e\x01f"))
	f.Add([]byte("\x80\x00\x81\xff\x01\x00\x01a\x01b\x80\x10\x01\x00\x01a\x01b"))
	f.Fuzz(func(t *testing.T, in []byte) {
		enc, p := hpack.NewEncoder(), newPair()
		next := func() byte {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return b
		}
		text := func() string {
			n := min(int(next()), len(in))
			s := string(in[:n])
			in = in[n:]
			return s
		}
		for len(in) > 0 {
			op := next()
			if op&0x80 != 0 { // SETTINGS_HEADER_TABLE_SIZE, of up to twice the default
				size := uint32(next()) * 33
				enc.SetMaxTableSize(size)
				p.other.SetAllowedMaxDynamicTableSize(size)
				p.other.SetMaxDynamicTableSize(min(size, hpack.DefaultTableSize))
				continue
			}
			var want []hpack.Field
			block := enc.Begin(nil)
			for range op%8 + 1 {
				field := hpack.Field{How: hpack.How(next() % 3), Name: text(), Value: text()}
				want = append(want, field)
				block = enc.Append(block, field)
			}
			got, ok := p.decode(t, block)
			if !ok || !equal(want, got) {
				t.Fatalf("%x: %+v, want %+v", block, got, want)
			}
			for i := range got {
				if (got[i].How == hpack.Never) != (want[i].How == hpack.Never) {
					t.Fatalf("%q is %v, want %v", got[i].Name, got[i].How, want[i].How)
				}
			}
		}
	})
}

// pair is our decoder and that of golang.org/x/net, which are given the same blocks.
type pair struct {
	ours  *hpack.Decoder
	other *nethpack.Decoder
	came  []nethpack.HeaderField
}

func newPair() *pair {
	p := &pair{ours: hpack.NewDecoder(hpack.DefaultTableSize, 1<<30)}
	p.other = nethpack.NewDecoder(hpack.DefaultTableSize, func(f nethpack.HeaderField) { p.came = append(p.came, f) })
	return p
}

// decode gives the fields of a block; ok is false when both refuse it, or when only we do for a size of the table: golang.org/x/net
// lets a second change in a row be anything.
func (p *pair) decode(t *testing.T, block []byte) (fields []hpack.Field, ok bool) {
	t.Helper()
	p.came = p.came[:0]
	_, err := p.other.Write(block)
	if err == nil {
		err = p.other.Close()
	}
	fields, ourErr := p.ours.Decode(nil, block)
	if errors.Is(ourErr, hpack.ErrTableSize) {
		return nil, false
	}
	if (err == nil) != (ourErr == nil) {
		t.Fatalf("%x: we say %v, the other %v", block, ourErr, err)
	}
	if err != nil {
		return nil, false
	}
	if !slices.EqualFunc(fields, p.came, func(f hpack.Field, o nethpack.HeaderField) bool {
		return f.Name == o.Name && f.Value == o.Value && (f.How == hpack.Never) == o.Sensitive
	}) {
		t.Fatalf("%x: %+v, want %+v", block, fields, p.came)
	}
	return fields, true
}

func equal(a, b []hpack.Field) bool {
	return slices.EqualFunc(a, b, func(x, y hpack.Field) bool { return x.Name == y.Name && x.Value == y.Value })
}

// subset tells whether some are of all, in order.
func subset(some, all []hpack.Field) bool {
	for len(some) > 0 && len(all) > 0 {
		if some[0].Name == all[0].Name && some[0].Value == all[0].Value {
			some = some[1:]
		}
		all = all[1:]
	}
	return len(some) == 0
}
