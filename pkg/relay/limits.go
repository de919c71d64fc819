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
