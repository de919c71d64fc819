package relay

// The frames of our own are put into out by what follows; its caller holds mu. Those that the other side can make us send without end
// count as control frames, which are bounded: see flooded. An RST_STREAM counts where it is the other side's fault; those that end calls
// are no more than calls.

// room sees to it that there is a buffer for n octets more. Beyond the size of the shared ones, append does.
func (c *conn) room(n int) {
	if c.out == nil && n <= outSize {
		c.out = outBuffers.Get().(*[outSize]byte)[:0]
	}
}

func (c *conn) putRST(stream uint32, code errCode) {
	c.room(frameHeaderLen + 4)
	c.out = appendUint32(appendFrameHeader(c.out, 4, frameRSTStream, 0, stream), uint32(code))
}

func (c *conn) putWindowUpdate(stream, n uint32) {
	c.room(frameHeaderLen + 4)
	c.out = appendUint32(appendFrameHeader(c.out, 4, frameWindowUpdate, 0, stream), n)
	c.control++
}

func (c *conn) putPing(flags byte, data [8]byte) {
	c.room(frameHeaderLen + 8)
	c.out = append(appendFrameHeader(c.out, 8, framePing, flags, 0), data[:]...)
	c.control++
}

func (c *conn) putSettings(all ...setting) {
	c.room(frameHeaderLen + 6*len(all))
	c.out = appendSettings(c.out, all...)
	c.control++
}

func (c *conn) putSettingsAck() {
	c.room(frameHeaderLen)
	c.out = appendFrameHeader(c.out, 0, frameSettings, flagAck, 0)
	c.control++
}

func (c *conn) putGoAway(last uint32, code errCode, why string) {
	c.room(frameHeaderLen + 8 + len(why))
	c.out = appendFrameHeader(c.out, 8+len(why), frameGoAway, 0, 0)
	c.out = append(appendUint32(appendUint32(c.out, last), uint32(code)), why...)
	c.control++
}
