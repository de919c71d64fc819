package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/admin"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

const instancesKey = "flyproxy:v1:{default}:instances"

// readySays waits until /ready has the code, is degraded or not, and gives reasons that say all of want.
func readySays(t *testing.T, s *sidecar, code int, degraded bool, want ...string) {
	t.Helper()
	var got int
	var body string
	defer func() {
		if t.Failed() {
			t.Logf("/ready: %d %s", got, body)
		}
	}()
	eventually(t, fmt.Sprintf("/ready of %s is %d, degraded %v, and says %q", s.id, code, degraded, want), func() bool {
		got, body = get(t, "http://"+s.admin()+"/ready")
		var r admin.Readiness
		if got != code || json.Unmarshal([]byte(body), &r) != nil || r.Degraded != degraded {
			return false
		}
		reasons := strings.Join(r.Reasons, "\n")
		for _, w := range want {
			if !strings.Contains(reasons, w) {
				return false
			}
		}
		return true
	})
}

func hello(t *testing.T, s *sidecar) (*pb.HelloReply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return pb.NewGreeterClient(s.dial(t)).Hello(ctx, &pb.HelloRequest{})
}

func TestRedisUnreachableAtStart(t *testing.T) { eachEngine(t, redisUnreachableAtStart) }

func redisUnreachableAtStart(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	redis.Kill()
	_, port := startApp(t, "m0", "ams")
	s := startSidecar(t, "m0", "ams", port, engine, "REDIS_URL=redis://"+redis.Addr())
	readySays(t, s, http.StatusServiceUnavailable, true, "was not reached yet")
	_, err := hello(t, s)
	if status.Code(err) != codes.Unavailable ||
		!strings.Contains(status.Convert(err).Message(), "No gRPC instances available for service battle: 0 known, 0 healthy, 0 in region ams") {
		t.Errorf("a call meanwhile: %v", err)
	}
	redis.Restart()
	readySays(t, s, http.StatusOK, false)
	sees(t, 1, s)
	if reply, err := hello(t, s); err != nil || reply.GetInstance() != "m0" {
		t.Errorf("a call after Redis came: %v %v", reply, err)
	}
}

// A wrong password is said whatever else is the matter: with an app that is not healthy, or none to register, nothing else is asked of
// the registry that could say it.
func TestWrongPassword(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{Password: "right"})
	for _, tc := range []struct {
		name    string
		serving bool
		env     []string
	}{
		{"an app to register", true, nil},
		{"an app that is not healthy", false, nil},
		{"nothing to register", true, []string{"FLYPROXY_REGISTRATION_ENABLED=false"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app, port := startApp(t, "m0", "ams")
			app.SetServing(tc.serving)
			s := startSidecar(t, "m0", "ams", port, append(tc.env, "REDIS_URL=redis://:wrong-one@"+redis.Addr())...)
			readySays(t, s, http.StatusServiceUnavailable, true, "credentials")
			if strings.Contains(s.output(), "wrong-one") {
				t.Error("the password stands in the log")
			}
		})
	}
}

func TestKeyOfAnotherType(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	redis.Must("SET", instancesKey, "mine")
	_, port := startApp(t, "m0", "ams")
	s := startSidecar(t, "m0", "ams", port, "REDIS_URL=redis://"+redis.Addr())
	readySays(t, s, http.StatusServiceUnavailable, true, instancesKey, "another type")
	if got := redis.Text("GET", instancesKey); got != "mine" {
		t.Errorf("the key was changed to %q", got)
	}
	redis.Must("DEL", instancesKey)
	readySays(t, s, http.StatusOK, false)
}

func TestBadRecordsStopNobody(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	record := func(id, address, more string) string {
		return fmt.Sprintf(`{"service":"battle","id":%q,"incarnation":"1","schema":1,"address":%q,"grpc_port":1,"state":"serving","started_at":"2026-01-01T00:00:00Z"%s}`,
			id, address, more)
	}
	_, good := startApp(t, "newer", "ams")
	for field, value := range map[string]string{
		"battle/garbage": "\x00\xff not json", "battle/huge": record("huge", "127.0.0.1:1", `,"labels":{"x":"`+strings.Repeat("x", 10<<20)+`"}`),
		"battle/outside": record("outside", "192.0.2.1:50051", ""), "battle/other": record("someone-else", "127.0.0.1:1", ""),
		"nonsense":     "{}",
		"battle/newer": strings.Replace(record("newer", fmt.Sprintf("127.0.0.1:%d", good), `,"wings":2`), `"schema":1`, `"schema":99`, 1),
	} {
		redis.Must("HSET", instancesKey, field, value)
	}
	_, port := startApp(t, "m0", "ams")
	s := startSidecar(t, "m0", "ams", port, "REDIS_URL=redis://"+redis.Addr(), "FLYPROXY_REGISTRY_ALLOWED_NETWORKS=127.0.0.0/8")
	sees(t, 2, s)
	if reply, err := hello(t, s); err != nil || reply.GetInstance() != "newer" {
		t.Errorf("the record of a newer version should serve: %v %v", reply, err)
	}
	_, body := get(t, "http://"+s.admin()+"/metrics")
	for _, reason := range []string{"malformed", "too_large", "network"} {
		if !strings.Contains(body, `flyproxy_registry_rejected_records_total{reason="`+reason+`"}`) {
			t.Errorf("/metrics does not count a record that is %s", reason)
		}
	}
}

func TestAppThatNeverBecomesHealthy(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	app, port := startApp(t, "m0", "ams")
	app.SetServing(false)
	s := startSidecar(t, "m0", "ams", port, "REDIS_URL=redis://"+redis.Addr())
	readySays(t, s, http.StatusOK, true, "app app is not registered", "NOT_SERVING")
	if n := redis.Text("HLEN", instancesKey); n != "0" {
		t.Errorf("%s records", n)
	}
	app.SetServing(true)
	readySays(t, s, http.StatusOK, false)
	app.SetServing(false)
	took := eventually(t, "the record is gone", func() bool { return redis.Text("HLEN", instancesKey) == "0" })
	t.Logf("an unhealthy app was deregistered after %v", took.Round(time.Millisecond))
}

// A crashed app is gone for everybody as soon as its connection breaks, long before its lease ends.
func TestCrashedApp(t *testing.T) { eachEngine(t, crashedApp) }

func crashedApp(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	app, port0 := startApp(t, "m0", "ams")
	_, port1 := startApp(t, "m1", "ams")
	_, port2 := startApp(t, "m2", "ams")
	s0, s1 := startSidecar(t, "m0", "ams", port0, engine, env), startSidecar(t, "m1", "ams", port1, engine, env)
	s2 := startSidecar(t, "m2", "ams", port2, engine, env)
	sees(t, 3, s0, s1, s2)
	app.Stop()
	took := eventually(t, "nobody sees it any more", func() bool { return s1.serving() == 2 && s2.serving() == 2 })
	t.Logf("gone for the other sidecars %v after the crash", took.Round(time.Millisecond))
	calls := startLoad(t, 2*time.Millisecond, s1, s2)
	eventually(t, "a hundred calls", func() bool { return calls.calls.Load() >= 100 })
	calls.stop()
}
