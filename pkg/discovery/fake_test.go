package discovery_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// fake is a registry in memory whose time, connections and losses a test holds in its hand.
type fake struct {
	mu      sync.Mutex
	records map[registry.Key]registry.Instance
	version uint64
	// skew is added to the clock from which versions are made.
	skew  time.Duration
	ticks uint64
	// lose has messages vanish on their way; delay is how long the others are on it, in order.
	lose  bool
	delay time.Duration
	// readTime is how long a snapshot takes on its way back; readErr has it fail.
	readTime time.Duration
	readErr  error
	reads    []time.Time
	// noWatch has a watch wait forever, watchErr has it give up.
	noWatch  bool
	watchErr error
	watches  int
	conns    map[*conn]struct{}
	// room is how many messages may be on their way to one watcher.
	room int
	// up is closed while connections are accepted.
	up chan struct{}
}

type conn struct {
	messages chan delivery
	broken   chan struct{}
}

type delivery struct {
	at     time.Time
	change registry.Change
}

func newFake() *fake {
	f := &fake{
		records: make(map[registry.Key]registry.Instance),
		conns:   make(map[*conn]struct{}),
		room:    4096,
		up:      make(chan struct{}),
	}
	close(f.up)
	return f
}

func instance(service, id string) registry.Instance {
	return registry.Instance{
		Service: service, ID: id, Incarnation: "1", Schema: 1, Address: "[fdaa::1]:50051", State: registry.Serving,
	}
}

// set changes the fake's behaviour.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) put(instances ...registry.Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range instances {
		f.records[i.Key()] = i
		f.sendLocked(registry.Change{Kind: registry.Put, Instances: []registry.Instance{i}})
	}
}

func (f *fake) remove(keys ...registry.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keys {
		delete(f.records, k)
		f.sendLocked(registry.Change{Kind: registry.Remove, Keys: []registry.Key{k}})
	}
}

// sendLocked makes a new version and sends the change to every connection. The caller holds mu.
func (f *fake) sendLocked(c registry.Change) {
	// No two changes happen in one microsecond, not even where the fake time stands still.
	f.ticks++
	c.Previous = f.version
	f.version = max(f.version+1, uint64(time.Now().Add(f.skew).UnixMicro())+f.ticks)
	c.Version = f.version
	if f.lose {
		return
	}
	for conn := range f.conns {
		conn.messages <- delivery{at: time.Now().Add(f.delay), change: c}
	}
}

// flush is FLUSHALL: everything is gone and nobody is told.
func (f *fake) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.records)
	f.version = 0
}

// save and restore take the registry back to an earlier state, as a failover to a replica that lagged does.
func (f *fake) save() (restore func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	records, version := maps.Clone(f.records), f.version
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.records, f.version = maps.Clone(records), version
	}
}

// disconnect breaks every connection, with all that is on its way, and accepts none until connect.
func (f *fake) disconnect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.up:
		f.up = make(chan struct{})
	default:
	}
	for c := range f.conns {
		close(c.broken)
	}
	clear(f.conns)
}

func (f *fake) connect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.up:
	default:
		close(f.up)
	}
}

// beat gives what a beat would learn.
func (f *fake) beat() registry.BeatReply {
	f.mu.Lock()
	defer f.mu.Unlock()
	return registry.BeatReply{Version: f.version}
}

func (f *fake) instances() []registry.Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.instancesLocked()
}

func (f *fake) instancesLocked() []registry.Instance {
	return slices.SortedFunc(maps.Values(f.records), func(a, b registry.Instance) int {
		if a.Service != b.Service {
			return map[bool]int{true: -1, false: 1}[a.Service < b.Service]
		}
		return map[bool]int{true: -1, false: 1}[a.ID < b.ID]
	})
}

// readCount is how many snapshots were asked for.
func (f *fake) readCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.reads)
}

// Snapshot reads first and is on its way back for readTime, so what changes meanwhile is not in it.
func (f *fake) Snapshot(ctx context.Context) (registry.Snapshot, error) {
	f.mu.Lock()
	f.reads = append(f.reads, time.Now())
	s := registry.Snapshot{Version: f.version, Instances: f.instancesLocked()}
	err, takes := f.readErr, f.readTime
	f.mu.Unlock()
	if takes > 0 {
		select {
		case <-ctx.Done():
			return registry.Snapshot{}, ctx.Err()
		case <-time.After(takes):
		}
	}
	if err != nil {
		return registry.Snapshot{}, err
	}
	return s, nil
}

func (f *fake) Watch(ctx context.Context, on func(registry.Change)) error {
	f.mu.Lock()
	f.watches++
	fails, never := f.watchErr, f.noWatch
	f.mu.Unlock()
	if fails != nil {
		return fails
	}
	if never {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		f.mu.Lock()
		up := f.up
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-up:
		}
		f.serve(ctx, on)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// serve is one connection of a watch.
func (f *fake) serve(ctx context.Context, on func(registry.Change)) {
	f.mu.Lock()
	select {
	case <-f.up:
	default:
		f.mu.Unlock()
		return
	}
	c := &conn{messages: make(chan delivery, f.room), broken: make(chan struct{})}
	f.conns[c] = struct{}{}
	f.mu.Unlock()
	on(registry.Change{Kind: registry.Reset})
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.broken:
			return
		case m := <-c.messages:
			if wait := time.Until(m.at); wait > 0 {
				select {
				case <-ctx.Done():
					return
				case <-c.broken:
					return
				case <-time.After(wait):
				}
			}
			on(m.change)
		}
	}
}

var errNotFake = errors.New("not part of the fake")

func (f *fake) Register(context.Context, registry.Instance, time.Duration, bool) (uint64, error) {
	return 0, errNotFake
}
func (f *fake) Beat(context.Context, registry.Beat) (registry.BeatReply, error) {
	return registry.BeatReply{}, errNotFake
}
func (f *fake) Deregister(context.Context, registry.Key, string) error { return errNotFake }
func (f *fake) Loads(context.Context) ([]registry.LoadReport, error)   { return nil, errNotFake }
func (f *fake) Close() error                                           { return nil }
