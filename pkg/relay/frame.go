package relay

import "encoding/binary"

// The frames of RFC 9113 §6.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameRSTStream    = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// errCode is an error code of RFC 9113 §7.
type errCode uint32

const (
	codeNo                 errCode = 0x0
	codeProtocol           errCode = 0x1
	codeFlowControl        errCode = 0x3
	codeSettingsTimeout    errCode = 0x4
	codeStreamClosed       errCode = 0x5
	codeFrameSize          errCode = 0x6
	codeRefusedStream      errCode = 0x7
	codeCancel             errCode = 0x8
	codeCompression        errCode = 0x9
	codeEnhanceYourCalm    errCode = 0xb
	codeInadequateSecurity errCode = 0xc
)

// The settings of RFC 9113 §6.5.2 that are used here.
const (
	settingHeaderTableSize      = 0x1
	settingEnablePush           = 0x2
	settingMaxConcurrentStreams = 0x3
	settingInitialWindowSize    = 0x4
	settingMaxFrameSize         = 0x5
	settingMaxHeaderListSize    = 0x6
)

const (
	frameHeaderLen  = 9
	minMaxFrameSize = 1 << 14
	maxMaxFrameSize = 1<<24 - 1
	defaultWindow   = 1<<16 - 1
	maxWindow       = 1<<31 - 1
	preface         = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// frame is a frame as it was read; its payload is valid until the next read.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// parseFrame takes the first frame off b. It gives ok false when b does not hold all of it, and how long it is in all.
func parseFrame(b []byte) (f frame, size int, ok bool) {
	if len(b) < frameHeaderLen {
		return f, frameHeaderLen, false
	}
	size = frameHeaderLen + int(b[0])<<16 + int(b[1])<<8 + int(b[2])
	f.kind, f.flags = b[3], b[4]
	f.stream = binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1)
	if len(b) < size {
		return f, size, false
	}
	f.payload = b[frameHeaderLen:size:size]
	return f, size, true
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// unpad takes the padding off a DATA or HEADERS payload (RFC 9113 §6.1).
func (f *frame) unpad() ([]byte, bool) {
	if !f.has(flagPadded) {
		return f.payload, true
	}
	if len(f.payload) == 0 || int(f.payload[0]) >= len(f.payload) {
		return nil, false
	}
	return f.payload[1 : len(f.payload)-int(f.payload[0])], true
}

func appendFrameHeader(dst []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendUint32(dst []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(dst, n) }

type setting struct {
	id    uint16
	value uint32
}

func appendSettings(dst []byte, all ...setting) []byte {
	dst = appendFrameHeader(dst, 6*len(all), frameSettings, 0, 0)
	for _, s := range all {
		dst = appendUint32(binary.BigEndian.AppendUint16(dst, s.id), s.value)
	}
	return dst
}
