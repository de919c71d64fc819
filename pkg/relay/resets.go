package relay

// recentResets are the streams that were reset by us, among the last 32,768 that there were. What comes on them was under way and is
// ignored (RFC 9113 §5.1): not even the end of all calls at once makes what is under way look like the other side's fault. It takes 5 KiB
// from the first reset on, and no more. The caller holds conn.mu.
type recentResets struct {
	pages *[resetPages]resetPage
}

const (
	resetPages   = 128
	idsOfPage    = 256
	wordsOfReset = idsOfPage / 64
)

// resetPage has a bit for each id of a run of idsOfPage; of says which run. An older run gives way to a newer one.
type resetPage struct {
	of   uint32
	bits [wordsOfReset]uint64
}

// resetPlace is the place of an id; those that we give or get are all odd.
func resetPlace(id uint32) (run, word, bit uint32) {
	n := id / 2
	return n / idsOfPage, n % idsOfPage / 64, n % 64
}

func (r *recentResets) add(id uint32) {
	if r.pages == nil {
		r.pages = new([resetPages]resetPage)
	}
	run, word, bit := resetPlace(id)
	p := &r.pages[run%resetPages]
	if p.of != run {
		*p = resetPage{of: run}
	}
	p.bits[word] |= 1 << bit
}

func (r *recentResets) has(id uint32) bool {
	if r.pages == nil {
		return false
	}
	run, word, bit := resetPlace(id)
	p := &r.pages[run%resetPages]
	return p.of == run && p.bits[word]>>bit&1 != 0
}
