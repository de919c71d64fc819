package registrar_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// memory is a Store that keeps records in memory and can be made to fail. It is for timing; the real store has its own tests.
type memory struct {
	mu        sync.Mutex // guards all below
	records   map[registry.Key]memoryRecord
	version   uint64 // of the last registration
	beats     []memoryBeat
	registers []memoryRegister
	removals  []registry.Key
	fail      error         // what commands fail with
	lost      bool          // commands do their work, and then fail as if the answer had been lost
	hang      chan struct{} // commands wait for its closing or their context
	delay     chan struct{} // answers of beats, already made up, wait for its closing
	inFlight  int           // beats
	most      int
}

type memoryRecord struct {
	inst    registry.Instance
	expires time.Time
}

type memoryBeat struct {
	at time.Time
	registry.Beat
}

type memoryRegister struct {
	at    time.Time
	inst  registry.Instance
	claim bool
}

func newMemory() *memory { return &memory{records: make(map[registry.Key]memoryRecord)} }

// do calls f with the lock held.
func (m *memory) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) holds(key registry.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.records[key]
	return ok
}

// registrations are the Register commands so far.
func (m *memory) registrations() []memoryRegister {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.registers)
}

// answer waits while the store hangs and gives the error to fail with.
func (m *memory) answer(ctx context.Context) error {
	m.mu.Lock()
	hang := m.hang
	m.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fail
}

func (m *memory) Register(ctx context.Context, inst registry.Instance, lease time.Duration, claim bool) (uint64, error) {
	m.do(func() { m.registers = append(m.registers, memoryRegister{time.Now(), inst, claim}) })
	if err := m.answer(ctx); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if claim {
		inst.ClaimedAt = 0
	} else if r, ok := m.records[inst.Key()]; ok && r.supersedes(inst.Incarnation, inst.ClaimedAt) {
		return 0, registry.ErrSuperseded
	}
	m.records[inst.Key()] = memoryRecord{inst, time.Now().Add(lease)}
	m.version++
	if m.lost {
		return 0, registry.ErrUnavailable
	}
	return m.version, nil
}

// supersedes tells whether r is of another incarnation, and not one that claimed before claimedAt.
func (r memoryRecord) supersedes(incarnation string, claimedAt uint64) bool {
	return r.inst.Incarnation != incarnation && (r.inst.ClaimedAt == 0 || claimedAt <= r.inst.ClaimedAt)
}

func (m *memory) Beat(ctx context.Context, b registry.Beat) (registry.BeatReply, error) {
	m.do(func() {
		m.beats = append(m.beats, memoryBeat{time.Now(), b})
		m.inFlight++
		m.most = max(m.most, m.inFlight)
	})
	defer m.do(func() { m.inFlight-- })
	if err := m.answer(ctx); err != nil {
		return registry.BeatReply{}, err
	}
	reply, delay := m.standings(b)
	if delay != nil {
		<-delay
	}
	return reply, nil
}

func (m *memory) standings(b registry.Beat) (registry.BeatReply, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	reply := registry.BeatReply{Version: uint64(len(m.beats))}
	for _, o := range b.Owned {
		r, ok := m.records[o.Key]
		switch {
		case ok && r.supersedes(o.Incarnation, o.ClaimedAt):
			reply.Standings = append(reply.Standings, registry.Superseded)
		case !ok, r.inst.Incarnation != o.Incarnation:
			reply.Standings = append(reply.Standings, registry.Unknown)
		default:
			r.expires = time.Now().Add(b.Lease)
			m.records[o.Key] = r
			reply.Standings = append(reply.Standings, registry.Current)
		}
	}
	return reply, m.delay
}

func (m *memory) Deregister(ctx context.Context, key registry.Key, incarnation string) error {
	m.do(func() { m.removals = append(m.removals, key) })
	if err := m.answer(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.records[key]; ok && r.inst.Incarnation != incarnation {
		return registry.ErrSuperseded
	}
	delete(m.records, key)
	return nil
}

func (m *memory) Snapshot(context.Context) (registry.Snapshot, error)  { panic("not called") }
func (m *memory) Watch(context.Context, func(registry.Change)) error   { panic("not called") }
func (m *memory) Loads(context.Context) ([]registry.LoadReport, error) { panic("not called") }
func (m *memory) Close() error                                         { return nil }
