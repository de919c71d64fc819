package discovery_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

const lease = 15 * time.Second

// start runs a Discovery on f until the test ends, and waits until it has done what can be done at this moment. It is called
// inside a synctest bubble, which fails when a goroutine is left.
func start(t *testing.T, f *fake, prepare ...func(*discovery.Discovery)) *discovery.Discovery {
	t.Helper()
	d := discovery.New(discovery.Config{Store: f, Lease: lease})
	for _, p := range prepare {
		p(d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	return d
}

// settle lets fake time pass.
func settle(t time.Duration) {
	time.Sleep(t)
	synctest.Wait()
}

// beatEvery has d observe a beat each interval, as long as the registry answers.
func beatEvery(f *fake, d *discovery.Discovery, interval, during time.Duration) {
	for range during / interval {
		settle(interval)
		d.Observe(f.beat())
	}
	synctest.Wait()
}

func ids(v *registry.View) []string {
	var all []string
	for _, e := range v.Entries {
		id := e.Instance.ID
		if e.Held {
			id += " held"
		}
		all = append(all, id)
	}
	return all
}

func wantIDs(t *testing.T, d *discovery.Discovery, want ...string) {
	t.Helper()
	if got := ids(d.View()); !slices.Equal(got, want) {
		t.Fatalf("view has %v, want %v", got, want)
	}
}

// wantSame fails unless the view is exactly what the registry holds.
func wantSame(t *testing.T, f *fake, d *discovery.Discovery) {
	t.Helper()
	if fault := differs(f, d.View()); fault != "" {
		t.Fatal(fault)
	}
}

func differs(f *fake, v *registry.View) string {
	want := f.instances()
	if len(v.Entries) != len(want) {
		return fmt.Sprintf("view has %d entries, the registry %d", len(v.Entries), len(want))
	}
	for i, e := range v.Entries {
		if e.Held || e.Instance.Key() != want[i].Key() || e.Instance.Incarnation != want[i].Incarnation {
			return fmt.Sprintf("entry %d is %v (incarnation %s, held %v), want %v (incarnation %s)",
				i, e.Instance.Key(), e.Instance.Incarnation, e.Held, want[i].Key(), want[i].Incarnation)
		}
	}
	if version := f.beat().Version; v.Version != version {
		return fmt.Sprintf("view has version %d, the registry %d", v.Version, version)
	}
	return ""
}
