package relay

import (
	"strings"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// responseHeaders handles a header block from a peer: interim or final headers, or trailers.
func (c *conn) responseHeaders(id uint32, end, tooLarge bool) error {
	h := c.lookup(id)
	if h == nil {
		if c.idle(id) {
			return connError{codeProtocol, "HEADERS on an idle stream"}
		}
		return c.closedStream(id) // the block was decoded, which keeps the tables in step
	}
	c.link.spoke()
	if tooLarge {
		c.e.hit(limitHeaderBytes)
		return streamError{id, codeProtocol, exceeded(limitHeaderBytes, int64(c.e.cfg.Limits.HeaderBytes), "its headers are too large")}
	}
	s := h.s
	s.mu.Lock()
	if s.up != h {
		s.mu.Unlock()
		return nil
	}
	begun := s.begun
	r, why := readResponse(c.fields, begun)
	switch {
	case why != "":
	case begun && !end:
		why = "trailers without END_STREAM"
	case r.interim && end:
		why = "an interim response with END_STREAM"
	}
	if why != "" {
		s.mu.Unlock()
		return streamError{id, codeProtocol, why}
	}
	if end && !begun && r.status == statusUnavailable {
		if pause, ok := s.takeBackByPolicy(r.pushback); ok {
			s.mu.Unlock()
			c.link.served() // it is well, whatever it has to say
			s.repeat(c, h, routing.Answered, pause)
			return nil
		}
	}
	first := !begun && !r.interim
	if first {
		s.begun, s.grpc = true, r.grpc && !end
		s.request.drop(s.e, c)
	}
	if r.hasStatus {
		s.status = r.status
		s.grpc = false
	}
	over := end && !s.over
	s.over = s.over || end
	pick, picked, code := s.pick, s.picked, s.status
	// Still under s.mu: who finds begun set may rely on the headers standing in front of what it sends.
	dc := s.down.conn
	dc.mu.Lock()
	s.down.sendHeaders(c.fields, end)
	if end {
		s.down.resetAtEnd(codeNo)
	}
	dc.mu.Unlock()
	s.mu.Unlock()
	c.touch(dc)
	if first && picked {
		c.link.served()
		if pick.Peer.BackedOff() {
			pick.Responding()
		}
	}
	if end {
		c.answeredOn(h)
	}
	if over {
		s.finish(c, routing.Answered, code)
	}
	return nil
}

// response is what the relay reads in a response's block.
type response struct {
	interim   bool // 1xx
	grpc      bool // its content-type is gRPC's
	hasStatus bool
	status    uint32
	pushback  string
}

// noPushback stands for a pushback that is empty, or that there are several of: like any that can't be read, it forbids a retry.
const noPushback = "none"

// readResponse reads a block, and says what is malformed in it (RFC 9113 §8.1.1, §8.3.2).
func readResponse(fields []hpack.Field, trailers bool) (r response, why string) {
	status, regular := "", false
	r.status = statusUnknown
	for i := range fields {
		f := &fields[i]
		if len(f.Name) > 0 && f.Name[0] == ':' {
			if f.Name != ":status" || status != "" || regular || trailers || len(f.Value) != 3 {
				return r, "a pseudo-header that does not belong there"
			}
			status = f.Value
			continue
		}
		regular = true
		if why := checkRegular(f); why != "" {
			return r, why
		}
		switch f.Name {
		case "grpc-status":
			r.hasStatus, r.status = true, parseStatus(f.Value)
		case "content-type":
			r.grpc = strings.HasPrefix(f.Value, "application/grpc")
		case "grpc-retry-pushback-ms":
			if r.pushback != "" || f.Value == "" {
				r.pushback = noPushback
			} else {
				r.pushback = f.Value
			}
		}
	}
	if !trailers && status == "" {
		return r, "no :status"
	}
	r.interim = status != "" && status[0] == '1'
	return r, ""
}
