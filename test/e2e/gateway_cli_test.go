package e2e_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

func TestModeOnTheCommandLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  []string
		args []string
		code int
		says string
	}{
		{
			name: "no mode at all", args: []string{"serve", "--mode", "gatewy"}, code: 64,
			says: `--mode is "gatewy": write sidecar or gateway`,
		},
		{
			name: "TLS without a certificate", code: 78, args: []string{"serve", "--mode", "gateway"},
			env:  []string{"REDIS_HOST=redis.example", "FLYPROXY_DOWNSTREAM_TLS_ENABLED=true"},
			says: "downstream.tls.cert_file: missing: who takes TLS must show clients a certificate",
		},
		{
			name: "the flag beats the variable", code: 78, args: []string{"serve", "--mode", "sidecar"},
			env:  []string{"REDIS_HOST=redis.example", "FLYPROXY_SERVICE=s", "FLYPROXY_MODE=gateway", "FLYPROXY_LISTEN=[::]:50052"},
			says: "not a loopback address: in sidecar mode",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := start(t, "flyproxy", tc.env, append([]string{flyproxy}, tc.args...)...)
			if code := p.exit(patience); code != tc.code || !strings.Contains(p.output(), tc.says) {
				t.Errorf("exit code %d, want %d; it says\n%s\nwant %s", code, tc.code, p.output(), tc.says)
			}
		})
	}
}

// One [env] is for all process groups: what makes a gateway of `serve` in one of them is not for who runs an app in another.
func TestRunIsNoGateway(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	s := runSidecar(t, "m0", []string{redis, "FLYPROXY_MODE=gateway", "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS=fdaa::/16"})
	defer func() {
		s.signal(syscall.SIGTERM) // with its app
		if code := s.exit(patience); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}()
	eventually(t, "the app is registered", func() bool { return s.serving() == 1 })
	if st, _ := s.status(); st.Self.Mode != "sidecar" {
		t.Errorf("mode %q", st.Self.Mode)
	}
	if reply, err := hello(t, s); err != nil || reply.GetInstance() != "m0" {
		t.Errorf("%v %v", reply, err)
	}
}
