package h2script

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Outcome is how a call ended, as its client saw it.
type Outcome struct {
	// Blocks are the header blocks: headers and trailers, or one alone.
	Blocks [][]hpack.HeaderField
	Body   []byte
	// Ended, Reset and Lost say how; none of them is set when the call was still open after the wait.
	Ended, Reset, Lost bool
	Code               http2.ErrCode
}

// Outcome awaits the end of the call.
func (s *Stream) Outcome() Outcome { return s.OutcomeWithin(Patience) }

// OutcomeWithin is [Stream.Outcome] with a bound of its own. The bound counts from the last frame of the call that came.
func (s *Stream) OutcomeWithin(d time.Duration) (o Outcome) {
	o.Body = s.data
	for o.Ended = s.ended; !o.Ended; {
		e, ok := s.event(d)
		switch {
		case !ok:
			return o
		case e.Closed:
			o.Lost = true
			return o
		case e.Type == http2.FrameRSTStream:
			o.Reset, o.Code = true, e.Code
			return o
		case e.Type == http2.FrameHeaders:
			o.Blocks = append(o.Blocks, e.Fields)
		case e.Type == http2.FrameData:
			o.Body = append(o.Body, e.Data...)
		}
		o.Ended = e.End()
	}
	return o
}

// Last gives the fields of the last header block: the trailers, once a call has ended.
func (o *Outcome) Last() []hpack.HeaderField {
	if len(o.Blocks) == 0 {
		return nil
	}
	return o.Blocks[len(o.Blocks)-1]
}

// Status is the gRPC status, or empty.
func (o *Outcome) Status() string {
	if v := Values(o.Last(), "grpc-status"); o.Ended && len(v) == 1 {
		return v[0]
	}
	return ""
}

// String names the outcome in a few words.
func (o *Outcome) String() string {
	switch {
	case o.Status() != "":
		return "status " + o.Status()
	case o.Reset:
		return fmt.Sprintf("RST_STREAM(%v)", o.Code)
	case o.Lost:
		return "the loss of its connection"
	case o.Ended && len(Values(o.Last(), ":status")) > 0 && len(o.Blocks) == 1:
		return "HTTP status " + Values(o.Last(), ":status")[0]
	case o.Ended:
		return "an end without a status"
	}
	return "no answer"
}
