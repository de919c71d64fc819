package redis_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

func inspect(t *testing.T, cfg redis.Config) redis.Inspection {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, err := redis.Inspect(ctx, cfg, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// The commands that an inspection asks the access list for are those that the scripts call, whatever the scripts come to be.
func TestInspectionAsksForWhatTheScriptsCall(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Config{})
	files, err := filepath.Glob("scripts/*.lua")
	if err != nil || len(files) < 6 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	called := regexp.MustCompile(`(?:call\(|, )'([A-Z]{3,})'[,)]`)
	want := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range called.FindAllStringSubmatch(string(text), -1) {
			if m[1] != "LIMIT" && m[1] != "READONLY" { // words of commands and of an error
				want[m[1]] = true
			}
		}
	}
	// A user who may run scripts and nothing else lacks every one of them.
	s.Must("ACL", "SETUSER", "bare", "on", ">pa55", "~*", "&*", "+eval", "+evalsha", "+ping", "+subscribe", "+select", "+hello", "+auth")
	in := inspect(t, redis.Config{Addresses: []string{s.Addr()}, Username: "bare", Password: "pa55"})
	if in.Err != nil || in.Rights.How != "acl_check_cmd" || in.Rights.Scripts != nil {
		t.Fatalf("%+v", in)
	}
	got := map[string]bool{}
	for _, denied := range in.Rights.Denied {
		name, _, _ := strings.Cut(denied, " ")
		got[name] = true
	}
	for name := range want {
		if !got[name] {
			t.Errorf("a script calls %s, and the inspection does not ask for it", name)
		}
	}
	for name := range got {
		if !want[name] {
			t.Errorf("the inspection asks for %s, which no script calls", name)
		}
	}
	if in.ClockErr == nil || in.InfoErr == nil || in.SubscribeErr != nil {
		t.Errorf("clock %v, info %v, subscribe %v; want refused, refused, allowed", in.ClockErr, in.InfoErr, in.SubscribeErr)
	}
}

// However it is asked, the answer is the same.
func TestRightsByEachWay(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Config{})
	all := []any{"ACL", "SETUSER", "", "on", ">pa55", "~flyproxy:*", "&flyproxy:*", "+@all", "-publish", "-zadd", "-set"}
	for how, more := range map[string][]any{
		"acl_check_cmd": nil,
		"ACL DRYRUN":    {"-eval", "-evalsha", "-multi"},
		"MULTI":         {"-eval", "-evalsha", "-acl"},
		"":              {"-eval", "-evalsha", "-acl", "-multi"},
	} {
		t.Run(how, func(t *testing.T) {
			user := "by-" + strings.ToLower(strings.ReplaceAll(how, " ", "-"))
			do := slices.Clone(all)
			do[2] = user
			s.Must(append(do, more...)...)
			in := inspect(t, redis.Config{Addresses: []string{s.Addr()}, Username: user, Password: "pa55"})
			want := "ZADD flyproxy:v1:{default}:leases, SET flyproxy:v1:{default}:version, SET flyproxy:v1:{default}:beat, " +
				"PUBLISH flyproxy:v1:{default}:changes"
			if how == "" {
				want = ""
			}
			if got := strings.Join(in.Rights.Denied, ", "); in.Rights.How != how || got != want {
				t.Errorf("by %q: %s\nwant by %q: %s\n%v", in.Rights.How, got, how, want, in.Rights.Err)
			}
			if (in.Rights.Scripts == nil) != (how == "acl_check_cmd") || (in.Rights.Err == nil) != (how != "") {
				t.Errorf("scripts %v, error %v", in.Rights.Scripts, in.Rights.Err)
			}
		})
	}
}

// An inspection looks and touches nothing: no write is counted, and all keys are as they were.
func TestInspectionWritesNothing(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	f := b.open(t)
	f.register(instance("echo", "m1", "one"), true)
	for _, user := range []string{"default", "no-scripts", "no-acl"} {
		s.Must("ACL", "SETUSER", user, "on", "nopass", "~*", "&*", "+@all")
	}
	s.Must("ACL", "SETUSER", "no-scripts", "-eval")
	s.Must("ACL", "SETUSER", "no-acl", "-eval", "-acl")
	before := state(s)
	for _, user := range []string{"", "no-scripts", "no-acl"} {
		cfg := f.config
		cfg.Username, cfg.Password = user, ""
		if user != "" {
			cfg.Password = "any"
		}
		if in := inspect(t, cfg); in.Err != nil || in.Rights.How == "" || len(in.Rights.Denied) > 0 {
			t.Errorf("%s: %+v", user, in)
		}
	}
	if after := state(s); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// state is all keys with their content, and how many writes there have been.
func state(s *redistest.Server) string {
	var b strings.Builder
	keys, _ := s.Must("KEYS", "*").([]any)
	for _, k := range keys {
		b.WriteString(k.(string) + " " + s.Text("DUMP", k) + "\n")
	}
	for line := range strings.Lines(s.Text("INFO", "persistence")) {
		if strings.HasPrefix(line, "rdb_changes_since_last_save") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	open := redistest.Start(t, redistest.Config{})
	locked := redistest.Start(t, redistest.Config{Password: "secret"})
	locked.Must("ACL", "SETUSER", "nothing", "on", ">pa55", "-@all")
	for name, tc := range map[string]struct {
		cfg  redis.Config
		want redis.Refusal
	}{
		"none":     {redis.Config{Addresses: []string{locked.Addr()}, Password: "secret"}, redis.NotRefused},
		"wrong":    {redis.Config{Addresses: []string{locked.Addr()}, Password: "wr0ng"}, redis.PasswordWrong},
		"missing":  {redis.Config{Addresses: []string{locked.Addr()}}, redis.PasswordMissing},
		"unwanted": {redis.Config{Addresses: []string{open.Addr()}, Password: "secret"}, redis.NotRefused},
		"nothing":  {redis.Config{Addresses: []string{locked.Addr()}, Username: "nothing", Password: "pa55"}, redis.NotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			in := inspect(t, tc.cfg)
			if in.Refusal != tc.want || (in.Err == nil) != (tc.want == redis.NotRefused) {
				t.Errorf("refusal %d, want %d: %v", in.Refusal, tc.want, in.Err)
			}
			if in.Endpoints[0].Open != (name == "unwanted") {
				t.Errorf("open without a password: %v", in.Endpoints[0].Open)
			}
			if in.Err != nil && strings.Contains(in.Err.Error(), "wr0ng") {
				t.Errorf("the error shows the password: %v", in.Err)
			}
		})
	}
}

// What speaks the wrong way is told from what is not there.
func TestWhatAnEndpointSpeaks(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t, redistest.Config{})
	secured := redistest.Start(t, redistest.Config{TLS: true})
	paused := redistest.Start(t, redistest.Config{})
	paused.Pause()
	http := strangeServer(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	withTLS := &redis.TLS{CAFile: secured.CAFile(), ServerName: redistest.ServerName}
	for name, tc := range map[string]struct {
		address     string
		tls         *redis.TLS
		speaks      redis.Speaks
		fails       bool
		certificate bool
	}{
		"plain":               {plain.Addr(), nil, redis.SpeaksAsExpected, false, false},
		"TLS":                 {secured.Addr(), withTLS, redis.SpeaksAsExpected, false, false},
		"TLS to plain":        {plain.Addr(), withTLS, redis.SpeaksPlain, true, false},
		"plain to TLS":        {secured.Addr(), nil, redis.SpeaksTLS, false, false},
		"unknown authority":   {secured.Addr(), &redis.TLS{ServerName: redistest.ServerName}, redis.SpeaksAsExpected, true, true},
		"another name":        {secured.Addr(), &redis.TLS{CAFile: secured.CAFile(), ServerName: "other.test"}, redis.SpeaksAsExpected, true, true},
		"nobody":              {redistest.Refusing(t), nil, redis.SpeaksAsExpected, true, false},
		"silence":             {paused.Addr(), nil, redis.SpeaksNothing, false, false},
		"silence with TLS":    {paused.Addr(), withTLS, redis.SpeaksAsExpected, true, false},
		"another kind of one": {http, nil, redis.SpeaksOther, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := inspect(t, redis.Config{Addresses: []string{tc.address}, TLS: tc.tls, DialTimeout: time.Second, Timeout: time.Second})
			at := in.Endpoints[0]
			if at.Speaks != tc.speaks || (at.Err != nil) != tc.fails || redis.OfCertificate(at.Err) != tc.certificate {
				t.Errorf("%+v", at)
			}
			if at.Ends.IsZero() != (name != "TLS") {
				t.Errorf("the certificate ends at %v", at.Ends)
			}
		})
	}
}

// strangeServer answers whatever it is sent with the same.
func strangeServer(t *testing.T, answer string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			var b [64]byte
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Read(b[:])
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = lis.Close(); <-done })
	return lis.Addr().String()
}

func TestInspectionOfClusterAndSentinel(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.ClusterConfig{})
	in := inspect(t, redis.Config{Addresses: cluster.Addrs(), Mode: redis.Cluster})
	if in.Err != nil || in.SlotErr != nil || in.Info["redis_mode"] != "cluster" || len(in.Rights.Denied) > 0 || in.Rights.How != "acl_check_cmd" {
		t.Errorf("cluster: %+v", in)
	}
	// Of the three nodes one has the keys' slot; the two others say so.
	elsewhere := 0
	for _, address := range cluster.Addrs() {
		if in := inspect(t, redis.Config{Addresses: []string{address}}); in.SlotErr != nil {
			elsewhere++
		}
	}
	if elsewhere != 2 {
		t.Errorf("%d of 3 nodes say that the keys lie elsewhere, want 2", elsewhere)
	}
	sentinel := redistest.StartSentinel(t, redistest.Config{})
	in = inspect(t, redis.Config{Addresses: sentinel.Addrs(), Mode: redis.Sentinel, SentinelMaster: redistest.MasterName})
	if in.Err != nil || in.Info["role"] != "master" || len(in.Endpoints) != 3 || len(in.Pings) == 0 {
		t.Errorf("sentinel: %+v", in)
	}
	in = inspect(t, redis.Config{Addresses: sentinel.Addrs(), Mode: redis.Sentinel, SentinelMaster: "nobody"})
	if in.Err == nil || !strings.Contains(in.Err.Error(), "no master of that name") {
		t.Errorf("unknown master: %v", in.Err)
	}
	in = inspect(t, redis.Config{Addresses: sentinel.Addrs()[:1]})
	if in.Info["redis_mode"] != "sentinel" {
		t.Errorf("a Sentinel in mode standalone: %+v", in)
	}
}
