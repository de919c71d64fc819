package e2e_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// silentPeers is how many connections to peers the sidecar counts as silent.
func silentPeers(metrics string) (n int) {
	for line := range strings.Lines(metrics) {
		if _, err := fmt.Sscanf(line, `flyproxy_peer_connections{state="silent"} %d`, &n); err == nil {
			return n
		}
	}
	return 0
}

// A process is stopped; its kernel goes on to accept and to acknowledge. One goes on before upstream.dead_after, one does not.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	app := filepath.Join(filepath.Dir(flyproxy), "app")
	serve := func(name string) (*process, string) {
		address := net.JoinHostPort("127.0.0.1", fmt.Sprint(freePort(t)))
		return start(t, "app "+name, nil, app, "serve", address, name, "ams"), address
	}
	stopped, paused := &victim{id: "stopped"}, &victim{id: "paused"}
	p1, a1 := serve(stopped.id)
	p2, a2 := serve(paused.id)
	_, well := serve("well")
	s := startSidecar(t, "m0", "ams", freePort(t), static(stopped.entries(a1, well), paused.entries(a2, well))...)
	cc := s.dial(t)
	for _, v := range []*victim{stopped, paused} {
		v.connect(t, cc)
		v.talk(t)
		v.load(t)
		began := time.Now()
		eventually(t, v.id+" gets calls", func() bool { return v.answered(began) > 20 })
	}
	since := time.Now()
	p1.signal(syscall.SIGSTOP)
	p2.signal(syscall.SIGSTOP)
	found := eventually(t, "both count as silent", func() bool {
		_, body := get(t, "http://"+s.admin()+"/metrics")
		return silentPeers(body) == 2
	})
	t.Logf("found silent after %v", found.Round(time.Millisecond))
	p2.signal(syscall.SIGCONT)
	paused.back(t, time.Now())
	stopped.lost(t, since)
	p1.signal(syscall.SIGCONT)
	eventually(t, "the one that was lost is used again", func() bool { return stopped.one("", patience).by == stopped.id })
}
