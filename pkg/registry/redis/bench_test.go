package redis_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// BenchmarkBeatAmong1000 is one beat with one instance and 8 loads asked for, in a registry of 1,000. Besides the time that a
// beat takes it reports the processor time that it costs Redis, and which share of a core that is for 1,000 sidecars every 5 s.
func BenchmarkBeatAmong1000(b *testing.B) {
	s := redistest.Start(b, redistest.Config{})
	store, err := redis.New(redis.Config{Addresses: []string{s.Addr()}})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	const fleet = 1000
	beats := make([]registry.Beat, fleet)
	for i := range beats {
		inst := instance("echo", fmt.Sprintf("m%04d", i), "one")
		if _, err := store.Register(b.Context(), inst, lease, true); err != nil {
			b.Fatal(err)
		}
		beats[i] = registry.Beat{Lease: lease, Owned: []registry.Owned{{Key: inst.Key(), Incarnation: "one"}}}
		for j := range 8 {
			beats[i].Ask = append(beats[i].Ask, registry.Key{Service: "echo", ID: fmt.Sprintf("m%04d", (i+j)%fleet)})
		}
	}
	cpu := func() float64 {
		total := 0.0
		for line := range strings.Lines(s.Text("INFO", "cpu")) {
			for _, name := range []string{"used_cpu_user:", "used_cpu_sys:"} {
				if v, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
					seconds, err := strconv.ParseFloat(v, 64)
					if err != nil {
						b.Fatal(err)
					}
					total += seconds
				}
			}
		}
		return total
	}
	before, began := cpu(), time.Now()
	n := 0
	for b.Loop() {
		if _, err := store.Beat(b.Context(), beats[n%fleet]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	used := cpu() - before
	if time.Since(began) > 100*time.Millisecond { // Redis' own figure is too coarse for less
		b.ReportMetric(used/float64(n)*1e6, "redis-cpu-µs/beat")
		b.ReportMetric(used/float64(n)*fleet/5*100, "redis-core-%/1000@5s")
	}
}

// BenchmarkSnapshotOf1000 is what each watcher reads after a loss.
func BenchmarkSnapshotOf1000(b *testing.B) {
	s := redistest.Start(b, redistest.Config{})
	store, err := redis.New(redis.Config{Addresses: []string{s.Addr()}})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for i := range 1000 {
		if _, err := store.Register(b.Context(), instance("echo", fmt.Sprintf("m%04d", i), "one"), lease, true); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if snap, err := store.Snapshot(b.Context()); err != nil || len(snap.Instances) != 1000 {
			b.Fatal(len(snap.Instances), err)
		}
	}
}
