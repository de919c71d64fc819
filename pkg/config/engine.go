package config

import (
	"slices"
	"strings"
)

// relayOnly are the keys, or the groups of them, that only the relay has means for.
func relayOnly() []string {
	return []string{
		"retry", "limits.max_calls", "limits.max_connections", "limits.max_buffered_bytes", "limits.max_replay_bytes",
		"limits.max_resets_per_second", "limits.max_queued_control_frames", "limits.handshake_timeout", "limits.client_idle_timeout",
	}
}

// warnUnhonoured warns of what somebody has set and the engine does not do. A value that is the default all the same is no wish: it
// stands so in a copy of the sample.
func (l *loader) warnUnhonoured(cfg *Config) {
	if cfg.Engine != EngineGRPC {
		return
	}
	for _, f := range l.root.leaves() {
		only := slices.ContainsFunc(relayOnly(), func(key string) bool { return f.path == key || strings.HasPrefix(f.path, key+".") })
		if f.path == "limits.handshake_timeout" && cfg.Downstream.TLS.Enabled && cfg.Mode == ModeGateway {
			continue // it bounds TLS handshakes, which come before the engine
		}
		if !only || l.origins[f.path].level <= fromDefault || l.refused[f.path] {
			continue
		}
		if value := format(fieldAt(cfg, f.path)); value != f.def {
			l.warn(f.path, "not used: the engine grpc has no means for it; engine: relay does")
		}
	}
}
