package hpack_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// What an encoder holds is bounded by its table, whatever went through it: an encoder of every connection once kept large fields that no
// table had any more, 110 KiB of them. No other limit counts them.
func TestEncoderKeepsNoMoreThanItsTable(t *testing.T) {
	for what, c := range map[string]struct{ size, most int }{
		"large fields":                    {1900, 16 << 10},
		"medium fields":                   {600, 16 << 10},
		"fields that the memo just takes": {100, 24 << 10},
		// A table of 4 KiB has room for 110 of these; two maps of as many take the most.
		"small fields": {4, 36 << 10},
	} {
		t.Run(what, func(t *testing.T) {
			const encoders, blocks, fields = 50, 300, 4
			r := rand.New(rand.NewPCG(1, 2))
			kept := make([]*hpack.Encoder, 0, encoders)
			var block []byte
			before := heap()
			for range encoders {
				e := hpack.NewEncoder()
				for range blocks {
					block = e.Begin(block[:0])
					for range fields {
						value := strings.Repeat("v", c.size-4) + fmt.Sprintf("%04d", r.IntN(10000))
						// Some names come again, also while an entry with them is in the table; some do not.
						block = e.Append(block, hpack.Field{Name: fmt.Sprint("n", min(r.IntN(1000), r.IntN(1000))), Value: value})
					}
				}
				kept = append(kept, e)
			}
			each := (heap() - before) / encoders
			t.Logf("%d octets for each encoder", each)
			if each > int64(c.most) {
				t.Errorf("an encoder holds %d octets, %d are allowed", each, c.most)
			}
			runtime.KeepAlive(kept)
		})
	}
}

// A name that was put in the table again is found there also when the entry that had it first has left.
func TestNameStaysWithItsLastEntry(t *testing.T) {
	const name = "a-name-of-some-length"
	e, last := hpack.NewEncoder(), 0
	fill := func(n int) { // 20 fill the table
		for range n {
			last++
			e.Append(nil, hpack.Field{Name: fmt.Sprint("f", last), Value: strings.Repeat("v", 170)})
		}
	}
	short := func() bool {
		return len(e.Append(nil, hpack.Field{Name: name, Value: "v", How: hpack.Plain})) < len(name)/2
	}
	e.Append(nil, hpack.Field{Name: name, Value: "1"})
	fill(10)
	e.Append(nil, hpack.Field{Name: name, Value: "2"})
	if fill(15); !short() { // the first entry has left, the second has not
		t.Error("the name is written out while an entry has it")
	}
	if fill(10); short() {
		t.Error("the name is not written out, and no entry has it")
	}
}

// heap is what is live.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
