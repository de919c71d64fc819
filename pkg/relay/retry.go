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

// mayRepeat tells whether a call that a peer may have run is sent once more: its method is named as safe, there are attempts and
// budget left, nothing went to the client, the request is still there, the server does not forbid it, and there is time for the pause
// before, which it gives. The caller holds s.mu.
func (s *stream) mayRepeat(pushback string) (pause time.Duration, ok bool) {
	p := s.e.retry
	if s.begun || s.over || s.request.lost || s.repeated+1 >= p.attempts || !p.covers(s.call.Method) {
		return 0, false
	}
	pause, ok = repeatPause(pushback, s.repeated)
	if !ok || s.deadline != 0 && s.e.clock()+int64(pause) >= s.deadline {
		return 0, false
	}
	return pause, p.budget.take(s.e.clock())
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

// repeat gives the call's peer up and sends the call to another after a pause. h is the half that is left, which the peer may not
// have ended. It runs on the reader of c, or elsewhere with nil.
func (s *stream) repeat(c *conn, h *half, o routing.Outcome, pause time.Duration) {
	s.mu.Lock()
	s.up = nil
	s.repeated++
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
	s.e.retries[reasonPolicy].Add(1)
	time.AfterFunc(pause, s.repeatNow)
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
	ratio   float64
	seconds [budgetWindow]budgetSecond
}

const (
	budgetWindow = 10
	budgetFloor  = 10
)

type budgetSecond struct {
	second         atomic.Int64
	calls, retries atomic.Int64
}

// at gives the slot of a moment, emptied if it held an older second.
func (b *budget) at(now int64) *budgetSecond {
	second := now/1e9 + 1
	slot := &b.seconds[second%budgetWindow]
	if old := slot.second.Load(); old != second && slot.second.CompareAndSwap(old, second) {
		slot.calls.Store(0)
		slot.retries.Store(0)
	}
	return slot
}

// call counts a call.
func (b *budget) call(now int64) { b.at(now).calls.Add(1) }

// take takes one retry; false means that there is none left.
func (b *budget) take(now int64) bool {
	slot := b.at(now)
	var calls, retries int64
	for i := range b.seconds {
		if s := &b.seconds[i]; s.second.Load() > now/1e9+1-budgetWindow {
			calls += s.calls.Load()
			retries += s.retries.Load()
		}
	}
	if float64(retries) >= max(b.ratio*float64(calls), budgetFloor) {
		return false
	}
	slot.retries.Add(1)
	return true
}
