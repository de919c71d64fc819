package discovery_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Readers, beats and subscribers come and go while the view changes; the race detector and the order of versions tell.
func TestReadersWhileTheViewChanges(t *testing.T) {
	f := newFake()
	d := discovery.New(discovery.Config{Store: f, Coalesce: time.Microsecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	<-d.Ready()

	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for last := uint64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				v := d.View()
				if v.Version < last {
					t.Errorf("version %d was seen after %d", v.Version, last)
				}
				last = v.Version
				for i := 1; i < len(v.Entries); i++ {
					if v.Entries[i-1].Instance.ID >= v.Entries[i].Instance.ID {
						t.Errorf("view %d is not sorted", v.Version)
					}
				}
				d.Observe(registry.BeatReply{Version: last})
				_ = d.Status()
				_, unsubscribe := d.Subscribe()
				unsubscribe()
			}
		})
	}
	for i := range 2000 {
		f.put(instance("s", fmt.Sprintf("%03d", i%200)))
		if i%3 == 0 {
			f.remove(registry.Key{Service: "s", ID: fmt.Sprintf("%03d", (i*7)%200)})
		}
	}
	d.Observe(f.beat())
	deadline := time.Now().Add(patience)
	for differs(f, d.View()) != "" && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if fault := differs(f, d.View()); fault != "" {
		t.Error(fault)
	}
	close(stop)
	readers.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
