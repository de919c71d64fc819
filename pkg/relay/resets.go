package relay

// recentResets are the streams that were reset by us, among the last many that there were. What comes on them was under way and is
// ignored (RFC 9113 §5.1). As many are known as a connection may have streams open, so that not even the end of all of them at once
// makes what is under way look like the other side's fault. The caller holds conn.mu.
type recentResets struct {
	// pages have the ids, each at a place of its own; all are made when they are first needed.
	pages *[resetPages]*[resetPage]uint32
}

const (
	resetPages = 128
	resetPage  = 256
)

// resetPlace is the place of an id; those that we give or get are all odd.
func resetPlace(id uint32) (page, i uint32) {
	n := id / 2
	return n / resetPage % resetPages, n % resetPage
}

func (r *recentResets) add(id uint32) {
	if r.pages == nil {
		r.pages = new([resetPages]*[resetPage]uint32)
	}
	page, i := resetPlace(id)
	if r.pages[page] == nil {
		r.pages[page] = new([resetPage]uint32)
	}
	r.pages[page][i] = id
}

func (r *recentResets) has(id uint32) bool {
	page, i := resetPlace(id)
	return r.pages != nil && r.pages[page] != nil && r.pages[page][i] == id
}
