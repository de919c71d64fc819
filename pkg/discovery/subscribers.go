package discovery

import "sync"

// subscribers are those who want to hear that the view changed. Its zero value is ready.
type subscribers struct {
	// mu guards all. Sends under it never block: each channel has room for one, and one that is full already tells its reader
	// to look.
	mu  sync.Mutex
	all map[chan struct{}]struct{}
}

func (s *subscribers) add() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[chan struct{}]struct{})
	}
	s.all[c] = struct{}{}
	return c, func() { s.remove(c) }
}

func (s *subscribers) remove(c chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

func (s *subscribers) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
