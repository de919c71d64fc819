package supervise

import (
	"context"
	"os"
	"syscall"
	"time"
)

func stops(s os.Signal) bool { return s == syscall.SIGTERM || s == syscall.SIGINT }

// Of two signals that close together somebody meant one: `timeout` and terminals send to a process and to its group.
const sameWish = time.Second

// afterKill is how long what was killed is waited for.
const afterKill = 2 * time.Second

// groupPoll is the pace at which the rest of the app's group is looked for. Nothing tells when a group is empty.
const groupPoll = 10 * time.Millisecond

// stopping is an app that is being stopped: its first process, and what is left of its group when that one has ended. It belongs to
// one goroutine.
type stopping struct {
	s      *Supervisor
	p      *Process
	sig    os.Signal
	wished time.Time // when somebody asked for it; zero as long as it is only that the first process has ended by itself

	deadline *time.Timer // runs from when the app is told
	told     time.Time   // when the first process got the signal, or would have
	ended    bool        // the first process has
	group    *time.Timer // until the rest of the group gets the signal; nil while the first process runs
	killed   bool
}

// stop withdraws the app, tells it to end, and kills it if it does not. It returns when the app and the rest of its group have ended,
// and tells whether somebody asked for it. Without a signal it is for what is left of an app that has ended by itself: a SIGTERM or
// SIGINT that comes meanwhile is the first one then.
func (s *Supervisor) stop(ctx context.Context, p *Process, sig os.Signal, signals <-chan os.Signal) (asked bool) {
	t := &stopping{s: s, p: p, sig: sig, deadline: time.NewTimer(s.cfg.StopTimeout)}
	t.deadline.Stop() // until the app has its signal
	defer t.deadline.Stop()
	over := ctx.Done()
	if sig == nil {
		t.sig = syscall.SIGTERM
		s.log.Warn("the app's first process has ended and others of its group have not: it is withdrawn, and they are stopped")
	} else {
		t.wished = time.Now()
		over = nil
		s.log.Info("stopping the app: it is withdrawn first, then gets the signal", "signal", sig.String(), "timeout", s.cfg.StopTimeout)
	}
	w := s.withdraw()
	defer w.end()
	withdrawn, ended := w.done, p.Done()
	poll := time.NewTicker(groupPoll)
	defer poll.Stop()
	for {
		if t.ended && !p.GroupAlive() {
			return !t.wished.IsZero()
		}
		select {
		case <-ended:
			ended = nil
			t.endedFirst()
		case <-withdrawn:
			withdrawn = nil
			t.tell()
		case <-t.rest():
			t.tellRest()
		case <-t.deadline.C:
			if t.killed {
				return !t.wished.IsZero() // there may be some that nobody has waited for, and whose parent is not ours
			}
			s.log.Error("the app did not end in the time after its signal and is killed: have it end on that signal, or lengthen "+
				"run.stop_timeout, and the platform's own limit with it (kill_timeout)", "signal", t.sig.String(), "timeout", s.cfg.StopTimeout)
			t.kill()
		case again := <-signals:
			t.signal(again)
		case <-over:
			over = nil
			t.wished = time.Now()
		case <-poll.C:
		}
	}
}

// tell gives the first process its signal.
func (t *stopping) tell() {
	t.told = time.Now()
	t.p.Signal(t.sig)
	t.deadline.Reset(t.s.cfg.StopTimeout)
	if t.ended {
		t.awaitRest()
	}
}

func (t *stopping) endedFirst() {
	t.ended = true
	if !t.told.IsZero() {
		t.awaitRest()
	}
}

// awaitRest decides when the rest of the group gets the signal. A shell that the signal has ended has passed nothing on; one that
// ended otherwise may have, and a second signal would have some programs cut their calls: so the rest has half of the time first.
func (t *stopping) awaitRest() {
	wait := time.Duration(0)
	if e := t.p.Exit(); e.Signal != t.sig && !t.wished.IsZero() {
		wait = (t.s.cfg.StopTimeout - time.Since(t.told)) / 2
	}
	t.group = time.NewTimer(max(wait, 0))
}

func (t *stopping) rest() <-chan time.Time {
	if t.group == nil {
		return nil
	}
	return t.group.C
}

func (t *stopping) tellRest() {
	if t.killed || !t.p.GroupAlive() {
		return
	}
	t.s.log.Warn("the app's first process has ended and others of its group have not: they get the signal. A shell, or npm, may not pass "+
		"signals on; sh -c 'exec …' takes its place", "signal", t.sig.String())
	t.p.SignalGroup(t.sig)
}

func (t *stopping) kill() {
	if t.killed {
		return
	}
	t.killed = true
	t.p.SignalGroup(syscall.SIGKILL)
	t.deadline.Reset(afterKill)
}

// signal takes one that comes meanwhile.
func (t *stopping) signal(s os.Signal) {
	switch {
	case !stops(s):
		t.p.Signal(s)
	case t.wished.IsZero():
		t.wished = time.Now()
	case time.Since(t.wished) >= sameWish && !t.killed:
		t.s.log.Warn("a second signal: the app is killed at once", "signal", s.String())
		t.kill()
	}
}
