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
		return nil // reset a moment ago; the block was decoded, which keeps the tables in step
	}
	if tooLarge {
		return streamError{id, codeProtocol, "its headers are larger than limits.max_header_bytes"}
	}
	s := h.s
	s.mu.Lock()
	if s.up != h {
		s.mu.Unlock()
		return nil
	}
	begun := s.begun
	interim, why := checkResponse(c.fields, begun)
	if why == "" && begun && !end {
		why = "trailers without END_STREAM"
	}
	if why == "" && interim && end {
		why = "an interim response with END_STREAM"
	}
	if why != "" {
		s.mu.Unlock()
		return streamError{id, codeProtocol, why}
	}
	if !interim {
		s.begun = true
		s.fields, s.replay = nil, nil
		for i := range c.fields {
			if c.fields[i].Name == "grpc-status" {
				s.status = parseStatus(c.fields[i].Value)
			}
		}
	}
	pick, picked := s.pick, s.picked
	s.mu.Unlock()
	if picked && !interim && !begun {
		pick.Responding()
	}
	c.fields = withoutHop(c.fields)
	dc := s.down.conn
	dc.mu.Lock()
	s.down.sendHeaders(c.fields, end)
	dc.mu.Unlock()
	c.touch(dc)
	if end {
		s.upEnded(c, h)
		s.mu.Lock()
		code := s.status
		s.mu.Unlock()
		s.finish(routing.Answered, code)
	}
	return nil
}

// checkResponse checks a response's block; it tells whether the response is an interim one (1xx).
func checkResponse(fields []hpack.Field, trailers bool) (interim bool, why string) {
	status, regular := "", false
	for i := range fields {
		f := &fields[i]
		if strings.HasPrefix(f.Name, ":") {
			if f.Name != ":status" || status != "" || regular || trailers || f.Value == "" {
				return false, "a pseudo-header that does not belong there"
			}
			status = f.Value
		} else {
			regular = true
		}
		if strings.ContainsAny(f.Value, "\r\n\x00") {
			return false, "a control character in a value"
		}
	}
	if !trailers && len(status) != 3 {
		return false, "no :status"
	}
	return strings.HasPrefix(status, "1"), ""
}

// withoutHop takes out the connection-level headers. Usually there are none and nothing is copied.
func withoutHop(fields []hpack.Field) []hpack.Field {
	kept := fields[:0]
	for i := range fields {
		switch fields[i].Name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			continue
		}
		kept = append(kept, fields[i])
	}
	return kept
}
