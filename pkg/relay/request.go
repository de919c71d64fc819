package relay

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// requestHeaders handles a header block from a client: a new call, or trailers of one.
func (c *conn) requestHeaders(id uint32, end, tooLarge bool) error {
	if id <= c.lastStream {
		return c.requestTrailers(id, end)
	}
	c.lastStream = id
	c.mu.Lock()
	refuse := c.goingAway
	c.mu.Unlock()
	if refuse {
		// Above the last stream id of our GOAWAY: the client knows that it was not processed.
		return nil
	}
	s := &stream{e: c.e, started: time.Now(), contentLength: -1}
	s.down = half{s: s, conn: c, id: id, down: true, recvEnd: end, recvWindow: recvStreamWindow}
	if why := s.checkRequest(c.fields); why != "" && !tooLarge {
		return streamError{id, codeProtocol, why}
	}
	if end && s.contentLength > 0 {
		return streamError{id, codeProtocol, "content-length without DATA"}
	}
	c.mu.Lock()
	s.down.window = c.settings.initialWindow
	c.streams[id] = &s.down
	c.mu.Unlock()
	c.e.callStarted()
	if tooLarge {
		s.fail(c, statusResourceExhausted, "the call's headers are larger than limits.max_header_bytes ("+
			strconv.Itoa(int(c.e.cfg.Limits.HeaderBytes))+") of the sidecar")
		s.finish(routing.Canceled, statusResourceExhausted)
		return nil
	}
	s.replayEnd = end
	s.takeRequest(c.fields)
	if c.e.isOwn(s.method) {
		s.takeOwn(c)
		return nil
	}
	s.route(c)
	return nil
}

// requestTrailers handles a second block of a call.
func (c *conn) requestTrailers(id uint32, end bool) error {
	c.mu.Lock()
	h := c.streams[id]
	over := h != nil && h.recvEnd
	c.mu.Unlock()
	switch {
	case h == nil:
		return connError{codeStreamClosed, "HEADERS on a closed stream"}
	case over:
		return streamError{id, codeStreamClosed, "HEADERS after END_STREAM"}
	case !end:
		return streamError{id, codeProtocol, "trailers without END_STREAM"}
	}
	for i := range c.fields {
		if strings.HasPrefix(c.fields[i].Name, ":") {
			return streamError{id, codeProtocol, "a pseudo-header in trailers"}
		}
	}
	// gRPC has no request trailers: they end the request and go no further.
	return h.s.data(c, h, nil, true)
}

// checkRequest checks what RFC 9113 §8.1.1 to §8.3.1 call malformed; it gives the reason, or nothing.
func (s *stream) checkRequest(fields []hpack.Field) string {
	var method, scheme, path, authority bool
	regular := false
	for i := range fields {
		f := &fields[i]
		if strings.HasPrefix(f.Name, ":") {
			if regular {
				return "a pseudo-header after a regular one"
			}
			var seen *bool
			switch f.Name {
			case ":method":
				seen = &method
			case ":scheme":
				seen = &scheme
			case ":path":
				seen = &path
				if f.Value == "" {
					return "an empty :path"
				}
			case ":authority":
				seen = &authority
			default:
				return "an unknown pseudo-header"
			}
			if *seen {
				return "a pseudo-header twice"
			}
			*seen = true
		} else {
			regular = true
			if why := checkRegular(f); why != "" {
				return why
			}
			if f.Name == "content-length" {
				n, err := strconv.ParseInt(f.Value, 10, 64)
				if err != nil || n < 0 || s.contentLength >= 0 && s.contentLength != n {
					return "a wrong content-length"
				}
				s.contentLength = n
			}
		}
		if strings.ContainsAny(f.Value, "\r\n\x00") {
			return "a control character in a value"
		}
	}
	if !method || !scheme || !path {
		return "a pseudo-header is missing"
	}
	return ""
}

// checkRegular checks one regular field (RFC 9113 §8.2).
func checkRegular(f *hpack.Field) string {
	if f.Name == "" {
		return "an empty name"
	}
	for i := range len(f.Name) {
		if b := f.Name[i]; b <= ' ' || b >= 0x7f || 'A' <= b && b <= 'Z' || b == ':' {
			return "a character that a name may not have"
		}
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return "a connection-level header"
	case "te":
		if f.Value != "trailers" {
			return "te other than trailers"
		}
	}
	return ""
}

// takeRequest keeps the request's fields, with the headers that steer taken out.
func (s *stream) takeRequest(fields []hpack.Field) {
	s.fields = make([]hpack.Field, 0, len(fields))
	for i := range fields {
		f := fields[i]
		if f.How != hpack.Indexed {
			f.Name, f.Value = strings.Clone(f.Name), strings.Clone(f.Value)
		}
		switch {
		case f.Name == ":path":
			s.method, s.call.Method = f.Value, f.Value
		case f.Name == "grpc-timeout":
			if d, ok := parseTimeout(f.Value); ok {
				s.deadline = s.started.Add(d)
			}
			f.How = plainUnlessNever(f.How)
		case s.e.cfg.Router.Take(&s.call, f.Name, f.Value):
			continue
		case changesEveryCall(f.Name):
			f.How = plainUnlessNever(f.How)
		}
		s.fields = append(s.fields, f)
	}
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
		"x-b3-parentspanid", "b3", "x-cloud-trace-context", "content-length", "grpc-previous-rpc-attempts":
		return true
	}
	return false
}

// requestFields are the fields to send to a peer: a call that has waited has less time left.
func (s *stream) requestFields() []hpack.Field {
	if s.deadline.IsZero() || time.Since(s.started) < time.Millisecond {
		return s.fields
	}
	fields := append([]hpack.Field(nil), s.fields...)
	for i := range fields {
		if fields[i].Name == "grpc-timeout" {
			fields[i].Value = formatTimeout(time.Until(s.deadline))
		}
	}
	return fields
}

// parseTimeout reads grpc-timeout: up to 8 digits and a unit (gRPC over HTTP/2, "Timeout").
func parseTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 63)
	if err != nil {
		return 0, false
	}
	unit, ok := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond,
		'n': time.Nanosecond}[v[len(v)-1]]
	if !ok {
		return 0, false
	}
	if d := time.Duration(n); d <= time.Duration(1<<63-1)/unit {
		return d * unit, true
	}
	return 1<<63 - 1, true
}

func formatTimeout(d time.Duration) string {
	d = max(d, time.Nanosecond)
	for _, u := range []struct {
		unit time.Duration
		name byte
	}{{time.Nanosecond, 'n'}, {time.Microsecond, 'u'}, {time.Millisecond, 'm'}, {time.Second, 'S'}, {time.Minute, 'M'}, {time.Hour, 'H'}} {
		if n := d / u.unit; n < 1e8 {
			return strconv.FormatInt(int64(n), 10) + string(u.name)
		}
	}
	return "99999999H"
}

// route finds a peer for the call and has it sent there, or lets it wait for a connection. c is the connection on whose reader it
// runs, nil elsewhere.
func (s *stream) route(c *conn) {
	for {
		pick, err := s.e.cfg.Router.Route(&s.call)
		if err != nil && s.unprocessedBy {
			// Nobody else can take it, but the peer that went away, or was full, may on a new connection. Once.
			s.unprocessedBy = false
			s.call = routing.Call{Method: s.call.Method, Service: s.call.Service, ForceInstance: s.call.ForceInstance}
			continue
		}
		if err != nil {
			code, message := uint32(statusUnavailable), err.Error()
			var re *routing.Error
			if errors.As(err, &re) {
				code = uint32(re.Code)
			}
			s.fail(c, code, message)
			s.finish(routing.Canceled, code)
			return
		}
		s.mu.Lock()
		s.pick, s.picked = pick, true
		s.attempts++
		s.mu.Unlock()
		if s.e.pool.take(s, pick.Peer, c) {
			return
		}
		s.unpick(routing.Refused)
	}
}

// unpick gives the pick back.
func (s *stream) unpick(o routing.Outcome) {
	s.mu.Lock()
	pick, picked := s.pick, s.picked
	s.picked = false
	s.mu.Unlock()
	if picked {
		pick.Done(o)
	}
}

// again sends a call that its peer has provably not processed to another one.
func (s *stream) again(c *conn, o routing.Outcome) {
	s.mu.Lock()
	s.up = nil
	s.mu.Unlock()
	s.unpick(o)
	if o == routing.Unprocessed {
		s.unprocessedBy = true
	}
	s.route(c)
}
