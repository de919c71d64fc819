package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	probeTick = time.Second
	// A watch that heard nothing for so long asks whether anybody is there.
	quietLimit = time.Minute
	// The same while the store's other operations do not show that Redis answers: nobody beats.
	quietAlone = 10 * time.Second
)

var (
	errSilent = errors.New("redis does not answer on this connection")
	errDeaf   = errors.New("redis answers on this connection and sends no messages, as one that is the primary no more")
)

// knowledge is what the store's operations learned of the registry.
type knowledge struct {
	mu       sync.Mutex // guards the fields below; nothing is called while it is held
	version  uint64
	answered time.Time // the last answer
	trouble  time.Time // the last failure to get one
}

func (k *knowledge) learned(version uint64) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version, k.answered = version, now
}

func (k *knowledge) failed() {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trouble = now
}

func (k *knowledge) read() (version uint64, answered, trouble time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.version, k.answered, k.trouble
}

// probe finds out that a subscription is dead although its connection stands: Redis is stopped, its host vanished, a middlebox
// forgot the connection. Silence alone says nothing, since a registry may not change for hours, and asking all the time would
// double the commands that a hosted Redis bills. So it asks when beats fail, when they tell of a version that no message told
// of, when nothing else shows that Redis answers, and once a minute.
type probe struct {
	store *Store
	ps    *goredis.PubSub
	done  chan struct{} // closed when the subscription has ended

	mu      sync.Mutex // guards the fields below; nothing is called while it is held
	heard   time.Time  // when anything came in last
	ponged  time.Time  // when the answer to a PING did
	version uint64     // the version that this watch has come to, 0 until it is known
	gaveUp  error      // why
}

// run closes the subscription when it is dead or ctx ends, which ends the blocking receive; otherwise it runs until done.
func (p *probe) run(ctx context.Context, joined *sync.WaitGroup) {
	defer joined.Done()
	ticker := time.NewTicker(probeTick)
	defer ticker.Stop()
	var asked time.Time  // zero when no answer is due
	var target uint64    // what the registry's version was known to be then
	var behind time.Time // since when the registry is known to be ahead of the watch; zero when it is not
	for {
		select {
		case <-p.done:
			return
		case <-ctx.Done():
			_ = p.ps.Close()
			return
		case <-ticker.C:
		}
		now := time.Now()
		heard, ponged, version := p.state()
		known, answered, trouble := p.store.known.read()
		if known <= version || heard.After(behind) {
			behind = time.Time{}
		}
		switch {
		case !asked.IsZero() && ponged.After(asked):
			asked = time.Time{}
			if !p.reached(target) {
				p.giveUp(errDeaf)
				return
			}
		case !asked.IsZero() && now.Sub(asked) >= p.store.timeout && now.Sub(heard) >= p.store.timeout:
			p.giveUp(errSilent)
			return
		case !asked.IsZero():
			// It has time left.
		case !behind.IsZero(), // for a tick, which is long for a message
			trouble.After(heard),
			now.Sub(heard) >= quietLimit,
			now.Sub(heard) >= quietAlone && now.Sub(answered) >= quietAlone:
			asked, target = now, known
			if err := p.ps.Ping(ctx); err != nil {
				p.giveUp(err)
				return
			}
		case known > version:
			behind = now
		}
	}
}

// hear notes that a message came in, with the version that it told of; 0 for none.
func (p *probe) hear(version uint64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = now
	if version != 0 {
		p.version = version
	}
}

// pong notes that the answer to a PING came in.
func (p *probe) pong() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.ponged = now, now
}

func (p *probe) state() (heard, ponged time.Time, version uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard, p.ponged, p.version
}

// reached tells whether the watch has come to version, now that Redis has answered: it sends messages and answers in order, so one
// that is not there by now does not come. A watch that has heard no message yet takes the version for its own, as it may be from
// before the subscription.
func (p *probe) reached(version uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == 0 {
		p.version = version
	}
	return p.version >= version
}

func (p *probe) giveUp(why error) {
	p.mu.Lock()
	p.gaveUp = why
	p.mu.Unlock()
	_ = p.ps.Close()
}

func (p *probe) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gaveUp
}
