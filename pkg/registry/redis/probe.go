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
	// How long after a change was learned of in another way its message may still be on its way.
	messageDelay = time.Second
)

var errSilent = errors.New("redis does not answer on this connection")

// knowledge is what the store's operations learned of the registry.
type knowledge struct {
	mu       sync.Mutex // guards the fields below; nothing is called while it is held
	version  uint64
	since    time.Time // when version was first seen
	answered time.Time // the last answer
	trouble  time.Time // the last failure to get one
}

func (k *knowledge) learned(version uint64) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if version != k.version {
		k.version, k.since = version, now
	}
	k.answered = now
}

func (k *knowledge) failed() {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trouble = now
}

func (k *knowledge) read() (version uint64, since, trouble time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.version, k.since, k.trouble
}

func (k *knowledge) lastAnswer() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answered
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
	version uint64     // the version that this watch has come to
	quiet   bool       // given up
}

// run closes the subscription when it is dead or ctx ends, which ends the blocking receive; otherwise it runs until done.
func (p *probe) run(ctx context.Context, joined *sync.WaitGroup) {
	defer joined.Done()
	ticker := time.NewTicker(probeTick)
	defer ticker.Stop()
	var asked time.Time // zero when no answer is due
	var target uint64
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
		heard, version := p.state()
		switch {
		case !asked.IsZero() && heard.After(asked):
			asked = time.Time{}
			p.settle(version, target)
		case !asked.IsZero() && now.Sub(asked) >= p.store.timeout:
			p.giveUp()
			return
		case asked.IsZero() && p.suspicious(now, heard, version):
			asked = now
			target, _, _ = p.store.known.read()
			if err := p.ps.Ping(ctx); err != nil {
				p.giveUp()
				return
			}
		}
	}
}

func (p *probe) suspicious(now, heard time.Time, version uint64) bool {
	known, since, trouble := p.store.known.read()
	quiet := now.Sub(heard)
	switch {
	case quiet >= quietLimit, trouble.After(heard):
		return true
	case known != version && heard.Before(since) && now.Sub(since) >= messageDelay:
		return true
	}
	return quiet >= quietAlone && now.Sub(p.store.known.lastAnswer()) >= quietAlone
}

// hear notes that something came in, with the version that it told of or 0.
func (p *probe) hear(version uint64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = now
	if version != 0 {
		p.version = version
	}
}

func (p *probe) state() (heard time.Time, version uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard, p.version
}

// settle takes the version that was known when Redis was asked for the watch's own, now that it has answered: the connection lives,
// so the version came before the subscription, or its message is lost for good and whoever reads the beat's answer knows.
func (p *probe) settle(was, target uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == was {
		p.version = target
	}
}

func (p *probe) giveUp() {
	p.mu.Lock()
	p.quiet = true
	p.mu.Unlock()
	_ = p.ps.Close()
}

func (p *probe) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.quiet
}
