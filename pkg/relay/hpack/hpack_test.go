package hpack_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	nethpack "golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

var (
	someNames  = []string{":path", ":authority", ":method", "content-type", "grpc-timeout", "x-a", "x-b", "te", "user-agent", "x-" + strings.Repeat("n", 100)}
	someValues = []string{"", "POST", "/pkg.Svc/Method", "application/grpc", "trailers", "1S", "a", "\x00\xff\x80", strings.Repeat("v", 200), strings.Repeat("w", 3000)}
)

func genField(t *rapid.T) hpack.Field {
	f := hpack.Field{Name: rapid.SampledFrom(someNames).Draw(t, "name"), Value: rapid.SampledFrom(someValues).Draw(t, "value")}
	if rapid.Bool().Draw(t, "random") {
		f.Value = string(rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "bytes"))
	}
	f.How = hpack.How(rapid.IntRange(0, 2).Draw(t, "how"))
	return f
}

// What golang.org/x/net encodes we decode, over many blocks and changes of the table's size.
func TestDecodesWhatAnotherEncodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var block bytes.Buffer
		enc := nethpack.NewEncoder(&block)
		dec := hpack.NewDecoder(hpack.DefaultTableSize, 1<<20)
		for range rapid.IntRange(1, 20).Draw(t, "blocks") {
			if rapid.IntRange(0, 4).Draw(t, "resize") == 0 {
				enc.SetMaxDynamicTableSize(uint32(rapid.IntRange(0, hpack.DefaultTableSize).Draw(t, "size")))
			}
			block.Reset()
			want := rapid.SliceOfN(rapid.Custom(genField), 0, 15).Draw(t, "fields")
			for _, f := range want {
				if err := enc.WriteField(nethpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: f.How == hpack.Never}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := dec.Decode(nil, block.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			same(t, want, got)
		}
	})
}

// What we encode golang.org/x/net decodes, with never-indexed literals as such.
func TestAnotherDecodesWhatWeEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		enc := hpack.NewEncoder()
		var got []nethpack.HeaderField
		dec := nethpack.NewDecoder(hpack.DefaultTableSize, func(f nethpack.HeaderField) { got = append(got, f) })
		ours := hpack.NewDecoder(hpack.DefaultTableSize, 1<<20)
		for range rapid.IntRange(1, 30).Draw(t, "blocks") {
			for range rapid.IntRange(0, 2).Draw(t, "resizes") {
				enc.SetMaxTableSize(uint32(rapid.IntRange(0, 8192).Draw(t, "size")))
			}
			want := rapid.SliceOfN(rapid.Custom(genField), 1, 15).Draw(t, "fields")
			block := enc.Begin(nil)
			for _, f := range want {
				block = enc.Append(block, f)
			}
			got = got[:0]
			if _, err := dec.Write(block); err != nil {
				t.Fatalf("%x: %v", block, err)
			}
			if err := dec.Close(); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Fatalf("%d fields came of %d", len(got), len(want))
			}
			for i, w := range want {
				if got[i].Name != w.Name || got[i].Value != w.Value || got[i].Sensitive != (w.How == hpack.Never) {
					t.Fatalf("field %d came as %v, want %v", i, got[i], w)
				}
			}
			mine, err := ours.Decode(nil, block)
			if err != nil {
				t.Fatal(err)
			}
			same(t, want, mine)
		}
	})
}

func same(t *rapid.T, want, got []hpack.Field) {
	t.Helper()
	if !slices.EqualFunc(want, got, func(w, g hpack.Field) bool {
		return w.Name == g.Name && w.Value == g.Value && (w.How == hpack.Never) == (g.How == hpack.Never)
	}) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		block []byte
		want  error
	}{
		"index 0":                    {[]byte{0x80}, hpack.ErrIndex},
		"index past both tables":     {[]byte{0xff, 0x20}, hpack.ErrIndex},
		"name past both tables":      {[]byte{0x7f, 0x20, 0x00}, hpack.ErrIndex},
		"integer without end":        {[]byte{0xff, 0xff}, hpack.ErrTruncated},
		"integer of six octets":      {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, hpack.ErrInteger},
		"string that is cut off":     {[]byte{0x40, 0x03, 'a', 'b'}, hpack.ErrTruncated},
		"no value":                   {[]byte{0x41}, hpack.ErrTruncated},
		"Huffman with EOS":           {[]byte{0x41, 0x84, 0xff, 0xff, 0xff, 0xff}, hpack.ErrHuffman},
		"Huffman padded with zeros":  {[]byte{0x41, 0x81, 0x00}, hpack.ErrHuffman},
		"Huffman padded by an octet": {[]byte{0x41, 0x82, 0x1f, 0xff}, hpack.ErrHuffman},
		"table larger than allowed":  {[]byte{0x3f, 0xe2, 0x1f}, hpack.ErrTableSize},
		"table size after a field":   {[]byte{0x82, 0x20}, hpack.ErrTableSize},
	} {
		if _, err := hpack.NewDecoder(hpack.DefaultTableSize, 1<<20).Decode(nil, tc.block); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestTooLargeKeepsTheTablesInStep(t *testing.T) {
	enc, dec := hpack.NewEncoder(), hpack.NewDecoder(hpack.DefaultTableSize, 200)
	block := enc.Append(nil, hpack.Field{Name: "x-big", Value: strings.Repeat("b", 300)})
	block = enc.Append(block, hpack.Field{Name: "x-small", Value: "s"})
	if _, err := dec.Decode(nil, block); !errors.Is(err, hpack.ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	got, err := dec.Decode(nil, enc.Append(nil, hpack.Field{Name: "x-small", Value: "s"}))
	if err != nil || len(got) != 1 || got[0].Value != "s" {
		t.Errorf("the next block gave %v %v", got, err)
	}
}

func TestPlainStaysOutOfTheTable(t *testing.T) {
	enc := hpack.NewEncoder()
	for i := range 1000 {
		enc.Append(nil, hpack.Field{Name: "grpc-timeout", Value: fmt.Sprint(i, "m"), How: hpack.Plain})
	}
	kept := hpack.Field{Name: "x-kept", Value: "yes"}
	enc.Append(nil, kept)
	for i := range 1000 {
		enc.Append(nil, hpack.Field{Name: "grpc-timeout", Value: fmt.Sprint(i, "m"), How: hpack.Plain})
	}
	if block := enc.Append(nil, kept); len(block) != 1 {
		t.Errorf("a field that was kept takes %d octets", len(block))
	}
}

func TestRepeatedBlockAllocatesNothing(t *testing.T) {
	fields := []hpack.Field{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/pkg.Service/Method"},
		{Name: ":authority", Value: "localhost:50052"}, {Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "grpc-go/1.85.0"}, {Name: "te", Value: "trailers"}, {Name: "grpc-timeout", Value: "999m", How: hpack.Plain},
	}
	enc, dec := hpack.NewEncoder(), hpack.NewDecoder(hpack.DefaultTableSize, 1<<16)
	block, got := make([]byte, 0, 256), make([]hpack.Field, 0, 16)
	var err error
	if n := testing.AllocsPerRun(200, func() {
		block = enc.Begin(block[:0])
		for _, f := range fields {
			block = enc.Append(block, f)
		}
		if got, err = dec.Decode(got[:0], block); err != nil || len(got) != len(fields) {
			t.Fatal(got, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBlock(b *testing.B) {
	fields := []hpack.Field{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/pkg.Service/Method"},
		{Name: ":authority", Value: "localhost:50052"}, {Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "grpc-go/1.85.0"}, {Name: "te", Value: "trailers"}, {Name: "grpc-timeout", Value: "999m", How: hpack.Plain},
	}
	enc, dec := hpack.NewEncoder(), hpack.NewDecoder(hpack.DefaultTableSize, 1<<16)
	block, got := make([]byte, 0, 256), make([]hpack.Field, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		block = enc.Begin(block[:0])
		for _, f := range fields {
			block = enc.Append(block, f)
		}
		got, _ = dec.Decode(got[:0], block)
	}
}
