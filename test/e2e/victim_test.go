package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
)

const (
	// deadAfter is upstream.dead_after as it comes, avoidedWithin how long new calls may go to a peer that has fallen silent.
	deadAfter     = 5 * time.Second
	avoidedWithin = 2 * time.Second
	// lateness is what a busy machine may add to a time.
	lateness = 500 * time.Millisecond
	// keepaliveIdle is by how much the last sign of life may lie before the silence: without calls one comes each second.
	keepaliveIdle = time.Second
)

// victim is a peer that falls silent, and another one of its service that does not, as a client of a sidecar sees them.
type victim struct {
	id string // the service's name, and the peer's; the other's is "well-" and that
	pb.GreeterClient

	chat    pb.Greeter_ChatClient
	ended   chan ending // how the chat ended
	replies chan string

	quit    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // guards calls
	calls []oneCall
}

type ending struct {
	err error
	at  time.Time
}

// oneCall is a call and what became of it.
type oneCall struct {
	began time.Time
	took  time.Duration
	by    string // the instance that answered
	err   error
}

// entries are the victim's and the other's in a registry that is a list.
func (v *victim) entries(victim, well string) string {
	return fmt.Sprintf(`{service: %[1]s, id: %[1]s, address: %[2]q, region: ams}, {service: %[1]s, id: well-%[1]s, address: %[3]q, region: ams}`,
		v.id, victim, well)
}

// static is the environment of a sidecar that knows these entries. Calls go to the peers in turn, so that what is sent to a silent one
// does not depend on what it still has.
func static(entries ...string) []string {
	return []string{
		"FLYPROXY_ENGINE=relay", "FLYPROXY_ROUTING_POLICY=round_robin", "FLYPROXY_ROUTING_BACKOFF_MAX=1s",
		"FLYPROXY_REGISTRY_STATIC=[" + strings.Join(entries, ", ") + "]",
	}
}

// to names the service, and the peer unless it is empty.
func (v *victim) to(ctx context.Context, id string) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, "flyproxy-service", v.id)
	if id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", id)
	}
	return ctx
}

// connect has the victim's service called on cc, until both of its peers are seen.
func (v *victim) connect(t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	v.connectTo(t, cc, v.id, "well-"+v.id)
}

// connectTo has the victim's service called on cc, until these of its peers are seen.
func (v *victim) connectTo(t *testing.T, cc *grpc.ClientConn, ids ...string) {
	t.Helper()
	v.GreeterClient = pb.NewGreeterClient(cc)
	for _, id := range ids {
		eventually(t, id+" answers", func() bool { return v.one(id, patience).err == nil })
	}
}

// one makes a call.
func (v *victim) one(id string, within time.Duration) oneCall {
	ctx, cancel := context.WithTimeout(v.to(context.Background(), id), within)
	defer cancel()
	c := oneCall{began: time.Now()}
	reply, err := v.Hello(ctx, &pb.HelloRequest{})
	c.took, c.by, c.err = time.Since(c.began), reply.GetInstance(), err
	return c
}

// talk opens a call to the victim, which is answered, and stays open.
func (v *victim) talk(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(v.to(context.Background(), v.id), 2*patience)
	t.Cleanup(cancel)
	var err error
	if v.chat, err = v.Chat(ctx); err != nil {
		t.Fatal(err)
	}
	v.ended, v.replies = make(chan ending, 1), make(chan string, 8)
	go func() {
		for {
			reply, err := v.chat.Recv()
			if err != nil {
				v.ended <- ending{err, time.Now()}
				return
			}
			v.replies <- reply.GetInstance()
		}
	}()
	v.say(t)
}

// say says something on the open call, and awaits the answer.
func (v *victim) say(t *testing.T) {
	t.Helper()
	if err := v.chat.Send(&pb.HelloRequest{}); err != nil {
		t.Errorf("%s: the open call takes no message: %v", v.id, err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-v.replies:
	case e := <-v.ended:
		t.Errorf("%s: the open call has ended: %v", v.id, e.err)
	case <-timer.C:
		t.Errorf("%s: the open call is not answered", v.id)
	}
}

// load makes a call every ten milliseconds.
func (v *victim) load(t *testing.T) {
	var ctx context.Context
	ctx, v.quit = context.WithCancel(context.Background())
	t.Cleanup(func() { v.stop() })
	v.running.Go(func() {
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			v.running.Go(func() {
				c := v.one("", patience)
				v.mu.Lock()
				defer v.mu.Unlock()
				v.calls = append(v.calls, c)
			})
			<-pace.C
		}
	})
}

// stop ends the load, and gives its calls once all have ended.
func (v *victim) stop() []oneCall {
	v.quit()
	v.running.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls
}

// answered counts the calls that the victim has answered and that began after that time.
func (v *victim) answered(after time.Time) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.calls {
		if c.by == v.id && c.began.After(after) {
			n++
		}
	}
	return n
}

// isLost tells whether a call ended because the victim was silent.
func (v *victim) isLost(err error) bool {
	return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "peer lost") && strings.Contains(err.Error(), v.id+"/"+v.id)
}

// lost checks what is owed when the victim has fallen silent for good: new calls avoid it, open ones end in due time, and no other call
// fails.
func (v *victim) lost(t *testing.T, since time.Time) {
	t.Helper()
	var e ending
	eventually(t, "the open call ends", func() bool {
		select {
		case e = <-v.ended:
			return true
		default:
			return false
		}
	})
	lasted := e.at.Sub(since)
	if !v.isLost(e.err) || lasted < deadAfter-keepaliveIdle || lasted > deadAfter*3/2 {
		t.Errorf("%s: the open call ended after %v with %v, want about %v", v.id, lasted, e.err, deadAfter)
	}
	// It is dialled again now and then, and no call may hang on that either.
	eventually(t, "a while has passed", func() bool { return time.Since(e.at) > 1500*time.Millisecond })
	var failed int
	var avoided, slowest time.Duration
	calls := v.stop()
	for _, c := range calls {
		switch {
		case c.err == nil && c.began.Sub(since) > avoidedWithin+lateness:
			slowest = max(slowest, c.took)
		case c.err == nil:
		case v.isLost(c.err):
			failed++
			avoided = max(avoided, c.began.Sub(since))
		default:
			t.Errorf("%s: a call that began %v after the silence: %v", v.id, c.began.Sub(since), c.err)
		}
	}
	t.Logf("%s: of %d calls %d were lost; the last of them was sent there %v after the silence began, the open one ended after %v; later calls took up to %v",
		v.id, len(calls), failed, avoided.Round(time.Millisecond), lasted.Round(time.Millisecond), slowest.Round(time.Millisecond))
	if avoided > avoidedWithin+lateness {
		t.Errorf("%s: a new call was sent there %v after the silence began", v.id, avoided)
	}
	if slowest > lateness {
		t.Errorf("%s: a call that had nothing to do with the silent peer took %v", v.id, slowest)
	}
}

// back checks what is owed when the victim was silent for a while: nothing is lost, and it is used again.
func (v *victim) back(t *testing.T, since time.Time) {
	t.Helper()
	v.say(t)
	said := time.Since(since)
	took := eventually(t, v.id+" gets calls again", func() bool { return v.answered(since) > 10 })
	calls := v.stop()
	var slowest time.Duration
	for _, c := range calls {
		if c.err != nil {
			t.Errorf("%s: %v", v.id, c.err)
		}
		slowest = max(slowest, c.took)
	}
	t.Logf("%s: %d calls, the slowest took %v; the open call was answered %v after the end of the silence, new calls %v later", v.id, len(calls),
		slowest.Round(time.Millisecond), said.Round(time.Millisecond), took.Round(time.Millisecond))
}
