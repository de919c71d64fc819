package conformance_test

import (
	"slices"
	"strings"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var floodCases = []testCase{
	{Name: "rapid-reset", Line: "rapid reset: 5,000 calls, each reset at once", Proxied: true, Run: rapidReset},
	{Name: "provoked-resets", Line: "resets provoked from us: 20,000 malformed calls by a client that never reads",
		Proxied: true, Run: provokedResets},
	{Name: "endless-continuation", Line: "endless CONTINUATION (32 MiB) ends its connection",
		Proxied: true, Run: endlessContinuation},
	{Name: "hpack-bomb", Line: "HPACK bomb: one block of 60 MiB once decoded is refused", Proxied: true, Run: hpackBomb},
	{Name: "ping-flood", Line: "a flood of PINGs by a client that never reads", Proxied: true, Run: func(e *env) {
		e.flood(h2script.FrameBytes(http2.FramePing, 0, 0, make([]byte, 8)))
	}},
	{Name: "settings-flood", Line: "a flood of SETTINGS by a client that never reads", Proxied: true, Run: func(e *env) {
		e.flood(h2script.FrameBytes(http2.FrameSettings, 0, 0, []byte{0, 4, 0, 1, 0, 0}))
	}},
	{Name: "empty-data-flood", Line: "a flood of empty DATA", Proxied: true, Run: emptyDataFlood},
	{Name: "unread-responses", Line: "40 calls with responses of 1 MiB that the client never reads: 8 MiB are kept at the most",
		Proxied: true, Run: unreadResponses},
	{Name: "idle-streams", Line: "2,000 idle streams: all stand, each costs less than 64 KiB", Proxied: true, Run: idleStreams},
}

// callBytes gives the frames of calls that each begin with headers and go on with more, for streams from 1 on.
func callBytes(calls int, block []byte, more func(stream uint32) []byte) []byte {
	var b []byte
	for i := range uint32(calls) {
		stream := 2*i + 1
		b = append(b, h2script.FrameBytes(http2.FrameHeaders, http2.FlagHeadersEndHeaders, stream, block)...)
		b = append(b, more(stream)...)
	}
	return b
}

func rapidReset(e *env) {
	e.abused(memoryBound, func() {
		c := e.dial(h2script.Options{})
		block := h2script.Encode(h2script.Request("/conformance.Test/Reset")...)
		c.Flood(callBytes(5000, block, func(stream uint32) []byte {
			return h2script.FrameBytes(http2.FrameRSTStream, 0, stream, []byte{0, 0, 0, 8})
		}), 1, h2script.Patience)
		e.eventually(func() bool {
			open := 0
			for _, conn := range e.peers[0].Conns() {
				open += conn.OpenStreams()
			}
			return open <= 1 // the second client's
		}, "the peer keeps open calls")
	})
}

func provokedResets(e *env) {
	e.abused(memoryBound, func() {
		c := e.dial(h2script.Options{NoRead: true})
		wrong := h2script.Request("/conformance.Test/Malformed")
		wrong = append(wrong[1:], wrong[0]) // :method comes last
		c.Flood(callBytes(20000, h2script.Encode(wrong...), func(uint32) []byte { return nil }), 1, stallTime)
	})
}

func endlessContinuation(e *env) {
	e.abused(memoryBound, func() {
		c := e.dial(h2script.Options{})
		c.Frame(http2.FrameHeaders, 0, 1, h2script.Encode(h2script.Request("/conformance.Test/Endless")...))
		var piece []byte
		for len(piece) < 15<<10 {
			piece = append(piece, h2script.Encode(h2script.Field{Name: "k", Value: strings.Repeat("v", 100)})...)
		}
		c.Flood(h2script.FrameBytes(http2.FrameContinuation, 0, 1, piece), 32<<20/len(piece), stallTime)
		e.ends(c)
	})
}

func hpackBomb(e *env) {
	e.abused(memoryBound, func() {
		c := e.dial(h2script.Options{})
		fields := append(h2script.Request("/conformance.Test/Bomb"),
			h2script.Field{Name: "k", Value: strings.Repeat("v", 4000), Form: h2script.Indexed})
		s := c.NewStream()
		s.SendHeaders(true, append(fields, slices.Repeat([]h2script.Field{{Ref: 62}}, 15000)...)...)
		e.resets(s)
	})
}

// flood sends a million of a frame: tens of MiB if each answer were queued.
func (e *env) flood(frame []byte) {
	e.abused(memoryBound, func() {
		e.dial(h2script.Options{NoRead: true}).Flood(frame, 1_000_000, stallTime)
	})
}

func emptyDataFlood(e *env) {
	e.abused(memoryBound, func() {
		c, _ := e.callOn(e.dial(h2script.Options{}))
		c.Conn.Flood(h2script.FrameBytes(http2.FrameData, 0, c.ID, nil), 1_000_000, stallTime)
	})
}

func unreadResponses(e *env) {
	e.peer(h2script.Options{})
	e.abused(memoryBound/2, func() {
		c := e.dial(h2script.Options{NoRead: true})
		// Windows as large as they can be: only the socket holds the proxy back.
		c.SendSettings(initialWindow(1<<31 - 1))
		c.Credit(0, 1<<31-1-65535)
		data := messages(64, 16<<10)
		for range 40 {
			path := e.path()
			s := c.Open(h2script.Request(path))
			p := e.arrival(s, path)
			p.SendHeaders(false, h2script.Response()...)
			p.Upload(data, false, stallTime/2)
		}
	})
}

func idleStreams(e *env) {
	const streams, conns = 2000, 4
	e.abused(streams*64<<10, func() {
		for range conns {
			c := e.dial(h2script.Options{})
			for range streams / conns {
				c.Open(h2script.Request("/conformance.Test/Idle"))
			}
		}
		e.eventually(func() bool { return e.requests.Count() == streams }, "some do not reach the peer")
	})
}
