package relay_test

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// modelCall is one call: the client's leg, the legs on which it came to peers, and what the peer's side of it is to send, which waits
// until the call arrives. The run's mu guards it.
type modelCall struct {
	run    *modelRun
	number int
	path   string
	plan   modelCallPlan

	client *modelLeg
	peer   *modelLeg // the one that serves it: the last that is not unprocessed
	script []modelItem
	// headed and finished say that the script has response headers, and an end.
	headed, finished bool
	// answers says that the response is ended as soon as the request has.
	answers bool
	// resets is what the peer resets the call with as soon as it arrives.
	resets *http2.ErrCode

	// refused counts our refusals; left are the connections whose GOAWAY kept them from the call, or may have: we may never see it.
	refused int
	left    map[*modelEnd]bool
	// lossy says that a peer's connection was cut while the call was there, or may have been on its way there.
	lossy bool
	// own says that the engine answered by itself.
	own bool
}

// replayable is what the engine keeps of a request, at the least, so that it can send it again.
const replayable = 64 << 10

// mayFail tells whether the engine may answer UNAVAILABLE by itself: the peer was lost, or the call cannot be sent again because it is
// too large, or was sent again already.
func (c *modelCall) mayFail() bool {
	n := c.refused + len(c.left)
	return c.lossy || n > 1 || n == 1 && c.client.sent > replayable
}

// arrived takes a new leg at a peer.
func (c *modelCall) arrived(l *modelLeg) {
	if l.ignored {
		c.left[l.end] = true
		return
	}
	if c.peer != nil {
		c.run.breaks("%s: %s comes again although %s may have processed it", l.end.name, c.path, c.peer.end.name)
	}
	c.peer = l
	l.queue = append(l.queue, c.script...)
	c.script = nil
	if c.resets != nil {
		l.sendReset(*c.resets)
	}
}

// respond has the peer's side send something in its turn, now or when the call arrives.
func (c *modelCall) respond(it modelItem) {
	if c.peer == nil {
		c.script = append(c.script, it)
	} else if !c.peer.closed() {
		c.peer.queue = append(c.peer.queue, it)
		c.peer.end.pump()
	}
}

// refuse has the peer say that it has not processed the call, if it has not begun to answer.
func (c *modelCall) refuse() {
	l := c.peer
	if l == nil || !l.alive() || len(l.sentBlocks) > 0 || c.refused > 0 {
		return
	}
	c.script = append(l.queue, c.script...)
	l.sendReset(http2.ErrCodeRefusedStream)
	c.refused++
	c.peer = nil
}

// data takes DATA that came on a leg.
func (c *modelCall) data(l *modelLeg, p []byte, end bool) {
	from := c.other(l)
	if l == c.client && (from == nil || !slices.ContainsFunc(from.sentBlocks[:min(l.gotBlocks, len(from.sentBlocks))], final)) {
		c.run.breaks("%s: DATA of %s came before headers", l.end.name, c.path)
		return
	}
	for len(p) > 0 {
		n := min(len(p), modelPeriod)
		if l.got+n > from.sent {
			c.run.breaks("%s: %d octets of %s came, only %d were sent", l.end.name, l.got+n, c.path, from.sent)
			return
		}
		if !bytes.Equal(p[:n], c.pattern(l != c.client, l.got, n)) {
			c.run.breaks("%s: the octets of %s from %d on are not those that were sent", l.end.name, c.path, l.got)
			return
		}
		l.got += n
		p = p[n:]
	}
	if end {
		c.ends(l, from)
	}
}

func final(b modelBlock) bool { return !strings.HasPrefix(value(b.fields, ":status"), "1") }

// other is where what comes on a leg was sent.
func (c *modelCall) other(l *modelLeg) *modelLeg {
	if l == c.client {
		return c.peer
	}
	return c.client
}

// ends takes END_STREAM.
func (c *modelCall) ends(l, from *modelLeg) {
	l.gotEnd = true
	if !from.sentEnd || l.got != from.sent {
		c.run.breaks("%s: %s ends after %d octets; %d were sent, and END_STREAM: %v", l.end.name, c.path, l.got, from.sent, from.sentEnd)
	}
	if l == c.peer && c.answers {
		c.peerStep(modelStep{Kind: peerTrailers})
	}
}

// block takes a header block that came on a leg.
func (c *modelCall) block(l *modelLeg, b modelBlock) {
	if l != c.client {
		c.requestBlock(l, b)
		return
	}
	if from := c.peer; from != nil && l.gotBlocks < len(from.sentBlocks) {
		if want := from.sentBlocks[l.gotBlocks]; sameBlock(want, b) {
			l.gotBlocks++
			if b.end {
				c.ends(l, from)
			}
			return
		}
	}
	status := value(b.fields, "grpc-status")
	if p := c.peer; p != nil && p.sentEnd && !withStatus(p) && l.got == p.sent && status == "13" && b.end {
		l.gotEnd = true // a gRPC response that ends with DATA has no status
		return
	}
	if status != "14" || !b.end || !c.mayFail() {
		c.run.breaks("%s: %s gets a block that no peer sent: %v, END_STREAM %v", l.end.name, c.path, clipFields(b.fields), b.end)
	}
	c.own, l.gotEnd = true, true
}

func (c *modelCall) requestBlock(l *modelLeg, b modelBlock) {
	if l.gotBlocks++; l.gotBlocks > 1 {
		// Trailers. gRPC has none in requests; the engine may pass them or only the end.
		if !b.end {
			c.run.breaks("%s: a second block of %s came without END_STREAM", l.end.name, c.path)
			return
		}
	} else if want := c.client.sentBlocks[0]; !slices.Equal(want.fields, b.fields) {
		c.run.breaks("%s: the headers of %s are %v, not %v", l.end.name, c.path, clipFields(b.fields), clipFields(want.fields))
		return
	}
	if b.end {
		c.ends(l, c.client)
	}
}

// reset takes RST_STREAM that came on a leg: it must be the other side's, or say that nobody needs the rest of the request, since the
// response is complete.
func (c *modelCall) reset(l *modelLeg, code http2.ErrCode) {
	complete := l.gotEnd
	if l != c.client {
		complete = l.sentEnd
	}
	from := c.other(l)
	switch {
	case complete && code == http2.ErrCodeNo, l != c.client && (c.client.end.dies || c.own), l == c.client && complete && c.lossy:
	case from == nil || from.sentReset == nil:
		c.run.breaks("%s: %s is reset with %v by the engine itself", l.end.name, c.path, code)
	case *from.sentReset != code:
		c.run.breaks("%s: %s is reset with %v, %s said %v", l.end.name, c.path, code, from.end.name, *from.sentReset)
	case l == c.client && from.endFirst && code == http2.ErrCodeNo:
		c.run.breaks("%s: the end of %s is lost: its peer asked with RST_STREAM(NO_ERROR) for no more of the request", l.end.name, c.path)
	}
}

// withStatus tells whether a peer's leg has ended with a status.
func withStatus(l *modelLeg) bool {
	return l != nil && len(l.sentBlocks) > 0 && value(l.sentBlocks[len(l.sentBlocks)-1].fields, "grpc-status") != ""
}

func sameBlock(a, b modelBlock) bool { return a.end == b.end && slices.Equal(a.fields, b.fields) }

func value(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// clipFields shortens values for a message.
func clipFields(fields []hpack.HeaderField) (out []string) {
	for _, f := range fields {
		out = append(out, f.Name+": "+f.Value[:min(len(f.Value), 80)])
	}
	return out
}
