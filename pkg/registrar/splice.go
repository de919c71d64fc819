package registrar

import (
	"context"
	"io"
	"net"
	"sync/atomic"
)

// spliceStep is how many bytes move before they are counted.
const spliceStep = 256 << 10

// pair is two connections whose bytes go from one to the other, unchanged, both ways. An end of one side (FIN) goes on to the other
// side, which may still send; a reset goes on as a reset.
type pair struct {
	peer, app      *net.TCPConn
	toApp, fromApp *atomic.Uint64
}

// run returns when both directions have ended, and tells whether they ended by themselves. The end of ctx cuts both connections.
func (p *pair) run(ctx context.Context) bool {
	stop := context.AfterFunc(ctx, p.reset)
	back := make(chan struct{})
	go p.answer(back)
	p.move(p.app, p.peer, p.toApp)
	<-back
	whole := stop()
	p.peer.Close()
	p.app.Close()
	return whole
}

func (p *pair) answer(done chan<- struct{}) {
	defer close(done)
	p.move(p.peer, p.app, p.fromApp)
}

// move copies until src ends. TCPConn.ReadFrom uses splice(2) on Linux, also from a LimitedReader, so the bytes stay in the kernel.
func (p *pair) move(dst, src *net.TCPConn, count *atomic.Uint64) {
	for {
		limited := io.LimitedReader{R: src, N: spliceStep}
		n, err := dst.ReadFrom(&limited)
		count.Add(uint64(n))
		if err != nil {
			p.reset()
			return
		}
		if limited.N > 0 { // src has ended
			dst.CloseWrite() // fails only if dst is gone, which the other direction will find
			return
		}
	}
}

func (p *pair) reset() {
	reset(p.peer)
	reset(p.app)
}

// reset closes c with RST instead of FIN.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}
