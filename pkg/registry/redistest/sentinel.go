package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// MasterName is the name by which the Sentinels of a [Sentinel] know the primary.
const MasterName = "flyproxy"

// Sentinel is a primary, a replica of it, and three Sentinels that make the replica the primary when the primary does not answer
// for half a second. The roles are those at the start.
type Sentinel struct {
	Primary   *Server
	Replica   *Server
	Sentinels []*Server
}

// StartSentinel starts a primary and a replica as cfg says and three Sentinels, and waits until they know of each other.
func StartSentinel(t testing.TB, cfg Config) *Sentinel {
	t.Helper()
	s := &Sentinel{}
	cfg.Args = append([]string{"--repl-diskless-sync-delay", "0", "--repl-timeout", "5"}, cfg.Args...)
	s.Primary = Start(t, cfg)
	cfg.Args = append([]string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", s.Primary.Port())}, cfg.Args...)
	s.Replica = Start(t, cfg)
	await(t, func() error { return expect(s.Replica.Text("INFO", "replication"), "master_link_status:up") })
	for range 3 {
		s.Sentinels = append(s.Sentinels, startOne(t, s.Primary, cfg.Password))
	}
	for _, one := range s.Sentinels {
		await(t, func() error { return expect(one.Text("INFO", "sentinel"), "status=ok") })
		await(t, func() error { return expect(one.Text("INFO", "sentinel"), "slaves=1,sentinels=3") })
	}
	return s
}

func startOne(t testing.TB, primary *Server, password string) *Server {
	t.Helper()
	one := &Server{t: t, dir: t.TempDir(), mode: "--sentinel"}
	one.conf = filepath.Join(one.dir, "sentinel.conf")
	one.launch(func(t testing.TB) int {
		port := freePort(t)
		conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\n", port, one.dir) +
			fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2\n", MasterName, primary.Port()) +
			fmt.Sprintf("sentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 3000\n", MasterName, MasterName)
		if password != "" {
			conf += fmt.Sprintf("sentinel auth-pass %s %s\n", MasterName, password)
		}
		if err := os.WriteFile(one.conf, []byte(conf), 0o600); err != nil {
			t.Fatalf("write the configuration of a Sentinel: %v", err)
		}
		return port
	})
	return one
}

// Addrs are the addresses of the Sentinels.
func (s *Sentinel) Addrs() []string {
	out := make([]string, len(s.Sentinels))
	for i, one := range s.Sentinels {
		out[i] = one.Addr()
	}
	return out
}

// AwaitFailover waits until the Sentinels name the replica as the primary and it acts as one. Kill or pause the primary first.
func (s *Sentinel) AwaitFailover() {
	s.Replica.t.Helper()
	for _, one := range s.Sentinels {
		await(s.Replica.t, func() error {
			reply, _ := one.Must("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).([]any)
			if len(reply) == 2 && net.JoinHostPort(fmt.Sprint(reply[0]), fmt.Sprint(reply[1])) == s.Replica.Addr() {
				return nil
			}
			return fmt.Errorf("a Sentinel still names %v as the primary", reply)
		})
	}
	await(s.Replica.t, func() error { return expect(s.Replica.Text("INFO", "replication"), "role:master") })
}
