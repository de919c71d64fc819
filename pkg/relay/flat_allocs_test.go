package relay_test

import (
	"fmt"
	"runtime"
	"testing"
)

// mostAllocations is how many allocations the engine may make for a call whose header blocks the connections have seen before. The one
// is the call's own record (stream), which two readers, a timer and a queue may hold when it ends; to use it again would need counting who
// does, on the way of every call. The tenth is for what is done now and then.
const mostAllocations = 1.1

// The figure is that of the engine: client and peer run in this process too, but allocate nothing once they are warm, and what is
// measured without an engine between them is taken off.
func TestAllocationsPerCall(t *testing.T) {
	const calls, warmUp = 6400, 1600
	b := newFlatBed(t)
	for _, atOnce := range []int{1, 64} {
		t.Run(fmt.Sprint(atOnce, " at once"), func(t *testing.T) {
			figure := func(address string) (objects, octets float64) {
				c, err := dialFlat("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer c.nc.Close()
				run := func(n int) {
					for range n / atOnce {
						if err := c.calls(atOnce); err != nil {
							t.Fatal(err)
						}
					}
				}
				run(warmUp)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				run(calls)
				runtime.ReadMemStats(&after)
				return float64(after.Mallocs-before.Mallocs) / calls, float64(after.TotalAlloc-before.TotalAlloc) / calls
			}
			direct, directOctets := figure(b.peers[0].lis.Addr().String())
			through, throughOctets := figure(b.tcp)
			t.Logf("%.2f allocations and %.0f octets a call; without the engine %.2f and %.0f", through-direct, throughOctets-directOctets,
				direct, directOctets)
			if direct > 0.1 {
				t.Errorf("client and peer themselves make %.2f allocations a call: the figure says little", direct)
			}
			if most := mostAllocations + float64(poolAllowance); through-direct > most {
				t.Errorf("%.2f allocations a call, %.1f are allowed", through-direct, most)
			}
		})
	}
}

// BenchmarkCalls is the time for one of 64 calls at once: of the engine, a client and a peer that do as little as they can, in one process.
func BenchmarkCalls(b *testing.B) {
	const atOnce = 64
	bed := newFlatBed(b)
	c, err := dialFlat("tcp", bed.tcp)
	if err != nil {
		b.Fatal(err)
	}
	defer c.nc.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.calls(atOnce); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/atOnce, "ns/call")
}
