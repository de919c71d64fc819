package enginetest

import (
	"context"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

// Patience is how long a test waits for what must come. It is long because machines that run tests are often busy.
const Patience = 10 * time.Second

// CheckLeaks fails the test if goroutines of an engine, of grpc-go or of the suite outlive it. Call it first: it looks last.
func CheckLeaks(t testing.TB) {
	t.Helper()
	leak.Check(t, "google.golang.org/grpc", "flyproxy/pkg/")
}

// Context ends with the test, or after Patience.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until f holds.
func Eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	Until(t, func() string {
		if f() {
			return ""
		}
		return what
	})
}

// Until waits until f has nothing more to wish for.
func Until(t testing.TB, f func() (wish string)) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(time.Millisecond) {
		wish := f()
		if wish == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", wish)
		}
	}
}

// Receive gives what comes on c.
func Receive[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case v = <-c:
	case <-timer.C:
		t.Fatal("nothing came")
	}
	return v
}

// Offer sends v on c if there is room, so that whoever is asked too often does not hang.
func Offer[T any](c chan<- T, v T) {
	select {
	case c <- v:
	default:
	}
}

// Must fails the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
