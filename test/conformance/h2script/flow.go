package h2script

import (
	"errors"

	"golang.org/x/net/http2"
)

// flow is the account of both directions' windows (RFC 9113 §6.9). It is guarded by the connection's mu.
type flow struct {
	send, recv     int64 // of the connection
	streams        map[uint32]*window
	initialSend    int64
	initialRecv    int64
	maxFrame       int
	pending        [][]http2.Setting // our SETTINGS that are not acknowledged
	tableSize      uint32            // what we have announced, once acknowledged
	tableSizeNewer bool              // the reader has not taken tableSize over
}

type window struct{ send, recv int64 }

const defaultWindow = 65535

func newFlow() flow {
	return flow{
		send: defaultWindow, recv: defaultWindow, initialSend: defaultWindow, initialRecv: defaultWindow,
		streams: make(map[uint32]*window), maxFrame: 16384,
	}
}

func (f *flow) open(id uint32) {
	if f.streams[id] == nil {
		f.streams[id] = &window{send: f.initialSend, recv: f.initialRecv}
	}
}

// theirs applies SETTINGS of the other side.
func (f *flow) theirs(settings []http2.Setting) {
	for _, s := range settings {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, w := range f.streams {
				w.send += int64(s.Val) - f.initialSend
			}
			f.initialSend = int64(s.Val)
		case http2.SettingMaxFrameSize:
			f.maxFrame = int(s.Val)
		}
	}
}

// acked applies our oldest SETTINGS that were not acknowledged: from now on the other side keeps to them.
func (f *flow) acked() {
	if len(f.pending) == 0 {
		return
	}
	for _, s := range f.pending[0] {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, w := range f.streams {
				w.recv += int64(s.Val) - f.initialRecv
			}
			f.initialRecv = int64(s.Val)
		case http2.SettingHeaderTableSize:
			f.tableSize, f.tableSizeNewer = s.Val, true
		}
	}
	f.pending = f.pending[1:]
}

var errOverrun = errors.New("DATA beyond our window")

// received takes n bytes of DATA, padding included, out of our windows.
func (f *flow) received(id uint32, n int64) error {
	f.recv -= n
	w := f.streams[id]
	if w != nil {
		w.recv -= n
	}
	if f.recv < 0 || n > 0 && w != nil && w.recv < 0 {
		return errOverrun
	}
	return nil
}

// credit adds to our own windows; stream 0 is the connection.
func (f *flow) credit(id uint32, n int64) {
	if id == 0 {
		f.recv += n
	} else if w := f.streams[id]; w != nil {
		w.recv += n
	}
}

// credited adds to the other side's.
func (f *flow) credited(id uint32, n int64) {
	if id == 0 {
		f.send += n
	} else if w := f.streams[id]; w != nil {
		w.send += n
	}
}

// take gives how much of n may be sent on a stream now, and counts it as sent.
func (f *flow) take(id uint32, n int) int {
	w := f.streams[id]
	if w == nil {
		return 0
	}
	n = int(max(0, min(int64(n), int64(f.maxFrame), f.send, w.send)))
	f.send -= int64(n)
	w.send -= int64(n)
	return n
}
