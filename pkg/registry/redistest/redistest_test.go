package redistest_test

import (
	"context"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

func TestServerKeepsItsPortAndWithPersistItsData(t *testing.T) {
	for name, persist := range map[string]bool{"without": false, "with": true} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{Persist: persist})
			addr := s.Addr()
			s.Must("SET", "k", "v")
			s.Restart()
			if s.Addr() != addr {
				t.Errorf("address was %s and is %s", addr, s.Addr())
			}
			if got := s.Text("GET", "k"); (got == "v") != persist {
				t.Errorf("after a restart k is %q", got)
			}
		})
	}
}

func TestPausedServerDoesNotAnswerUntilItIsResumed(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if reply, err := s.Do(ctx, "PING"); err == nil {
		t.Errorf("a paused server answered %v", reply)
	}
	s.Resume()
	if got := s.Text("PING"); got != "PONG" {
		t.Errorf("a resumed server answered %q", got)
	}
}

func TestServerWithPasswordAndTLS(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Password: "secret", TLS: true})
	if got := s.Text("PING"); got != "PONG" {
		t.Errorf("answered %q", got)
	}
}

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.ClusterConfig{Replicas: 1})
	owner := c.Owner("k")
	owner.Must("SET", "k", "v")
	owner.Must("WAIT", 1, 5000)
	owner.Kill()
	if now := c.Owner("k"); now == owner {
		t.Error("the killed node still serves")
	}
	if got := c.Owner("k").Text("GET", "k"); got != "v" {
		t.Errorf("k is %q after the failover", got)
	}
}

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, redistest.Config{})
	s.Primary.Must("SET", "k", "v")
	s.Primary.Must("WAIT", 1, 5000)
	s.Primary.Kill()
	s.AwaitFailover()
	if got := s.Replica.Text("GET", "k"); got != "v" {
		t.Errorf("k is %q after the failover", got)
	}
}
