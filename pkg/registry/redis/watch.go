package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 3 * time.Second
	// A subscription that held this long ends a series of failures.
	steadyAfter = 5 * time.Second
)

// Watch implements [registry.Store]. It holds one connection with a plain SUBSCRIBE: sharded pub/sub is not everywhere, and in a
// cluster a plain message reaches every node.
func (s *Store) Watch(ctx context.Context, f func(registry.Change)) error {
	failures := 0
	for {
		began, inForce := time.Now(), false
		err := s.subscription(ctx, f, func() {
			inForce = true
			s.observe("watch", time.Since(began), nil)
			if failures > 0 {
				s.log.Info("registry watch is back", "failures", failures)
			}
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		lasted := time.Since(began)
		if inForce {
			if lasted > steadyAfter {
				failures = 0
			}
			lasted = 0
		}
		failures++
		s.observe("watch", lasted, err)
		if failures == 1 {
			s.log.Warn("registry watch lost, connecting again", "reason", err)
		} else {
			s.log.Debug("registry watch still lost", "reason", err, "failures", failures)
		}
		s.refresh(ctx)
		if !pause(ctx, backoff(failures)) {
			return ctx.Err()
		}
	}
}

// backoff is how long to wait after so many failures in a row: half of it is random, because a Redis that restarts loses all
// watches at the same moment.
func backoff(failures int) time.Duration {
	d := minBackoff << min(failures-1, 10)
	d = min(d, maxBackoff)
	return d/2 + rand.N(d/2)
}

// pause waits for d, and tells whether ctx lasted as long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// subscription subscribes, calls up once that is confirmed, and passes changes to f until something fails or ctx ends.
func (s *Store) subscription(ctx context.Context, f func(registry.Change), up func()) error {
	ps := s.client.Subscribe(ctx)
	defer ps.Close()
	if err := ps.Subscribe(ctx, s.channel); err != nil {
		return storeError(ctx, "watch", err)
	}
	// Messages count from the confirmation on, so the Reset comes after it.
	reply, err := ps.ReceiveTimeout(ctx, s.timeout)
	if err != nil {
		return storeError(ctx, "watch", err)
	}
	if _, ok := reply.(*goredis.Subscription); !ok {
		return fmt.Errorf("watch: %T instead of the subscription's confirmation", reply)
	}

	p := &probe{store: s, ps: ps, done: make(chan struct{}), heard: time.Now()}
	var joined sync.WaitGroup
	joined.Add(1)
	go p.run(ctx, &joined)
	defer joined.Wait()
	defer close(p.done)

	up()
	f(registry.Change{Kind: registry.Reset})

	// PubSub would connect and subscribe again by itself when a connection breaks: at once, for all sidecars together, and before
	// anybody knows that messages were missed. With a context that has ended it cannot, while reading from the connection that
	// stands needs no context. There is no read deadline either: one that hits the middle of a message would lose its beginning.
	ended, end := context.WithCancel(context.Background())
	end()
	for {
		reply, err := ps.ReceiveTimeout(ended, 0)
		if err != nil {
			if why := p.reason(); why != nil {
				err = why
			}
			return storeError(ctx, "watch", err)
		}
		switch reply := reply.(type) {
		case *goredis.Pong:
			p.pong()
		case *goredis.Message:
			change, version := s.change(reply.Payload)
			p.hear(version)
			f(change)
		}
	}
}

// message is what the scripts publish.
type message struct {
	Previous uint64                     `json:"p"`
	Version  uint64                     `json:"v"`
	Put      map[string]json.RawMessage `json:"put"`
	Del      []string                   `json:"del"`
}

// change reads a message and gives the version that it tells of, 0 if it cannot be read. Such a one, or one that came without its
// content because that was large, becomes a Reset: the watcher reads a snapshot then.
func (s *Store) change(payload string) (registry.Change, uint64) {
	reset := registry.Change{Kind: registry.Reset}
	var m message
	if err := json.Unmarshal([]byte(payload), &m); err != nil || m.Version == 0 {
		s.rejected.report(s.log, s.channel, errors.New("a message on this channel is not flyproxy's"))
		return reset, 0
	}
	if len(m.Put)+len(m.Del) == 0 || len(m.Put) > 0 && len(m.Del) > 0 || len(m.Put) > 1 {
		// Without content, or with more than any script of this version says at once.
		return reset, m.Version
	}
	out := registry.Change{Kind: registry.Remove, Previous: m.Previous, Version: m.Version}
	gone := m.Del
	for field, record := range m.Put {
		inst, err := s.decode(field, record)
		if err != nil {
			gone = []string{field} // what stood there before is gone, and this is nothing to go by
			break
		}
		out.Kind, out.Instances = registry.Put, []registry.Instance{inst}
	}
	for _, field := range gone {
		if key, err := registry.ParseKey(field); err == nil {
			out.Keys = append(out.Keys, key)
		}
	}
	return out, m.Version
}
