package main

import (
	"context"
	"log/slog"
	"runtime"
	"syscall"
	"time"
)

// procs keeps the number of threads that run Go code at once (GOMAXPROCS) no larger than the work needs. A sidecar is idle most of
// the time, and shares its cores with the app: with one such thread, whoever is woken does the work; with several, each wakes the
// next to look for more, and two readers wait for each other's connections. That costs CPU where many calls are under way, and
// brings none of them sooner. A single call at a time costs the same either way.
//
// The number begins at 1. It grows by one when the process has used most of what it may, and shrinks again after a quiet time. A
// GOMAXPROCS in the environment is the user's own word, and is left alone.
type procs struct {
	most   int
	now    int
	quiet  int // how many looks in a row fewer would have done
	set    func(int)
	log    *slog.Logger
	cpu    func() time.Duration // what the process has used so far
	before time.Duration
}

const (
	// procsEvery is how often the number is looked at.
	procsEvery = 250 * time.Millisecond
	// growAt and shrinkAt are shares of what the process may use now, and could use with one less. quietLooks is how many looks in
	// a row must be below shrinkAt.
	growAt, shrinkAt = 0.75, 0.5
	quietLooks       = 20
)

// adaptProcs looks after the number until stop is called. It does nothing where there is nothing to decide: one core, or a
// GOMAXPROCS in the environment.
func adaptProcs(sys system, log *slog.Logger) (stop func()) {
	most := runtime.GOMAXPROCS(0)
	if told, _ := sys.variable("GOMAXPROCS"); told != "" || most == 1 {
		return func() {}
	}
	p := &procs{most: most, now: most, set: func(n int) { runtime.GOMAXPROCS(n) }, log: log, cpu: processCPU}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go p.run(ctx, done)
	return func() { cancel(); <-done }
}

// run gives back what was there before when ctx ends.
func (p *procs) run(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	p.change(1)
	defer p.change(p.most)
	p.before = p.cpu()
	t := time.NewTicker(procsEvery)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			now := time.Now()
			p.look(now.Sub(last))
			last = now
		}
	}
}

// look decides, from what was used since the last look.
func (p *procs) look(elapsed time.Duration) {
	used := p.cpu()
	cores := (used - p.before).Seconds() / max(elapsed, time.Millisecond).Seconds()
	p.before = used
	switch {
	case cores > growAt*float64(p.now) && p.now < p.most:
		p.quiet = 0
		p.change(p.now + 1)
	case p.now > 1 && cores < shrinkAt*float64(p.now-1):
		if p.quiet++; p.quiet >= quietLooks {
			p.quiet = 0
			p.change(p.now - 1)
		}
	default:
		p.quiet = 0
	}
}

func (p *procs) change(n int) {
	if n == p.now {
		return
	}
	p.log.Debug("GOMAXPROCS changes with the load", "from", p.now, "to", n)
	p.now = n
	p.set(n)
}

// processCPU is the CPU time that this process has used.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
