package grpcengine_test

import (
	"strings"
	"testing"
)

// BenchmarkUnary makes calls of 100 bytes each way; client, engine and peer share the process, so the figures are for all three.
// Subtract direct from engine for what the engine costs.
func BenchmarkUnary(b *testing.B) {
	peer := startBackend(b, echo)
	s := startSidecar(b, options{})
	s.use(peer)
	for name, address := range map[string]string{"engine": s.address, "direct": peer.address} {
		b.Run(name, func(b *testing.B) {
			cc := dial(b, address)
			body := strings.Repeat("x", 100)
			b.ReportAllocs()
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := unary(b.Context(), cc, body); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
