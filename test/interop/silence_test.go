package interop_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// silence is how long a stream has nothing to say.
const silence = time.Minute

// pingsAllowed is how many PINGs the relay may send between two HEADERS or DATA frames of a peer: a third is one too many for
// servers that count strikes.
const pingsAllowed = 2

// TestSilence opens streams to servers of three libraries as they come, says nothing on them for a minute, and then something. All
// wait side by side: each library behind each data plane, with nothing else on the connection, with calls now and then, with calls
// that wait long for their answers, and with a call that only the client speaks on. In the last two the server sends neither HEADERS
// nor DATA, and PINGs would be counted against the data plane.
func TestSilence(t *testing.T) {
	servers := map[string]string{"grpc-go": startApp(t).Address}
	for _, l := range languages {
		if l.Server != nil {
			l.need(t, l.Server)
			servers[l.Name] = startServer(t, l.Server)
		}
	}
	noises := map[string]func(*silent) error{
		"alone": (*silent).none, "calls": (*silent).calls, "waiting": (*silent).waiting, "upload": (*silent).upload,
	}
	var all []*silent
	for _, p := range planes {
		for server, address := range servers {
			for name, noise := range noises {
				s := openSilent(t, p, address)
				s.Name = strings.Join([]string{p.Name, server, name}, "/")
				s.start(noise)
				all = append(all, s)
			}
		}
	}
	over := time.NewTimer(silence)
	t.Parallel() // only now: the minute passes while the others run, whether or not it is this test's turn
	<-over.C
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) { s.judge(t, strings.HasPrefix(s.Name, "relay/")) })
	}
}

// silent is a stream on which nothing is said, on a client and through a data plane of its own.
type silent struct {
	Name string

	cc     *grpc.ClientConn
	stream grpc.ClientStream
	tap    *tap
	// heard gets what comes on the stream, until its end.
	heard chan string

	running sync.WaitGroup
	// stop ends the noise; noise is how it went, once done is closed.
	stop  context.CancelFunc
	ctx   context.Context
	done  chan struct{}
	noise error
}

// openSilent opens the stream, and has its first message echoed.
func openSilent(t *testing.T, p plane, app string) *silent {
	s := &silent{tap: startTap(t, app), heard: make(chan string, 8), done: make(chan struct{})}
	var err error
	s.cc, err = grpc.NewClient("passthrough:///"+p.start(t, s.tap.Address), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(), grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{})))
	if err != nil {
		t.Fatal(err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		s.stop()
		s.cc.Close()
		s.running.Wait()
	})
	s.stream, err = s.open("Both")
	if err != nil {
		t.Fatal(err)
	}
	s.running.Go(s.listen)
	s.echo(t, "before")
	return s
}

func (s *silent) open(method string) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true}
	return s.cc.NewStream(context.Background(), desc, "/flyproxy.interop.Echo/"+method)
}

// listen reads the stream.
func (s *silent) listen() {
	for {
		var m []byte
		if err := s.stream.RecvMsg(&m); err != nil {
			s.heard <- err.Error()
			return
		}
		s.heard <- string(m)
	}
}

// echo says something and awaits the answer.
func (s *silent) echo(t *testing.T, message string) {
	t.Helper()
	if err := s.stream.SendMsg([]byte(message)); err != nil {
		t.Errorf("send: %v", err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case m := <-s.heard:
		if m != message {
			t.Fatalf("the stream brings %q, want %q", m, message)
		}
	case <-timer.C:
		t.Fatalf("the stream brings no answer within %v", patience)
	}
}

// start runs what else goes on on the connection.
func (s *silent) start(noise func(*silent) error) {
	s.running.Go(func() {
		defer close(s.done)
		s.noise = noise(s)
	})
}

// judge checks what has become of the stream.
func (s *silent) judge(t *testing.T, relay bool) {
	select {
	case m := <-s.heard:
		t.Fatalf("in the silence the stream has brought %q", m)
	default:
	}
	s.stop()
	<-s.done
	if s.noise != nil {
		t.Errorf("beside the stream: %v", s.noise)
	}
	s.echo(t, "after")
	c := s.tap.seen()
	t.Logf("%+v", c)
	if c.Ended > 0 || c.GoAways > 0 {
		t.Errorf("the connection to the server has not lasted: %+v", c)
	}
	if relay && c.MostPings > pingsAllowed {
		t.Errorf("%d PINGs in a row, want at most %d", c.MostPings, pingsAllowed)
	}
}

// pause waits, and tells whether the noise goes on.
func (s *silent) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *silent) none() error { return nil }

// call makes a call that is answered after that time.
func (s *silent) call(ctx context.Context, size int, after time.Duration) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-wait-ms", fmt.Sprint(after.Milliseconds()))
	request, reply := make([]byte, size), []byte(nil)
	if err := s.cc.Invoke(ctx, "/flyproxy.interop.Echo/Unary", request, &reply); err != nil {
		return fmt.Errorf("a call of %d bytes: %w", size, err)
	}
	if len(reply) != size {
		return fmt.Errorf("a call of %d bytes: the answer has %d", size, len(reply))
	}
	return nil
}

// calls makes a call now and then; some are large, and some are answered late.
func (s *silent) calls() error {
	for n := 0; s.pause(time.Duration(1+n%5*2) * time.Second); n++ {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := s.call(ctx, 10+n%3*500_000, time.Duration(n%2)*2500*time.Millisecond)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// waiting makes calls that are not answered before the end.
func (s *silent) waiting() error {
	var calls sync.WaitGroup
	failed := make(chan error, int(silence/time.Second))
	for s.pause(2 * time.Second) {
		calls.Go(func() {
			if err := s.call(s.ctx, 10, 10*silence); status.Code(err) != codes.Canceled {
				failed <- fmt.Errorf("before its time: %w", err)
			}
		})
	}
	calls.Wait()
	close(failed)
	return <-failed
}

// upload speaks every few seconds on a call that is answered only at its end.
func (s *silent) upload() error {
	up, err := s.open("Up")
	if err != nil {
		return err
	}
	n := 0
	for ; s.pause(3 * time.Second); n++ {
		if err := up.SendMsg(make([]byte, 100)); err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
	}
	if err := up.CloseSend(); err != nil {
		return err
	}
	var reply []byte
	if err := up.RecvMsg(&reply); err != nil {
		return fmt.Errorf("after %d messages: %w", n, err)
	}
	if want := fmt.Sprintf("%d %d", n, 100*n); string(reply) != want {
		return fmt.Errorf("the answer is %q, want %q", reply, want)
	}
	return nil
}

// startServer runs a server of test/clients until the test's end.
func startServer(t *testing.T, command []string) (address string) {
	cmd := exec.Command(command[0], command[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, &stderr)
		}
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(command, " "), err)
	}
	return net.JoinHostPort("127.0.0.1", strings.TrimSpace(port))
}
