package redis_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{Password: "secret"})
	s.Must("ACL", "SETUSER", "flyproxy", "on", ">pa55", "~flyproxy:*", "&flyproxy:*", "+@all")
	s.Must("ACL", "SETUSER", "mute", "on", ">pa55", "~flyproxy:*", "resetchannels", "+@all")
	s.Must("ACL", "SETUSER", "elsewhere", "on", ">pa55", "~other:*", "&*", "+@all")
	named := func(user, password string) func(*redis.Config) {
		return func(cfg *redis.Config) { cfg.Username, cfg.Password = user, password }
	}
	f := b.open(t, named("flyproxy", "pa55"))
	w := f.watch()
	f.register(instance("echo", "m1", "one"), true)
	w.next()

	for name, change := range map[string]func(*redis.Config){
		"wrong password": named("", "wr0ng"), "no password": named("", ""), "unknown user": named("nobody", "pa55"),
		"keys not allowed": named("elsewhere", "pa55"), "channel not allowed": named("mute", "pa55"),
	} {
		t.Run(name, func(t *testing.T) {
			watched := make(chan error, 100)
			f := b.open(t, change, func(cfg *redis.Config) {
				cfg.Observe = func(op string, _ time.Duration, err error) {
					if op == "watch" {
						watched <- err
					}
				}
			})
			err := f.registerError(instance("echo", "m1", "one"), true)
			mustSay(t, err, registry.ErrAuth)
			if password := f.config.Password; password != "" && err != nil && strings.Contains(err.Error(), password) {
				t.Errorf("the error shows the password: %v", err)
			}
			if name == "keys not allowed" {
				return // a channel is allowed
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() { defer close(ended); _ = f.Watch(ctx, func(registry.Change) {}) }()
			mustSay(t, <-watched, registry.ErrAuth)
			cancel()
			<-ended
		})
	}
	if n := s.Must("EXISTS", "flyproxy:v1:{TestCredentials.channel_not_allowed}:instances"); n != int64(0) {
		t.Error("a user who may not publish left half of a registration")
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for name, addr := range map[string]string{"refused": redistest.Refusing(t), "mute": mute.Addr().String(), "no such name": "redis.invalid:6379"} {
		for _, mode := range []redis.Mode{redis.Standalone, redis.Sentinel, redis.Cluster} {
			t.Run(name+"/"+string(mode), func(t *testing.T) {
				t.Parallel()
				b := backend{config: redis.Config{Addresses: []string{addr}, Mode: mode, SentinelMaster: "x"}}
				f := b.open(t, quick)
				var wg sync.WaitGroup
				for op, run := range map[string]func() error{
					"register":   func() error { return f.registerError(instance("echo", "m1", "one"), true) },
					"deregister": func() error { return f.Deregister(t.Context(), registry.Key{Service: "a", ID: "b"}, "one") },
					"beat":       func() error { _, err := f.Beat(t.Context(), registry.Beat{Lease: lease}); return err },
					"snapshot":   func() error { _, err := f.Snapshot(t.Context()); return err },
					"loads":      func() error { _, err := f.Loads(t.Context()); return err },
				} {
					wg.Go(func() {
						began := time.Now()
						mustSay(t, run(), registry.ErrUnavailable)
						within(t, op, began)
					})
				}
				wg.Wait()
			})
		}
	}
}

func TestOutOfMemoryLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	f := b.open(t)
	f.register(instance("echo", "m1", "one"), true)
	version := f.snapshot().Version
	s.Must("CONFIG", "SET", "maxmemory", "1")
	mustSay(t, f.registerError(instance("echo", "m2", "one"), true), registry.ErrUnavailable, "OOM")
	f.expect("echo/m1") // reading is no writing
	if got := f.snapshot().Version; got != version {
		t.Errorf("the version went from %d to %d", version, got)
	}
	if f.number("ZCARD", f.key("leases")) != 1 {
		t.Error("a refused registration left a lease")
	}
}

func TestNewFindsFaults(t *testing.T) {
	t.Parallel()
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	one := []string{"127.0.0.1:6379"}
	for want, cfg := range map[string]redis.Config{
		"no address":           {},
		"not host:port":        {Addresses: []string{"redis"}},
		"mode standalone":      {Addresses: []string{"a:1", "b:1"}},
		"name of the master":   {Addresses: one, Mode: redis.Sentinel},
		"database 3":           {Addresses: one, Mode: redis.Cluster, DB: 3},
		`redis mode "ring"`:    {Addresses: one, Mode: "ring"},
		`namespace "a{b}"`:     {Addresses: one, Namespace: "a{b}"},
		"no such file":         {Addresses: one, TLS: &redis.TLS{CAFile: filepath.Join(t.TempDir(), "none")}},
		"no certificate in it": {Addresses: one, TLS: &redis.TLS{CAFile: notPEM}},
	} {
		if _, err := redis.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("for %+v the error is %v, want one with %q", cfg, err, want)
		}
	}
}

func TestTLSIsVerified(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{TLS: true})
	for name, with := range map[string]*redis.TLS{
		"unknown authority": {ServerName: redistest.ServerName},
		"wrong name":        {CAFile: s.CAFile(), ServerName: "other.test"},
	} {
		f := b.open(t, quick, func(cfg *redis.Config) { cfg.TLS = with })
		_, err := f.Snapshot(t.Context())
		mustSay(t, err, registry.ErrUnavailable, "certificate")
		if t.Failed() {
			t.Log(name)
		}
	}
	f := b.open(t, quick, func(cfg *redis.Config) { cfg.TLS = &redis.TLS{CAFile: s.CAFile()} }) // by the address that is dialled
	f.snapshot()
}
