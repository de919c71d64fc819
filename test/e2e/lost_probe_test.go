package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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
	_, err := exec.LookPath("ip")
	need(t, "root with iproute2", os.Geteuid() == 0 && err == nil)
	app := filepath.Join(filepath.Dir(flyproxy), "app")
	r := routedMachines(t, 2)
	here, there := r.all[0], r.all[1]
	address := "[" + there.addr + "]:50051"
	there.start("app idle", nil, app, "serve", address, "idle", "ams")
	entry := fmt.Sprintf("{service: idle, id: idle, address: %q, region: ams}", address)
	sidecar := here.start("sidecar", append(static(entry), "FLYPROXY_SERVICE=battle", "FLYPROXY_INSTANCE_ID=m0", "FLYPROXY_REGION=ams"),
		flyproxy, "serve")
	cc, err := grpc.NewClient("passthrough:///127.0.0.1:50052", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(here.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
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
