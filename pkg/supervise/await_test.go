package supervise_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/supervise"
)

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// A port that accepts in the kernel only, as before a server serves on it, is not enough.
func TestAwaitHTTP2WaitsForAServer(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			at := "127.0.0.1:0"
			if network == "unix" {
				at = filepath.Join(t.TempDir(), "s")
			}
			l := listen(t, network, at)
			address := l.Addr().String()
			if network == "unix" {
				address = "unix://" + address
			}
			done := make(chan error, 1)
			go func() { done <- supervise.AwaitHTTP2(t.Context(), []string{"127.0.0.1:1", address}) }()
			select {
			case err := <-done:
				t.Fatalf("it did not wait for an answer: %v", err)
			case <-time.After(100 * time.Millisecond): // nothing can be awaited that is to stay away
			}
			srv := grpc.NewServer()
			served := make(chan error, 1)
			go func() { served <- srv.Serve(l) }()
			if err := <-done; err != nil {
				t.Error(err)
			}
			srv.Stop()
			<-served
		})
	}
}

// greet is a server that sends the same first bytes to each client, and hangs up when they do.
func greet(t *testing.T, bytes string) (address string) {
	t.Helper()
	l := listen(t, "tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(bytes))
			_, _ = io.Copy(io.Discard, c) // what is unread at a close would cut off what was sent
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

func TestAwaitHTTP2SaysWhatIsThere(t *testing.T) {
	for _, tt := range []struct{ address, says string }{
		{"127.0.0.1:1", "refused"},
		{greet(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), "does not answer as an HTTP/2 server"},
		{greet(t, "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"), "it begins with [FrameHeader PING"},
		{greet(t, "\x00\x00\x00\x04\x01\x00\x00\x00\x00"), "it begins with [FrameHeader SETTINGS flags=ACK"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := supervise.AwaitHTTP2(ctx, []string{tt.address})
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
}
