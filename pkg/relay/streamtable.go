package relay

import "iter"

// streamTable has the open halves of a connection by their ids. The caller of its methods holds conn.mu.
//
// Ids follow each other, and most calls are short, so most are found at a place that their id says. Those that outlive their place, which
// a later one would need, are in a map.
type streamTable struct {
	places *[tablePlaces]*half // made with the first stream
	others map[uint32]*half
	n      int
}

const tablePlaces = 256

// tablePlace is the place of an id; those of one side are all odd.
func tablePlace(id uint32) uint32 { return id / 2 % tablePlaces }

func (t *streamTable) len() int { return t.n }

// get gives the half of an id; nil when there is none.
func (t *streamTable) get(id uint32) *half {
	if t.n == 0 {
		return nil
	}
	if h := t.places[tablePlace(id)]; h != nil && h.id == id {
		return h
	}
	return t.others[id]
}

// put adds a half whose id is not there.
func (t *streamTable) put(h *half) {
	if t.places == nil {
		t.places = new([tablePlaces]*half)
	}
	t.n++
	place := &t.places[tablePlace(h.id)]
	if *place == nil {
		*place = h
		return
	}
	if t.others == nil {
		t.others = make(map[uint32]*half)
	}
	t.others[h.id] = h
}

// remove takes a half out that is there.
func (t *streamTable) remove(h *half) {
	t.n--
	if place := &t.places[tablePlace(h.id)]; *place == h {
		*place = nil
		return
	}
	if delete(t.others, h.id); len(t.others) == 0 {
		t.others = nil // a map does not shrink
	}
}

// all gives every half, in no order. Any may be removed meanwhile.
func (t *streamTable) all() iter.Seq[*half] {
	return func(yield func(*half) bool) {
		if t.places == nil {
			return
		}
		for _, h := range t.places {
			if h != nil && !yield(h) {
				return
			}
		}
		for _, h := range t.others {
			if !yield(h) {
				return
			}
		}
	}
}
