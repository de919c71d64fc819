package relay

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// reason says why a call was sent once more.
type reason uint8

const (
	reasonNotSent     reason = iota // no connection could be had, or nothing of the call was written to it
	reasonUnprocessed               // above the last stream id of a GOAWAY
	reasonRefused                   // REFUSED_STREAM
	reasonPolicy                    // the configuration names the method as safe
	reasons
)

var reasonNames = [reasons]string{"not_sent", "unprocessed", "refused", "policy"}

// retryPolicy is what Retry says, ready for use.
type retryPolicy struct {
	methods, services map[string]struct{}
	attempts          int
	budget            budget
}

func newRetryPolicy(cfg Retry) *retryPolicy {
	p := &retryPolicy{attempts: cfg.Attempts, methods: make(map[string]struct{}), services: make(map[string]struct{})}
	p.budget.ratio = cfg.Budget
	for _, m := range cfg.Methods {
		if service, all := strings.CutSuffix(m, "/*"); all {
			p.services[service] = struct{}{}
		} else {
			p.methods[m] = struct{}{}
		}
	}
	return p
}

// covers tells whether a method is named as safe.
func (p *retryPolicy) covers(method string) bool {
	if len(p.methods)+len(p.services) == 0 {
		return false
	}
	if _, ok := p.methods[method]; ok {
		return true
	}
	_, ok := p.services[method[:max(strings.LastIndexByte(method, '/'), 0)]]
	return ok
}

// Between two attempts there is a pause: baseRepeat, doubled each time, up to maxRepeat, with jitter of a fifth (gRFC A6 has the same
// form).
const (
	baseRepeat = 25 * time.Millisecond
	maxRepeat  = time.Second
)

// takeBackByPolicy takes a call that its peer may have run back, if it is to be sent once more: its method is named as safe, there are
// attempts and budget left, nothing went to the client, the request is still there, the server does not forbid it, and there is time
// for the pause before, which it gives. The caller holds s.mu, and calls repeat.
func (s *stream) takeBackByPolicy(pushback string) (pause time.Duration, ok bool) {
	p := s.e.retry
	if s.own || s.begun || s.over || s.request.lost || s.repeated+1 >= p.attempts || !p.covers(s.call.Method) {
		return 0, false
	}
	pause, ok = repeatPause(pushback, s.repeated)
	if !ok || s.deadline != 0 && s.e.clock()+int64(pause) >= s.deadline || !p.budget.take(s.e.clock()) {
		return 0, false
	}
	s.up = nil
	s.repeated++
	return pause, true
}

// repeatPause is how long to wait before an attempt. A server's grpc-retry-pushback-ms overrides ours; one that is negative, or no
// number, forbids it (gRFC A6, "Pushback").
func repeatPause(pushback string, before int) (time.Duration, bool) {
	if pushback != "" {
		ms, err := strconv.ParseInt(pushback, 10, 32)
		return time.Duration(ms) * time.Millisecond, err == nil && ms >= 0
	}
	d := min(baseRepeat<<min(before, 10), maxRepeat)
	return d*4/5 + time.Duration(rand.Int64N(int64(d)*2/5)), true
}

// repeat sends a call that was taken back from its peer to another after a pause. h is the half that is left, which the peer may not
// have ended. It runs on the reader of c, or elsewhere with nil.
func (s *stream) repeat(c *conn, h *half, o routing.Outcome, pause time.Duration) {
	s.mu.Lock()
	peer := s.pick.Peer
	s.mu.Unlock()
	h.conn.mu.Lock()
	h.recvEnd = true
	if h.sentEnd {
		h.forget()
	} else {
		h.reset(codeNo)
	}
	h.conn.mu.Unlock()
	flushFrom(c, h.conn)
	s.unpick(o)
	s.call.Avoid(peer)
	s.avoids = true
	s.resend, s.why = true, reasonPolicy
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.pause = time.AfterFunc(pause, s.repeatNow)
	}
}

func (s *stream) repeatNow() {
	if !s.e.enter() {
		return
	}
	defer s.e.tasks.Done()
	s.route(nil)
}

// budget bounds retries to a share of the calls of the last ten seconds, so that they cannot make an overload worse. Ten retries
// are always there, so that a client with few calls has some.
type budget struct {
	ratio          float64
	calls, retries [budgetWindow]tally
}

const (
	budgetWindow = 10
	budgetFloor  = 10
)

// call counts a call.
func (b *budget) call(now int64) { at(&b.calls, now).add(secondOf(now), 1) }

// take takes one retry; false means that there is none left. It is counted before it is judged, and given back if it is one too many:
// of several at once, in whichever seconds, each sees the others, so that together they never take more than there is.
func (b *budget) take(now int64) bool {
	mine, second := at(&b.retries, now), secondOf(now)
	mine.add(second, 1)
	if sum(&b.retries, second) <= max(b.ratio*sum(&b.calls, second), budgetFloor) {
		return true
	}
	mine.add(second, -1)
	return false
}

// tally counts what happens in one second; the upper half says in which. So whoever is the first to count in a new second begins it
// anew in one step, and nothing is lost of what others count meanwhile.
type tally struct{ atomic.Int64 }

// secondOf numbers seconds from 1 on: a tally of 0 is of none.
func secondOf(now int64) int64 { return now/1e9 + 1 }

func at(all *[budgetWindow]tally, now int64) *tally { return &all[secondOf(now)%budgetWindow] }

func (t *tally) add(second, n int64) {
	for {
		old := t.Load()
		switch {
		case old>>32 == second:
			t.Add(n)
			return
		case old>>32 > second:
			return // it comes ten seconds late
		case t.CompareAndSwap(old, second<<32|max(n, 0)):
			return
		}
	}
}

// sum is what was counted in the ten seconds up to this one.
func sum(all *[budgetWindow]tally, second int64) float64 {
	var n int64
	for i := range all {
		if v := all[i].Load(); v>>32 > second-budgetWindow {
			n += v & (1<<32 - 1)
		}
	}
	return float64(n)
}
