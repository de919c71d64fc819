package main

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

func TestFirstSignalEndsTheContext(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		ctx, i := interruptible()
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(patience):
			t.Fatal("the context does not end")
		}
		if got := signalOf(ctx); got != sig {
			t.Errorf("the cause is %v, want %v", got, sig)
		}
		i.stop()
	}
}

// A signal that came before run looked for it must stop the app all the same.
func TestRunHeedsASignalThatCameBefore(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(interrupted{syscall.SIGINT})
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"run", "--", "sleep", "1000"}, system{out: &out, err: &errs, environ: append(os.Environ(),
			"FLYPROXY_SERVICE=battle", "FLYPROXY_LISTEN=127.0.0.1:0", "FLYPROXY_ADMIN_LISTEN=127.0.0.1:0", "GRPC_PORT=1",
			`FLYPROXY_REGISTRY_STATIC=[{service: other, address: "127.0.0.1:9"}]`)})
	}()
	select {
	case code := <-done:
		if code != exitSignal+int(syscall.SIGINT) {
			t.Errorf("exit code %d\n%s", code, errs.String())
		}
	case <-time.After(patience):
		t.Fatal("the app runs on")
	}
}
