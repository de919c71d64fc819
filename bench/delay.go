package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// delayer forwards TCP connections to a target and holds every byte back for a time, in both directions: a long path without loss
// and without a limit of its bandwidth. It stands between proxy and peer.
type delayer struct {
	lis    net.Listener
	target string
	hold   time.Duration
	done   chan struct{}
	// active are the goroutines of connections.
	active sync.WaitGroup

	// mu guards conns, which Close closes; nil once it has.
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// piece is what one read brought, and when it may go on. An end without data is the end of that direction.
type piece struct {
	due  time.Time
	data []byte
}

const (
	// pieceSize and maxPieces bound what is on its way in one direction to 64 MiB, four times the largest window of grpc-go.
	pieceSize = 64 << 10
	maxPieces = 1024
)

// newDelayer listens on a free port. roundTrip is what both directions add together.
func newDelayer(target string, roundTrip time.Duration) (*delayer, error) {
	lis, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, err
	}
	d := &delayer{lis: lis, target: target, hold: roundTrip / 2, done: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	go d.accept()
	return d, nil
}

func (d *delayer) address() string { return d.lis.Addr().String() }

// Close ends all connections and waits for their goroutines.
func (d *delayer) Close() error {
	err := d.lis.Close()
	<-d.done
	d.mu.Lock()
	for c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	d.active.Wait()
	return err
}

// own notes a connection; after Close it closes it instead and gives false.
func (d *delayer) own(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		_ = c.Close()
		return false
	}
	d.conns[c] = struct{}{}
	return true
}

func (d *delayer) drop(c net.Conn) {
	_ = c.Close()
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
}

func (d *delayer) accept() {
	defer close(d.done)
	for {
		near, err := d.lis.Accept()
		if err != nil {
			return // closed
		}
		d.active.Add(1)
		go d.serve(near)
	}
}

// serve forwards one connection until both directions have ended.
func (d *delayer) serve(near net.Conn) {
	defer d.active.Done()
	if !d.own(near) {
		return
	}
	defer d.drop(near)
	far, err := net.DialTimeout("tcp", d.target, 5*time.Second)
	if err != nil || !d.own(far) {
		return
	}
	defer d.drop(far)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		pieces := make(chan piece, maxPieces)
		both.Go(func() { d.read(way[0], pieces) })
		both.Go(func() { d.write(way[1], pieces) })
	}
	both.Wait()
}

func (d *delayer) read(from net.Conn, pieces chan<- piece) {
	defer close(pieces)
	buf := make([]byte, pieceSize)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			pieces <- piece{due: time.Now().Add(d.hold), data: append([]byte(nil), buf[:n]...)}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				pieces <- piece{due: time.Now().Add(d.hold)}
			}
			return
		}
	}
}

// write takes all pieces, so that read never hangs. When the direction ends otherwise than in an orderly way, it ends the
// connection, and with it the other direction.
func (d *delayer) write(to net.Conn, pieces <-chan piece) {
	orderly, broken := false, false
	for p := range pieces {
		if wait := time.Until(p.due); wait > 0 && !broken {
			time.Sleep(wait)
		}
		switch {
		case broken:
		case p.data == nil:
			orderly = true
			_ = to.(*net.TCPConn).CloseWrite()
		default:
			if _, err := to.Write(p.data); err != nil {
				broken = true
				_ = to.Close()
			}
		}
	}
	if !orderly {
		_ = to.Close()
	}
}
