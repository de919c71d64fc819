package relay

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"
)

// client serves one client connection. The caller has entered a task for it.
func (e *Engine) client(nc net.Conn) {
	defer e.tasks.Done()
	defer nc.Close()
	if e.clients.Add(1) > int64(e.cfg.Limits.Connections) {
		e.clients.Add(-1)
		e.hit(limitConnections)
		if e.turnedAway.Add(1) <= maxTurnedAway {
			newConn(e, nc).turnAway()
		}
		e.turnedAway.Add(-1)
		return
	}
	defer e.clients.Add(-1)
	c := newConn(e, nc)
	if !e.track(c) {
		return
	}
	defer e.untrack(c)
	if e.isDraining() {
		c.goodbye(endingSoon) // it was accepted as Drain began, which may not have seen it
	}
	_ = nc.SetReadDeadline(time.Now().Add(e.cfg.Limits.HandshakeTimeout))
	e.clientGone(c, c.serve())
	c.linger()
}

// isClient tells a client's connection from a peer's.
func (c *conn) isClient() bool { return c.link == nil }

// greet sends our side of the preface, once the client's was seen.
func (c *conn) greet() {
	c.mu.Lock()
	c.putPreface()
	c.mu.Unlock()
	c.touch(c)
}

// tooSlow is the end of a client that has not begun in time.
func (c *conn) tooSlow() error {
	c.e.hit(limitHandshake)
	c.mu.Lock()
	c.putPreface()
	c.mu.Unlock()
	return connError{codeSettingsTimeout, fmt.Sprintf("no HTTP/2 preface with SETTINGS came within limits.handshake_timeout (%s)",
		c.e.cfg.Limits.HandshakeTimeout)}
}

// maxTurnedAway is how many clients are told at a time that there is no room for them. Others are closed without a word.
const maxTurnedAway = 256

// putPreface puts our side of the preface in front of all else, once (RFC 9113 §3.4). The caller holds mu.
func (c *conn) putPreface() {
	if c.prefaced {
		return
	}
	c.prefaced = true
	l := &c.e.cfg.Limits
	c.putSettings(setting{settingMaxConcurrentStreams, l.StreamsPerConnection},
		setting{settingInitialWindowSize, recvStreamWindow}, setting{settingMaxHeaderListSize, l.HeaderBytes})
	c.putWindowUpdate(0, recvConnWindow-defaultWindow)
}

// turnAway tells a client why it is not served.
func (c *conn) turnAway() {
	c.putSettings()
	c.putGoAway(0, codeEnhanceYourCalm,
		fmt.Sprintf("the sidecar has limits.max_connections (%d) client connections", c.e.cfg.Limits.Connections))
	c.linger()
	c.mu.Lock()
	c.closed = errTurnedAway // what it has not read is held no more
	c.account()
	c.mu.Unlock()
}

var errTurnedAway = errors.New("there was no room for the connection")

// clientGone cancels the calls of a client whose connection has ended.
func (e *Engine) clientGone(c *conn, err error) {
	c.mu.Lock()
	c.closed = err
	all := c.forgetAll()
	c.account()
	c.mu.Unlock()
	for _, h := range all {
		h.s.canceled(c, codeCancel)
	}
	c.endBatch()
	c.stopDeadlines()
}

// httpHint is the answer to a client that speaks HTTP/1.
const httpHint = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"This port takes gRPC: HTTP/2 with prior knowledge, without TLS. Try: grpcurl -plaintext <host:port> list\n" +
	"Health, status and metrics are on the admin listener (admin.listen).\n"

// preamble takes the client's preface off what came; done is false while more of it has to come.
func (c *conn) preamble(b []byte) (n int, done bool, err error) {
	n = min(len(b), len(preface))
	if string(b[:n]) == preface[:n] {
		if done = n == len(preface); done {
			c.greet()
		} else {
			n = 0
		}
		return n, done, nil
	}
	if bytes.HasPrefix(b, []byte("GET ")) || bytes.HasPrefix(b, []byte("POST ")) || bytes.HasPrefix(b, []byte("HEAD ")) {
		c.mu.Lock()
		c.out = append(c.out, httpHint...)
		c.mu.Unlock()
	}
	return 0, false, errPreface
}

// The two steps of a goodbye (RFC 9113 §6.8): a GOAWAY that names the highest id says that the end is near; once the client has
// answered the PING behind it, all streams that it had opened by then are known, and the second GOAWAY names the last.
var drainPing = [8]byte{'g', 'o', 'o', 'd', 'b', 'y', 'e'}

// goodbyeAfter is how long a client may take for the PING's answer.
const goodbyeAfter = time.Second

// endingSoon is why a client is told to go, as the GOAWAYs say.
const endingSoon = "the sidecar is ending"

// goodbye tells the client to go, and why. It may be called from anywhere and more than once.
func (c *conn) goodbye(why string) {
	c.mu.Lock()
	if c.leaving || c.closed != nil {
		c.mu.Unlock()
		return
	}
	c.leaving, c.leavingWhy = true, why
	c.putPreface() // the client may not have said anything yet
	c.putGoAway(maxStreamID, codeNo, why)
	c.putPing(0, drainPing)
	c.mu.Unlock()
	time.AfterFunc(goodbyeAfter, c.farewell)
	flush([]*conn{c})
}

// farewell is the second step. It may be called twice, from anywhere.
func (c *conn) farewell() {
	if !c.e.enter() {
		return
	}
	defer c.e.tasks.Done()
	if c.lastWord() {
		flush([]*conn{c})
	}
}

// farewellFromReader is farewell on the reader, which flushes at the end of its batch.
func (c *conn) farewellFromReader() {
	if c.lastWord() {
		c.touch(c)
	}
}

// lastWord sends the second GOAWAY, once.
func (c *conn) lastWord() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving || c.goingAway || c.closed != nil {
		return false
	}
	c.goingAway = true
	c.putGoAway(c.lastOpened, codeNo, c.leavingWhy)
	if c.streams.len() == 0 {
		c.hangUpSoon()
	}
	return true
}

// idleFor is how long a client that may stay has been seen to have no calls. The janitor, which asks at every tick, sets the time when it
// first sees that, so that no call needs to read the clock when it ends.
func (c *conn) idleFor(now int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams.len() > 0 || c.leaving {
		return 0
	}
	if c.idleSince == 0 {
		c.idleSince = now
	}
	return now - c.idleSince
}

// closeIdleClients says goodbye to clients that have had no call for a long time.
func (e *Engine) closeIdleClients(now int64) {
	for _, c := range e.all((*conn).isClient) {
		if c.idleFor(now) > int64(e.cfg.Limits.ClientIdleTimeout) {
			e.hit(limitClientIdle)
			c.goodbye(fmt.Sprintf("no calls for limits.client_idle_timeout (%s)", e.cfg.Limits.ClientIdleTimeout))
		}
	}
}
