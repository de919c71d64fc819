package supervise_test

import (
	"context"
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

func TestAwaitHTTP2SaysWhatIsThere(t *testing.T) {
	stranger := listen(t, "tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := stranger.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	for _, tt := range []struct{ address, says string }{
		{"127.0.0.1:1", "refused"},
		{stranger.Addr().String(), "does not answer as an HTTP/2 server"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := supervise.AwaitHTTP2(ctx, []string{tt.address})
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
}
