package relay_test

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// modelPeer accepts the engine's connections; each is an end of its own.
type modelPeer struct {
	run    *modelRun
	name   string
	manner modelManner
	lis    net.Listener
	ends   []*modelEnd
}

func (p *modelPeer) accept() {
	for n := 0; ; n++ {
		nc, err := p.lis.Accept()
		if err != nil {
			return
		}
		p.run.mu.Lock()
		e := newModelEnd(p.run, fmt.Sprintf("%s/%d", p.name, n), nc, p.manner, false)
		p.ends = append(p.ends, e)
		e.start()
		p.run.changed.Broadcast()
		p.run.mu.Unlock()
	}
}

// modelListener gives the engine clients' connections with small send buffers.
type modelListener struct {
	net.Listener
	buffer int
}

func (l *modelListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil && l.buffer > 0 {
		err = nc.(*net.TCPConn).SetWriteBuffer(l.buffer)
	}
	return nc, err
}

func (r *modelRun) run() {
	defer r.close()
	r.begin()
	for _, s := range r.schedule.Steps {
		r.mu.Lock()
		r.step(s)
		fault := r.fault
		r.mu.Unlock()
		if fault != "" {
			break
		}
		switch s.Kind {
		case awaitsPings:
			r.awaitPings()
		case awaitsArrival:
			r.awaitArrival(s)
		}
	}
	r.end()
}

// begin starts the engine, the peers and the clients.
func (r *modelRun) begin() {
	for i, m := range r.schedule.Peers {
		lc := net.ListenConfig{Control: receiveBuffer(m.Buffer)}
		lis, err := lc.Listen(r.t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			r.t.Fatal(err)
		}
		p := &modelPeer{run: r, name: fmt.Sprintf("peer%d", i), manner: m, lis: lis}
		r.peers = append(r.peers, p)
		r.tasks.Go(p.accept)
	}
	r.join()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	go r.serve(&modelListener{lis, r.schedule.Clients[0].Buffer})
	for i, m := range r.schedule.Clients {
		nc, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			r.t.Fatal(err)
		}
		r.mu.Lock()
		e := newModelEnd(r, fmt.Sprintf("client%d", i), nc, m, true)
		r.clients = append(r.clients, e)
		e.start()
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, plan := range r.schedule.Calls {
		c := &modelCall{run: r, number: i, path: fmt.Sprintf("/model.Service/Call%d", i), plan: plan, left: make(map[*modelEnd]bool)}
		r.calls = append(r.calls, c)
		r.byPath[c.path] = c
		if !plan.Late {
			c.open(modelStep{})
		}
	}
}

func (r *modelRun) serve(lis net.Listener) { r.served <- r.engine.Serve(lis) }

// receiveBuffer makes a listener whose connections have receive buffers of that size.
func receiveBuffer(size int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		if size == 0 {
			return nil
		}
		var err error
		set := func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size) }
		controlErr := c.Control(set)
		return errors.Join(controlErr, err)
	}
}

// wait waits until ok, which is called with mu held, or a rule is broken. It is false when that takes longer than modelPatience.
func (r *modelRun) wait(ok func() bool) bool { return r.waitFor(modelPatience, ok) }

func (r *modelRun) waitFor(d time.Duration, ok func() bool) bool {
	late := false
	timer := time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		r.changed.Broadcast()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.fault == "" && !ok() && !late {
		r.changed.Wait()
	}
	return r.fault == "" && !late
}
