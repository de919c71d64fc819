package enginetest

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
)

// Recorder is an Observer that keeps what it is told.
type Recorder struct {
	// mu guards the fields below.
	mu      sync.Mutex
	started int
	ended   []told
}

// told is the end of one call.
type told struct {
	engine.CallInfo
	at time.Time
}

// CallStarted counts.
func (r *Recorder) CallStarted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started++
}

// CallEnded keeps a copy: the strings are valid only until it returns.
func (r *Recorder) CallEnded(i engine.CallInfo) {
	i.Service, i.Method = strings.Clone(i.Service), strings.Clone(i.Method)
	i.PeerID, i.PeerRegion = strings.Clone(i.PeerID), strings.Clone(i.PeerRegion)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, told{i, time.Now()})
}

// calls are those that have ended, in that order.
func (r *Recorder) calls() []told {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ended)
}

// of counts the calls that a peer was the last to be sent.
func (r *Recorder) of(peer string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ended {
		if r.ended[i].PeerID == peer {
			n++
		}
	}
	return n
}

func (r *Recorder) counts() (started, ended int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.started, len(r.ended)
}

// check fails the test unless every call that was told to have started was told to have ended. It is for a closed engine.
func (r *Recorder) check(t testing.TB) {
	t.Helper()
	if started, ended := r.counts(); started != ended {
		t.Errorf("the observer was told of %d calls that started and %d that ended", started, ended)
	}
}
