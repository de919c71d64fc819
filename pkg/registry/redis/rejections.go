package redis

import (
	"errors"
	"log/slog"
	"maps"
	"sync"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// maxReported bounds what is remembered of records that were logged. Past it they are only counted.
const maxReported = 1000

type rejection struct{ field, kind string }

// rejections counts records that failed their checks and logs each of them once.
type rejections struct {
	mu       sync.Mutex // guards the fields below; nothing is called while it is held
	byKind   map[string]uint64
	reported map[rejection]struct{}
}

// kindOf names the check that err says has failed.
func kindOf(err error) string {
	switch {
	case errors.Is(err, registry.ErrTooLarge):
		return "too_large"
	case errors.Is(err, registry.ErrSignature):
		return "signature"
	case errors.Is(err, registry.ErrNetwork):
		return "network"
	case errors.Is(err, registry.ErrAddress):
		return "address"
	}
	return "malformed"
}

func (r *rejections) add(err error, n int) {
	if n <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKind == nil {
		r.byKind = map[string]uint64{}
	}
	r.byKind[kindOf(err)] += uint64(n)
}

// report logs the record under field, unless it was logged for the same reason before.
func (r *rejections) report(log *slog.Logger, field string, err error) {
	const most = 256 // of a name that anybody may have written
	if len(field) > most {
		field = field[:most]
	}
	this := rejection{field, kindOf(err)}
	r.mu.Lock()
	_, again := r.reported[this]
	room := len(r.reported) < maxReported
	last := len(r.reported) == maxReported-1
	if !again && room {
		if r.reported == nil {
			r.reported = map[rejection]struct{}{}
		}
		r.reported[this] = struct{}{}
	}
	r.mu.Unlock()
	if again || !room {
		return
	}
	log.Warn("registry record ignored", "record", field, "reason", err)
	if last {
		log.Warn("many registry records were ignored, further ones are only counted", "logged", maxReported)
	}
}

func (r *rejections) counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := maps.Clone(r.byKind)
	if out == nil {
		out = map[string]uint64{}
	}
	return out
}
