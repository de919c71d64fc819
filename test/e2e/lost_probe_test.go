package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// probes is how many keepalive probes the machine's kernel has sent.
func (m *machine) probes() (n int) {
	err := m.within(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(b)) {
			values := strings.Fields(line)
			if values[0] != "TcpExt:" {
				continue
			}
			if names == nil {
				names = values
				continue
			}
			for i, name := range names {
				if name == "TCPKeepAlive" {
					n, err = strconv.Atoi(values[i])
					return err
				}
			}
		}
		return fmt.Errorf("no TCPKeepAlive in %q", b)
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// A peer without calls is well, and one keepalive probe does not reach it, again and again. Nobody is told that it is silent.
func TestLostProbe(t *testing.T) {
	t.Parallel()
	app := filepath.Join(filepath.Dir(flyproxy), "app")
	r := routedMachines(t, 2)
	here, there := r.all[0], r.all[1]
	address := "[" + there.addr + "]:50051"
	there.start("app idle", nil, app, "serve", address, "idle", "ams")
	entry := fmt.Sprintf("{service: idle, id: idle, address: %q, region: ams}", address)
	sidecar, cc := here.sidecarAndClient(entry)
	idle := &victim{id: "idle"}
	idle.connectTo(t, cc, idle.id)
	another := func() {
		had := here.probes()
		eventually(t, "another probe is sent", func() bool { return here.probes() > had })
	}
	silent := 0
	another()
	for range 3 {
		r.cut(there) // right behind one probe: the next is a second away
		another()
		r.mend(there)
		had := here.probes()
		eventually(t, "the probe after that is sent", func() bool {
			silent = max(silent, silentPeers(here.metrics()))
			return here.probes() > had
		})
	}
	if log := sidecar.output(); silent > 0 || strings.Contains(log, "peer is silent") {
		t.Errorf("a healthy peer that was not reached by one probe counts as silent (%d connections)", silent)
	}
	if c := idle.one("", patience); c.err != nil || c.by != idle.id {
		t.Errorf("a call ended with %v from %q", c.err, c.by)
	}
}
