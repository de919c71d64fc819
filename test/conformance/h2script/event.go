package h2script

import (
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Event is a frame as it was received. HEADERS come with their CONTINUATION frames, as one.
type Event struct {
	Type   http2.FrameType
	Flags  http2.Flags
	Stream uint32
	// Fields are a header block's, or nil.
	Fields []hpack.HeaderField
	// Data are the bytes of DATA without padding, or a PING's.
	Data []byte
	// Code is that of RST_STREAM or GOAWAY.
	Code http2.ErrCode
	// Number is a WINDOW_UPDATE's increment or a GOAWAY's last stream id.
	Number   uint32
	Settings []http2.Setting

	// Closed marks the last event: nothing can be read any more. Err is why; nil when the other side closed the connection or we did.
	Closed bool
	Err    error
}

// End tells whether the frame ends its stream's half.
func (e *Event) End() bool {
	return (e.Type == http2.FrameHeaders || e.Type == http2.FrameData) && e.Flags.Has(http2.FlagDataEndStream)
}

// Ack tells whether the frame is a SETTINGS or PING acknowledgement.
func (e *Event) Ack() bool {
	return (e.Type == http2.FrameSettings || e.Type == http2.FramePing) && e.Flags.Has(http2.FlagSettingsAck)
}

// String names the event in a few words that are the same in every run.
func (e *Event) String() string {
	switch {
	case e.Closed && e.Err != nil:
		return "a broken connection: " + e.Err.Error()
	case e.Closed:
		return "the end of the connection"
	case e.Type == http2.FrameRSTStream, e.Type == http2.FrameGoAway:
		return fmt.Sprintf("%v(%v)", e.Type, e.Code)
	case e.Type == http2.FrameHeaders:
		if s := Values(e.Fields, "grpc-status"); len(s) > 0 {
			return "status " + s[0]
		}
	}
	return e.Type.String()
}
