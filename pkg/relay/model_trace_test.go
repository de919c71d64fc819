package relay_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2"
)

// modelEvent is a frame that was sent to the engine or came from it, as a failure shows it.
type modelEvent struct {
	end    *modelEnd
	sent   bool
	header http2.FrameHeader
	number uint32 // of WINDOW_UPDATE, RST_STREAM and GOAWAY
	text   string // of SETTINGS
}

func (v modelEvent) String() string {
	to := "<-"
	if v.sent {
		to = "->"
	}
	h := v.header
	s := fmt.Sprintf("%s %s %v stream %d, %d octets, flags %x", v.end.name, to, h.Type, h.StreamID, h.Length, h.Flags)
	switch h.Type {
	case http2.FrameWindowUpdate, http2.FrameRSTStream, http2.FrameGoAway:
		s += fmt.Sprintf(": %d", v.number)
	}
	return s + v.text
}

// trace is the last frames before the first fault, with runs of like ones drawn together. The caller holds mu.
func (r *modelRun) trace() string {
	const most = 80
	var lines []string
	for i, n := len(r.events)-1, 0; i >= 0 && len(lines) < most; i-- {
		if n++; i > 0 && r.events[i-1].String() == r.events[i].String() {
			continue
		}
		lines = append(lines, fmt.Sprintf("\n  %v (%d times)", r.events[i], n))
		n = 0
	}
	slices.Reverse(lines)
	return strings.ReplaceAll(strings.Join(lines, ""), " (1 times)", "")
}

// note records an event until something breaks.
func (r *modelRun) note(v modelEvent) {
	if r.fault == "" {
		r.events = append(r.events, v)
	}
}

func (e *modelEnd) came(f http2.Frame) {
	v := modelEvent{end: e, header: f.Header()}
	switch f := f.(type) {
	case *http2.WindowUpdateFrame:
		v.number = f.Increment
	case *http2.RSTStreamFrame:
		v.number = uint32(f.ErrCode)
	case *http2.GoAwayFrame:
		v.number = f.LastStreamID
	case *http2.SettingsFrame:
		_ = f.ForeachSetting(func(s http2.Setting) error { v.text += " " + s.String(); return nil })
	}
	e.run.note(v)
}

// modelTap is where an end's framer writes to: it writes each frame at once, so what is written is a frame.
type modelTap struct{ end *modelEnd }

func (t *modelTap) Write(p []byte) (int, error) {
	h := http2.FrameHeader{
		Length: uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]), Type: http2.FrameType(p[3]), Flags: http2.Flags(p[4]),
		StreamID: binary.BigEndian.Uint32(p[5:]),
	}
	v := modelEvent{end: t.end, sent: true, header: h}
	if h.Length >= 4 {
		v.number = binary.BigEndian.Uint32(p[9:])
	}
	if h.Type == http2.FrameSettings {
		for q := p[9:]; len(q) >= 6; q = q[6:] {
			v.text += " " + http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(q)), Val: binary.BigEndian.Uint32(q[2:])}.String()
		}
	}
	t.end.run.note(v)
	return t.end.out.Write(p)
}

// state describes a call for a failure.
func (c *modelCall) state() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", c.path)
	for _, l := range []*modelLeg{c.client, c.peer} {
		if l == nil {
			b.WriteString(" no leg;")
			continue
		}
		fmt.Fprintf(&b, " %s stream %d: sent %d octets, %d blocks, end %v, reset %v; ", l.end.name, l.id, l.sent, len(l.sentBlocks), l.sentEnd,
			code(l.sentReset))
		fmt.Fprintf(&b, "got %d octets, %d blocks, end %v, reset %v; ", l.got, l.gotBlocks, l.gotEnd, code(l.gotReset))
		fmt.Fprintf(&b, "may send %d (connection %d) and get %d (connection %d), %d items wait;", l.sendWindow, l.end.theirs.window,
			l.recvWindow, l.end.ours.window, len(l.queue))
	}
	fmt.Fprintf(&b, " refused %d, left behind %d times, lossy %v, answered by the engine %v", c.refused, len(c.left), c.lossy, c.own)
	return b.String()
}

func code(c *http2.ErrCode) string {
	if c == nil {
		return "no"
	}
	return c.String()
}
