package relay

import (
	"testing"

	"pgregory.net/rapid"
)

// The table holds what a map would hold, whichever streams outlive others.
func TestStreamTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table streamTable
		want := make(map[uint32]*half)
		next := uint32(1)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "many") {
					h := &half{id: next}
					next += 2
					table.put(h)
					want[h.id] = h
				}
			},
			"remove": func(t *rapid.T) {
				keep := rapid.Uint32Range(2, 9).Draw(t, "keep one of")
				for id, h := range want {
					if id/2%keep != 0 {
						table.remove(h)
						delete(want, id)
					}
				}
			},
			"remove while going through": func(t *rapid.T) {
				for h := range table.all() {
					table.remove(h)
					delete(want, h.id)
				}
			},
			"": func(t *rapid.T) {
				if table.len() != len(want) {
					t.Fatalf("it has %d, want %d", table.len(), len(want))
				}
				for id := uint32(1); id < next; id += 2 {
					if got := table.get(id); got != want[id] {
						t.Fatalf("%d is %v, want %v", id, got, want[id])
					}
				}
				seen := 0
				for h := range table.all() {
					if seen++; want[h.id] != h {
						t.Fatalf("%d is not there", h.id)
					}
				}
				if seen != len(want) {
					t.Fatalf("it goes through %d of %d", seen, len(want))
				}
			},
		})
	})
}
