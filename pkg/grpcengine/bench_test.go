package grpcengine_test

import (
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// BenchmarkUnary makes calls of 100 bytes each way; client, engine and peer share the process, so the figures are for all three.
// Subtract direct from engine for what the engine costs.
func BenchmarkUnary(b *testing.B) {
	peer := enginetest.StartBackend(b, enginetest.Echo)
	s := subject.Start(b, enginetest.Setup{})
	s.Use(peer)
	for name, address := range map[string]string{"engine": s.Address, "direct": peer.Address} {
		b.Run(name, func(b *testing.B) {
			cc := enginetest.Dial(b, address)
			body := strings.Repeat("x", 100)
			b.ReportAllocs()
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := enginetest.Unary(b.Context(), cc, body); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
