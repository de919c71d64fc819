package relay

import "fmt"

// limit is one of the bounds of Limits.
type limit uint8

const (
	limitHeaderBytes limit = iota
	limitStreams
	limitCalls
	limitConnections
	limitBuffered
	limitReplay
	limitResets
	limitControlFrames
	limitHandshake
	limitClientIdle
	limits
)

// limitNames are the keys of the configuration, below limits.
var limitNames = [limits]string{
	"max_header_bytes", "max_concurrent_streams", "max_calls", "max_connections", "max_buffered_bytes", "max_replay_bytes",
	"max_resets_per_second", "max_queued_control_frames", "handshake_timeout", "client_idle_timeout",
}

func (e *Engine) hit(l limit) { e.hits[l].Add(1) }

// exceeded is what a call is told that a limit ends.
func exceeded(l limit, value int64, what string) string {
	return fmt.Sprintf("%s: limits.%s of the sidecar is %d", what, limitNames[l], value)
}

// bucket is a token bucket that holds two seconds' worth.
type bucket struct {
	used int64 // nanoseconds' worth of tokens that are taken
	at   int64 // when used was true, on the engine's clock
}

// take takes one token at a rate per second; false means that there is none.
func (b *bucket) take(now int64, perSecond int) bool {
	const second = 1e9
	b.used = max(0, b.used-(now-b.at))
	b.at = now
	b.used += second / int64(perSecond)
	return b.used <= 2*second
}

// relieve ends the calls that hold the most until no more is held than is allowed. One goroutine does it at a time; the others go
// on, and what they add is bounded by the windows that they have given.
func (e *Engine) relieve() {
	if !e.relieving.CompareAndSwap(false, true) {
		return
	}
	defer e.relieving.Store(false)
	bound := e.cfg.Limits.BufferedBytes
	for e.buffered.Load() > bound {
		h := e.largest()
		if h == nil {
			return // what is held is on its way into sockets already
		}
		e.hit(limitBuffered)
		h.s.evict(exceeded(limitBuffered, bound, "the call held the most of what its other side did not take"))
	}
}

// largest finds the half with the most bytes that wait.
func (e *Engine) largest() *half {
	var best *half
	most := 0
	for _, c := range e.all(func(*conn) bool { return true }) {
		c.mu.Lock()
		if c.pendingBytes > most {
			for _, h := range c.streams {
				if n := h.pending.n; n > most {
					best, most = h, n
				}
			}
		}
		c.mu.Unlock()
	}
	return best
}

// evict ends a call to free what it holds.
func (s *stream) evict(message string) {
	up, mine := s.claim()
	s.cut(nil, statusResourceExhausted, message)
	s.abandon(nil, up, codeCancel)
	if mine {
		s.finish(nil, outcomeOfOurs, statusResourceExhausted)
	}
}

// account keeps the engine's sum of what is held true for this connection. The caller holds mu. Where everything was written at
// once, as it usually is, nothing has changed. A connection that has ended holds nothing, whatever a last write does to its counts.
func (c *conn) account() {
	held := int64(len(c.out)) + c.base - c.wrote + int64(c.pendingBytes)
	if c.closed != nil {
		held = 0
	}
	if held != c.accounted {
		c.e.buffered.Add(held - c.accounted)
		c.accounted = held
	}
}
