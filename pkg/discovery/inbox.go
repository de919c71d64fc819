package discovery

import (
	"sync"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// maxWaiting bounds what may wait for the owner. Past it the messages are dropped and one snapshot is read in their place.
const maxWaiting = 8192

// letters are what the inbox held at one moment. Changes are in order; of several observations the last one counts.
type letters struct {
	changes []registry.Change
	// lost says that changes were dropped after those in changes, because too many waited.
	lost     bool
	observed uint64
	beat     bool
	watchErr error
}

// inbox takes what others have for the owner, without ever blocking them.
type inbox struct {
	// wake has room for one: full means that the owner is going to look.
	wake chan struct{}

	// mu guards in. Nothing is called while it is held.
	mu sync.Mutex
	in letters
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) change(c registry.Change) {
	b.mu.Lock()
	switch {
	case c.Kind == registry.Reset:
		// Everything is going to be read anew, so what was lost before does not matter.
		if b.in.lost {
			b.in.lost, b.in.changes = false, nil
		}
		b.in.changes = append(b.in.changes, c)
	case b.in.lost:
	case len(b.in.changes) >= maxWaiting:
		b.in.lost = true
	default:
		b.in.changes = append(b.in.changes, c)
	}
	b.mu.Unlock()
	b.ring()
}

func (b *inbox) observe(version uint64) {
	b.mu.Lock()
	b.in.observed, b.in.beat = version, true
	b.mu.Unlock()
	b.ring()
}

func (b *inbox) watchFailed(err error) {
	b.mu.Lock()
	b.in.watchErr = err
	b.mu.Unlock()
	b.ring()
}

func (b *inbox) take() letters {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.in
	b.in = letters{}
	return l
}

func (b *inbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
