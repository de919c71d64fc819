package discovery

import "time"

// recent remembers the versions that the view has just had. A beat's reply can be overtaken by the messages of the changes
// that came after it, and then names a version that is already past; that is no sign that something is missing.
//
// Versions are compared for equality only. A registry that lost its newest writes in a failover may stand at a number that the
// view once had, so a version counts as recent for a short time only.
type recent struct {
	left [512]departure
	next int
}

type departure struct {
	version uint64
	at      time.Time
}

// recently is longer than any usual reply is on its way, and shorter than the time between two beats.
const recently = time.Second

func (r *recent) add(version uint64, now time.Time) {
	r.left[r.next] = departure{version: version, at: now}
	r.next = (r.next + 1) % len(r.left)
}

func (r *recent) has(version uint64, now time.Time) bool {
	for i := range r.left {
		if l := &r.left[i]; l.version == version && !l.at.IsZero() && now.Sub(l.at) <= recently {
			return true
		}
	}
	return false
}
