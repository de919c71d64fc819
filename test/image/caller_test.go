package image_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
	"github.com/flyproxy/flyproxy/test/internal/netns"
	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// dial connects as an app in the Machine does, to its own sidecar.
func (m *machine) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///127.0.0.1:50052", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(netns.Dialer(m.NS)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// join makes a unary call, to a certain instance unless that is empty, and gives the instance that answered.
func join(cc *grpc.ClientConn, id string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), proc.Patience)
	defer cancel()
	if id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", id)
	}
	battle, err := pb.NewBattleServiceClient(cc).JoinBattle(ctx, &pb.JoinBattleRequest{Player: "caller"})
	return battle.GetInstanceId(), err
}

// conversation is a stream that an instance answers. Reflection is the app's one stream that needs nothing on the instance first.
type conversation struct {
	stream reflection.ServerReflection_ServerReflectionInfoClient
	cancel context.CancelFunc
}

// converse begins a stream, to a certain instance unless that is empty, and has it answered. It lasts no longer than proc.Patience.
func converse(cc *grpc.ClientConn, id string) (*conversation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), proc.Patience)
	if id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", id)
	}
	stream, err := reflection.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	v := &conversation{stream, cancel}
	if err := v.exchange(); err != nil {
		cancel()
		return nil, err
	}
	return v, nil
}

// exchange is a message there and back.
func (v *conversation) exchange() error {
	ask := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}
	if err := v.stream.Send(ask); err != nil && !errors.Is(err, io.EOF) {
		return err
	} // after EOF, Recv says why
	_, err := v.stream.Recv()
	return err
}

// end ends the stream in good order.
func (v *conversation) end() error {
	defer v.cancel()
	if err := v.stream.CloseSend(); err != nil {
		return err
	}
	if _, err := v.stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream ends with %w", err)
	}
	return nil
}

// talk is a conversation of so many messages each way, one every 100 ms. Begun is called once it is answered.
func talk(cc *grpc.ClientConn, id string, messages int, begun func()) error {
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	v, err := converse(cc, id)
	if err != nil {
		return err
	}
	begun()
	for range messages - 1 {
		<-pace.C
		if err := v.exchange(); err != nil {
			v.cancel()
			return err
		}
	}
	<-pace.C
	return v.end()
}

// tally counts calls and how they ended.
type tally struct {
	mu             sync.Mutex // guards what follows
	calls, streams int
	failures       map[string]int // by code
	first          []string       // in words
	slowest        time.Duration  // of the calls
}

func (y *tally) add(stream bool, from string, took time.Duration, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if stream {
		y.streams++
	} else {
		y.calls++
		y.slowest = max(y.slowest, took)
	}
	if err != nil {
		y.failures[status.Code(err).String()]++
		if len(y.first) < 5 {
			y.first = append(y.first, fmt.Sprintf("%s from %s after %v: %v", time.Now().Format("15:04:05.000"), from, took, err))
		}
	}
}

func (y *tally) done() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.calls + y.streams
}

func (y *tally) String() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	s := fmt.Sprintf("%d calls, the slowest in %v, and %d streams of a second; ", y.calls, y.slowest.Round(time.Millisecond), y.streams)
	if len(y.failures) == 0 {
		return s + "0 failed"
	}
	var codes []string
	for code, n := range y.failures {
		codes = append(codes, fmt.Sprintf("%d %s", n, code))
	}
	sort.Strings(codes)
	return s + "failed: " + strings.Join(codes, ", ") + "\n" + strings.Join(y.first, "\n")
}

func (y *tally) failed() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.failures) > 0
}

// callers call from a Machine until they are stopped, as its app would.
type callers struct {
	quit    context.CancelFunc
	running sync.WaitGroup
}

// What the callers of one Machine do: this many calls and streams at a time on each of two connections, with a pause after each call.
const (
	connections  = 2
	callsAtATime = 8
	talksAtATime = 4
	pause        = 20 * time.Millisecond
)

// call starts a Machine's callers, with streams if asked for.
func (m *machine) call(t *testing.T, y *tally, streams bool) *callers {
	ctx, cancel := context.WithCancel(context.Background())
	c := &callers{quit: cancel}
	t.Cleanup(c.stop)
	for range connections {
		cc := m.dial(t)
		for range callsAtATime {
			c.running.Go(func() { c.unary(ctx, m.id, cc, y) })
		}
		for range talksAtATime {
			if !streams {
				break
			}
			c.running.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					err := talk(cc, "", 10, func() {})
					y.add(true, m.id, time.Since(began), err)
				}
			})
		}
	}
	return c
}

func (c *callers) unary(ctx context.Context, from string, cc *grpc.ClientConn, y *tally) {
	pace := time.NewTicker(pause)
	defer pace.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		_, err := join(cc, "")
		y.add(false, from, time.Since(began), err)
		<-pace.C
	}
}

// stop lets the calls that were begun end, and begins none. It may be called twice.
func (c *callers) stop() {
	c.quit()
	c.running.Wait()
}

// hold is a stream that goes on until its connection is closed.
func hold(cc *grpc.ClientConn, id string, begun func()) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "fly-force-instance-id", id)
	stream, err := reflection.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		return
	}
	ask := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}
	if stream.Send(ask) != nil {
		return
	}
	if _, err := stream.Recv(); err != nil {
		return
	}
	begun()
	_, _ = stream.Recv() // nothing more was asked
}
