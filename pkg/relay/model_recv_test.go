package relay_test

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// What comes from the engine. The run's mu is held in all of this.

func (e *modelEnd) checkFrame(f http2.Frame) {
	e.came(f)
	h := f.Header()
	if !e.theirs.greeted && h.Type != http2.FrameSettings {
		e.run.breaks("%s: the engine's first frame is %v", e.name, h.Type)
	}
	if h.Length > e.ours.maxFrame {
		e.run.breaks("%s: a frame of %d octets came, %d are allowed", e.name, h.Length, e.ours.maxFrame)
	}
}

func (e *modelEnd) take(f http2.Frame) {
	h := f.Header()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		e.settings(f)
	case *http2.DataFrame:
		e.data(f)
	case *http2.WindowUpdateFrame:
		e.windowUpdate(h.StreamID, int64(f.Increment))
	case *http2.RSTStreamFrame:
		e.reset(h.StreamID, f.ErrCode)
	case *http2.PingFrame:
		e.ping(f)
	case *http2.GoAwayFrame:
		if !e.run.closing {
			e.run.breaks("%s: the engine says GOAWAY %v: %s", e.name, f.ErrCode, f.DebugData())
		}
	case *http2.PushPromiseFrame:
		e.run.breaks("%s: PUSH_PROMISE came", e.name)
	}
}

func (e *modelEnd) settings(f *http2.SettingsFrame) {
	if f.IsAck() {
		if len(e.pending) == 0 {
			e.run.breaks("%s: an ACK of SETTINGS came that were not sent", e.name)
			return
		}
		for _, s := range e.pending[0] {
			e.acknowledged(s)
		}
		e.pending = e.pending[1:]
		if e.run.ending {
			e.openWindows() // they may have shrunk
		}
		return
	}
	e.theirs.greeted = true
	_ = f.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, l := range e.legs {
				l.sendWindow += int64(s.Val) - e.theirs.initial
			}
			e.theirs.initial = int64(s.Val)
		case http2.SettingMaxFrameSize:
			e.theirs.maxFrame = s.Val
		case http2.SettingHeaderTableSize:
			e.enc.SetMaxDynamicTableSizeLimit(s.Val)
		}
		return nil
	})
	_ = e.framer.WriteSettingsAck()
}

// acknowledged puts a setting of ours in force: from its ACK on, the engine must keep to it, and until then to what was before.
func (e *modelEnd) acknowledged(s http2.Setting) {
	switch s.ID {
	case http2.SettingInitialWindowSize:
		for _, l := range e.legs {
			l.recvWindow += int64(s.Val) - e.ours.initial
		}
		e.ours.initial = int64(s.Val)
	case http2.SettingMaxFrameSize:
		e.ours.maxFrame = s.Val
	case http2.SettingMaxConcurrentStreams:
		e.ours.maxStreams = s.Val
	case http2.SettingHeaderTableSize:
		e.dec.SetAllowedMaxDynamicTableSize(s.Val)
		if s.Val < 4096 {
			// The encoder must have shrunk its table, and says so in its next block. Entries that it may no longer use are gone.
			e.dec.SetMaxDynamicTableSize(s.Val)
		}
	}
}

func (e *modelEnd) data(f *http2.DataFrame) {
	l := e.legs[f.StreamID]
	if l == nil {
		e.run.breaks("%s: DATA came on stream %d, which is idle", e.name, f.StreamID)
		return
	}
	n := int64(f.Length)
	e.ours.window -= n
	l.recvWindow -= n
	switch {
	case e.ours.window < 0:
		e.run.breaks("%s: %d octets of DATA came on %s, %d over the connection's window", e.name, n, l.call.path, -e.ours.window)
	case n > 0 && l.recvWindow < 0:
		e.run.breaks("%s: %d octets of DATA came on %s, %d over the stream's window", e.name, n, l.call.path, -l.recvWindow)
	case l.gotEnd, l.gotReset != nil:
		e.run.breaks("%s: DATA came on %s after its end", e.name, l.call.path)
	case l.sentReset == nil && !l.ignored:
		l.call.data(l, f.Data(), f.StreamEnded())
	}
	if e.run.ending {
		e.openWindow(l)
	}
}

func (e *modelEnd) headers(h http2.FrameHeader, fragments []byte) {
	fields, err := e.dec.DecodeFull(fragments)
	if err != nil {
		e.run.breaks("%s: a header block does not decode: %v", e.name, err)
		return
	}
	b := modelBlock{fields: fields, end: h.Flags.Has(http2.FlagHeadersEndStream)}
	l := e.legs[h.StreamID]
	if l == nil && !e.client {
		l = e.accept(h.StreamID, b)
	}
	switch {
	case l == nil:
		e.run.breaks("%s: HEADERS came on stream %d, which is idle", e.name, h.StreamID)
	case l.gotEnd, l.gotReset != nil:
		e.run.breaks("%s: HEADERS came on %s after its end", e.name, l.call.path)
	case l.sentReset == nil && !l.ignored:
		l.call.block(l, b)
	}
}

// accept takes a new stream at a peer.
func (e *modelEnd) accept(id uint32, b modelBlock) *modelLeg {
	if id%2 == 0 || id <= e.lastID {
		e.run.breaks("%s: stream %d is opened after %d", e.name, id, e.lastID)
	}
	e.lastID = id
	open := uint32(0)
	for _, l := range e.legs {
		if !l.closed() {
			open++
		}
	}
	ignored := e.leaving && id > e.lastOK
	if open >= e.ours.maxStreams && !ignored {
		e.run.breaks("%s: stream %d is opened, %d are open and %d allowed", e.name, id, open, e.ours.maxStreams)
	}
	path := ""
	for _, f := range b.fields {
		if f.Name == ":path" {
			path = f.Value
		}
	}
	c := e.run.byPath[path]
	if c == nil {
		e.run.breaks("%s: a call of %q came, which nobody made", e.name, path)
		return nil
	}
	l := e.leg(c, id)
	l.ignored = ignored
	c.arrived(l)
	if e.run.ending {
		e.openWindow(l)
	}
	return l
}

func (e *modelEnd) windowUpdate(id uint32, n int64) {
	if n == 0 {
		e.run.breaks("%s: WINDOW_UPDATE of 0 came on stream %d", e.name, id)
	}
	if id == 0 {
		e.theirs.window += n
		e.theirs.most = max(e.theirs.most, e.theirs.window)
		if e.theirs.window > 1<<31-1 {
			e.run.breaks("%s: the connection's window has grown to %d", e.name, e.theirs.window)
		}
		return
	}
	l := e.legs[id]
	if l == nil {
		e.run.breaks("%s: WINDOW_UPDATE came on stream %d, which is idle", e.name, id)
		return
	}
	if l.gotReset != nil {
		e.run.breaks("%s: WINDOW_UPDATE came on %s after RST_STREAM", e.name, l.call.path)
	}
	if l.sendWindow += n; l.sendWindow > 1<<31-1 {
		e.run.breaks("%s: the window of %s has grown to %d", e.name, l.call.path, l.sendWindow)
	}
}

func (e *modelEnd) reset(id uint32, code http2.ErrCode) {
	l := e.legs[id]
	switch {
	case l == nil:
		e.run.breaks("%s: RST_STREAM came on stream %d, which is idle", e.name, id)
	case l.gotReset != nil:
		e.run.breaks("%s: RST_STREAM came twice on %s", e.name, l.call.path)
	default:
		l.gotReset = &code
		l.queue = nil
		if l.sentReset == nil && !l.ignored {
			l.call.reset(l, code)
		}
	}
}

func (e *modelEnd) ping(f *http2.PingFrame) {
	if !f.IsAck() {
		_ = e.framer.WritePing(true, f.Data)
		return
	}
	if len(e.pings) == 0 || e.pings[0] != f.Data {
		e.run.breaks("%s: the ACK of PING %d came, %d are open", e.name, binary.BigEndian.Uint64(f.Data[:]), len(e.pings))
		return
	}
	e.pings = e.pings[1:]
}
