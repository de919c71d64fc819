//go:build linux

// Package netns makes network namespaces for tests that need more than one machine's network.
package netns

import (
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// IP runs ip(8).
func IP(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Possible tells whether namespaces can be made: as root, with iproute2.
func Possible() bool {
	_, err := exec.LookPath("ip")
	return os.Geteuid() == 0 && err == nil
}

// Add makes a namespace, with its loopback up. It is removed with the test.
func Add(t testing.TB, name string) {
	t.Helper()
	IP(t, "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	IP(t, "-n", name, "link", "set", "lo", "up")
}

// Within runs f in a namespace: sockets that it opens and processes that it starts stay there. The thread goes back to where it was: a
// locked one that ended with its goroutine would take the processes with it that it has started (Pdeathsig, prctl(2)).
func Within(name string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open("/var/run/netns/" + name)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // nothing else may run on this thread
		}
	}()
	return f()
}

// Dial connects by TCP to an address as it is seen in a namespace.
func Dial(name, address string, within time.Duration) (nc net.Conn, err error) {
	err = Within(name, func() error {
		var err error
		nc, err = net.DialTimeout("tcp", address, within)
		return err
	})
	return nc, err
}

// Dialer is Dial for who brings a context. It gives up after ten seconds.
func Dialer(name string) func(context.Context, string) (net.Conn, error) {
	return func(_ context.Context, address string) (net.Conn, error) { return Dial(name, address, 10*time.Second) }
}
