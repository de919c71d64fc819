package relay

import (
	"strconv"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// requestHeaders handles a header block from a client: a new call, or trailers of one.
func (c *conn) requestHeaders(id uint32, end, tooLarge bool) error {
	if id <= c.lastStream {
		return c.requestTrailers(id, end, tooLarge)
	}
	c.lastStream = id
	s := &stream{e: c.e, started: c.now, contentLength: -1}
	s.down = half{s: s, conn: c, id: id, down: true, recvEnd: end, recvWindow: recvStreamWindow, recvMax: recvStreamWindow}
	if why := s.checkRequest(c.fields); why != "" && !tooLarge {
		return streamError{id, codeProtocol, why}
	}
	if end && s.contentLength > 0 {
		return streamError{id, codeProtocol, "content-length without DATA"}
	}
	c.mu.Lock()
	if c.goingAway {
		c.mu.Unlock()
		return nil // above the last stream id of our GOAWAY: the client knows that it was not processed
	}
	if c.streams.len() >= int(c.e.cfg.Limits.StreamsPerConnection) {
		c.mu.Unlock()
		c.e.hit(limitStreams)
		return streamError{id, codeRefusedStream, "more streams than SETTINGS_MAX_CONCURRENT_STREAMS"}
	}
	c.streams.put(&s.down)
	c.lastOpened = id
	c.mu.Unlock()
	s.request.end = end
	size := 0
	if !tooLarge {
		size = s.takeRequest(c.fields)
		s.own = c.e.isOwn(s.call.Method)
	}
	c.e.callStarted(s.own)
	l := &c.e.cfg.Limits
	switch {
	case tooLarge:
		s.reject(c, limitHeaderBytes, int64(l.HeaderBytes), "the call's headers are too large")
	case c.e.inFlight.Load()+c.e.ownCalls.Load()*ownCost > int64(l.Calls):
		s.reject(c, limitCalls, int64(l.Calls), "too many calls are open")
	case s.own:
		s.takeOwn(c, size)
	default:
		kept := s.request.countFields(c.e, c, size)
		if s.deadline != 0 {
			c.addDeadline(s)
		}
		s.route(c)
		if !kept {
			s.forgetFields(c)
		}
	}
	return nil
}

// reject ends a call for which a limit leaves no room.
func (s *stream) reject(c *conn, l limit, value int64, what string) {
	c.e.hit(l)
	if up, mine := s.claim(); mine {
		s.fail(c, statusResourceExhausted, exceeded(l, value, what))
		s.abandon(c, up, codeCancel)
		s.finish(c, outcomeOfOurs, statusResourceExhausted)
	}
}

// requestTrailers handles a second block of a call.
func (c *conn) requestTrailers(id uint32, end, tooLarge bool) error {
	c.mu.Lock()
	h := c.streams.get(id)
	over, ours := h != nil && h.recvEnd, c.resetsSent.has(id) || c.ignores(id)
	c.mu.Unlock()
	switch {
	case ours:
		return nil // under way when we reset the stream, or said goodbye
	case h == nil:
		return connError{codeStreamClosed, "HEADERS on a closed stream"} // RFC 9113 §5.1.1
	case over:
		return streamError{id, codeStreamClosed, "HEADERS after END_STREAM"}
	case !end:
		return streamError{id, codeProtocol, "trailers without END_STREAM"}
	case tooLarge:
		c.mu.Lock()
		h.received()
		c.mu.Unlock()
		h.s.reject(c, limitHeaderBytes, int64(c.e.cfg.Limits.HeaderBytes), "the call's trailers are too large")
		return nil
	}
	for i := range c.fields {
		if strings.HasPrefix(c.fields[i].Name, ":") {
			return streamError{id, codeProtocol, "a pseudo-header in trailers"}
		}
	}
	// gRPC has no request trailers: they end the request and go no further.
	return h.s.requestData(c, h, nil, true)
}

// pseudo are the pseudo-headers of a request, as bits.
const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoPath
	pseudoAuthority
)

// checkRequest checks what RFC 9113 §8.1.1 to §8.3.1 call malformed; it gives the reason, or nothing.
func (s *stream) checkRequest(fields []hpack.Field) string {
	seen, regular := 0, false
	for i := range fields {
		f := &fields[i]
		if f.Name == "" || f.Name[0] != ':' {
			regular = true
			if why := checkRegular(f); why != "" {
				return why
			}
			switch f.Name {
			case "te":
				if f.Value != "trailers" {
					return "te other than trailers"
				}
			case "content-length":
				n, err := strconv.ParseInt(f.Value, 10, 64)
				if err != nil || n < 0 || s.contentLength >= 0 && s.contentLength != n {
					return "a wrong content-length"
				}
				s.contentLength = n
			}
			continue
		}
		bit := 0
		switch f.Name {
		case ":method":
			bit = pseudoMethod
		case ":scheme":
			bit = pseudoScheme
		case ":path":
			bit = pseudoPath
		case ":authority":
			bit = pseudoAuthority
		}
		switch {
		case regular:
			return "a pseudo-header after a regular one"
		case bit == 0:
			return "an unknown pseudo-header"
		case seen&bit != 0:
			return "a pseudo-header twice"
		case bit == pseudoPath && f.Value == "":
			return "an empty :path"
		case !fieldValue(f.Value):
			return "a control character in a value"
		}
		seen |= bit
	}
	if seen|pseudoAuthority != pseudoMethod|pseudoScheme|pseudoPath|pseudoAuthority {
		return "a pseudo-header is missing"
	}
	return ""
}

// takeRequest keeps the request's fields, with the headers that steer taken out, and gives how much memory they take.
func (s *stream) takeRequest(fields []hpack.Field) (size int) {
	kept := acquireFields(len(fields))
	for i := range fields {
		f := fields[i]
		if f.How != hpack.Indexed {
			// The decoder's buffer is used again; what is in its table stays.
			if f.Value = strings.Clone(f.Value); !f.NameStays {
				f.Name = strings.Clone(f.Name)
			}
		}
		switch f.Name {
		case ":path":
			s.call.Method = f.Value
		case "grpc-timeout":
			if d, ok := parseTimeout(f.Value); ok {
				s.deadline = s.started + int64(min(d, maxTimeout))
			}
			f.How = plainUnlessNever(f.How)
		default:
			if f.Name[0] != ':' && s.e.cfg.Router.Take(&s.call, f.Name, f.Value) {
				continue
			}
			if changesEveryCall(f.Name) {
				f.How = plainUnlessNever(f.How)
			}
		}
		size += fieldOverhead + len(f.Name) + len(f.Value)
		kept = append(kept, f)
	}
	s.request.fields = kept
	if p := s.e.retry; p.covers(s.call.Method) {
		p.budget.call(s.started)
	}
	return size
}

func plainUnlessNever(h hpack.How) hpack.How {
	if h == hpack.Never {
		return h
	}
	return hpack.Plain
}

// changesEveryCall names the headers that would push everything else out of the dynamic table.
func changesEveryCall(name string) bool {
	switch name {
	case "traceparent", "tracestate", "grpc-trace-bin", "grpc-tags-bin", "x-request-id", "x-b3-traceid", "x-b3-spanid",
		"x-b3-parentspanid", "b3", "x-cloud-trace-context", "content-length", previousAttempts:
		return true
	}
	return false
}

const previousAttempts = "grpc-previous-rpc-attempts"

// requestFields are the fields to send to a peer. A call that has waited has less time left; one that was sent again because the
// configuration allows it says so (gRFC A6, "Exposed Retry Metadata"). The caller holds s.mu.
func (s *stream) requestFields(now int64) []hpack.Field {
	waited := s.deadline != 0 && now-s.started >= int64(time.Millisecond)
	if !waited && s.repeated == 0 {
		return s.request.fields
	}
	fields := append([]hpack.Field(nil), s.request.fields...)
	said := s.repeated == 0
	for i := range fields {
		switch {
		case fields[i].Name == "grpc-timeout" && waited:
			fields[i].Value = formatTimeout(time.Duration(s.deadline - now))
		case fields[i].Name == previousAttempts && !said:
			n, _ := strconv.Atoi(fields[i].Value)
			fields[i].Value = strconv.Itoa(n + s.repeated)
			said = true
		}
	}
	if !said {
		fields = append(fields, hpack.Field{Name: previousAttempts, Value: strconv.Itoa(s.repeated), How: hpack.Plain})
	}
	return fields
}
