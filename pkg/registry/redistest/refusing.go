package redistest

import (
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Refusing gives an address of this host that refuses connections as long as the test runs. The port is bound without being
// listened on, so no other process can come to answer there.
func Refusing(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := at.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("bound to %T", at)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(in.Port))
}
