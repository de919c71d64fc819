package doctor

import (
	"errors"
	"net"
	"testing"
)

// What the doctor says of a gateway's listener is what the gateway does: see listenAddresses of pkg/sidecar.
func TestNameUnknownHere(t *testing.T) {
	absent, failed := &net.DNSError{Err: "no such host", IsNotFound: true}, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	for _, tc := range []struct {
		name        string
		err         error
		onFly, want bool
	}{
		{"absent, on Fly", &net.OpError{Op: "dial", Err: absent}, true, true},
		{"absent, elsewhere", &net.OpError{Op: "dial", Err: absent}, false, true},
		{"not known, on Fly", &net.OpError{Op: "dial", Err: failed}, true, false},
		{"not known, elsewhere", &net.OpError{Op: "dial", Err: failed}, false, true},
		{"not for its name", errors.New("connection refused"), false, false},
		{"no error", nil, false, false},
	} {
		if got := unknownHere(tc.err, tc.onFly); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
