package discovery

import (
	"context"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// reading is what came of reading one snapshot.
type reading struct {
	snapshot registry.Snapshot
	err      error
}

// reader reads snapshots for the owner, one at a time, so that the owner never waits for the registry.
type reader struct {
	store registry.Store
	// requests has room for one: the owner asks for the next only after it has the last.
	requests chan struct{}
	results  chan reading
}

// readTimeout bounds one attempt, for a store that has no timeout of its own.
const readTimeout = 10 * time.Second

func newReader(store registry.Store) *reader {
	return &reader{store: store, requests: make(chan struct{}, 1), results: make(chan reading, 1)}
}

func (r *reader) run(ctx context.Context, joined *sync.WaitGroup) {
	defer joined.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.requests:
			r.results <- r.read(ctx)
		}
	}
}

func (r *reader) read(ctx context.Context) reading {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s, err := r.store.Snapshot(ctx)
	return reading{snapshot: s, err: err}
}
