package hpack_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	nethpack "golang.org/x/net/http2/hpack"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// Fields whose strings are the same ones, block after block, are found by their addresses: also after they have left the table, or it has
// changed its size, what is encoded must say what they are.
func TestFieldsThatComeAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var fields []hpack.Field
	for i := range 60 {
		fields = append(fields, hpack.Field{Name: fmt.Sprint("name-", i%20), Value: strings.Repeat(fmt.Sprint(i), 1+i*3)})
	}
	fields = append(fields, hpack.Field{Name: ":method", Value: "POST"}, hpack.Field{Name: "empty"},
		hpack.Field{Name: "secret", Value: "s", How: hpack.Never}, hpack.Field{Name: "plain", Value: "p", How: hpack.Plain})
	enc, indexed := hpack.NewEncoder(), 0
	var came []nethpack.HeaderField
	dec := nethpack.NewDecoder(hpack.DefaultTableSize, func(f nethpack.HeaderField) { came = append(came, f) })
	for n := range 5000 {
		if n%500 == 499 {
			enc.SetMaxTableSize(uint32(r.IntN(hpack.DefaultTableSize)))
		}
		var want []hpack.Field
		block := enc.Begin(nil)
		for range r.IntN(12) {
			f := fields[min(r.IntN(len(fields)), r.IntN(len(fields)))] // some come more often than others
			want = append(want, f)
			before := len(block)
			if block = enc.Append(block, f); len(block)-before <= 2 {
				indexed++
			}
		}
		came = came[:0]
		if _, err := dec.Write(block); err != nil {
			t.Fatalf("block %d: %v", n, err)
		}
		if err := dec.Close(); err != nil || len(came) != len(want) {
			t.Fatalf("block %d: %d fields of %d: %v", n, len(came), len(want), err)
		}
		for i, w := range want {
			if came[i].Name != w.Name || came[i].Value != w.Value || came[i].Sensitive != (w.How == hpack.Never) {
				t.Fatalf("block %d: %v came as %v", n, w, came[i])
			}
		}
	}
	if indexed < 5000 {
		t.Errorf("only %d fields were indexed: the test says little", indexed)
	}
}
