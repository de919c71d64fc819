package h2script

import (
	"time"

	"golang.org/x/net/http2"
)

// Window gives how much may be sent on a stream now; stream 0 is the connection. It may be negative.
func (c *Conn) Window(id uint32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		return c.flow.send
	}
	if w := c.flow.streams[id]; w != nil {
		return w.send
	}
	return c.flow.initialSend
}

// Upload sends data within the windows and gives how much went out: less than all when no credit came for as long as patience.
func (s *Stream) Upload(data []byte, end bool, patience time.Duration) (sent int) {
	c := s.Conn
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for sent < len(data) {
		c.mu.Lock()
		n := c.flow.take(s.ID, len(data)-sent)
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		if n > 0 {
			last := end && sent+n == len(data)
			if c.write(func(f *http2.Framer) error { return f.WriteData(s.ID, last, data[sent:sent+n]) }) != nil {
				return sent
			}
			if sent += n; last {
				c.half(s.ID)
			}
			timer.Reset(patience)
			continue
		}
		if closed {
			return sent
		}
		select {
		case <-changed:
		case <-timer.C:
			return sent
		}
	}
	return sent
}

func (c *Conn) half(id uint32) {
	c.mu.Lock()
	c.halfLocked(id, false)
	c.mu.Unlock()
}

// StartUpload is Upload in the background, until all is sent or the connection ends. wait gives how much went out.
func (s *Stream) StartUpload(data []byte, end bool) (wait func() int) {
	sent := make(chan int, 1)
	go s.upload(data, end, sent)
	return func() int {
		n := <-sent
		sent <- n
		return n
	}
}

func (s *Stream) upload(data []byte, end bool, sent chan<- int) {
	sent <- s.Upload(data, end, 2*Patience)
}

// AwaitWindow waits until n bytes may be sent on a stream, and tells whether that came to be.
func (s *Stream) AwaitWindow(n int64) bool {
	c := s.Conn
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	for {
		c.mu.Lock()
		changed, closed := c.changed, c.closed
		w := c.flow.streams[s.ID]
		enough := w != nil && w.send >= n && c.flow.send >= n
		c.mu.Unlock()
		if enough || closed {
			return enough
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}
