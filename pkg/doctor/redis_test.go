package doctor_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/doctor"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// fine is what a Redis is said to be with which nothing is wrong.
var fine = []string{"redis.reached", "redis.mode", "redis.latency", "redis.clock", "redis.version", "redis.eviction", "redis.memory", "redis.rights", "redis.cost"}

// but is fine with some IDs in place of others.
func but(instead ...string) []string {
	var out []string
	for _, id := range fine {
		keep := true
		for _, i := range instead {
			keep = keep && i != "-"+id
		}
		if keep {
			out = append(out, id)
		}
	}
	for _, i := range instead {
		if !strings.HasPrefix(i, "-") {
			out = append(out, i)
		}
	}
	return out
}

func TestRedis(t *testing.T) {
	open := redistest.Start(t, redistest.Config{})
	locked := redistest.Start(t, redistest.Config{Password: "s3cret"})
	secured := redistest.Start(t, redistest.Config{TLS: true})
	lru := redistest.Start(t, redistest.Config{Args: []string{"--maxmemory-policy", "allkeys-lru"}})
	limited := redistest.Start(t, redistest.Config{Args: []string{"--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb"}})
	full := redistest.Start(t, redistest.Config{})
	full.Must("CONFIG", "SET", "maxmemory", "1000")
	replica := redistest.Start(t, redistest.Config{Args: []string{"--replicaof", "127.0.0.1 " + lastOf(open.Addr())}})
	nearly := redistest.Start(t, redistest.Config{})
	nearly.Must("SETRANGE", "filler", 40<<20, "x") // beside which what a connection takes is little
	nearly.Must("CONFIG", "SET", "maxmemory", usedMemory(t, nearly)*105/100)
	paused := redistest.Start(t, redistest.Config{})
	paused.Pause()
	locked.Must("ACL", "SETUSER", "nothing", "on", ">pa55", "-@all")
	locked.Must("ACL", "SETUSER", "mute", "on", ">pa55", "~*", "&*", "+@all", "-eval", "-acl", "-multi", "-info")
	// What is advised for a user is enough, and one command less is not.
	for user, less := range map[string]string{"advised": "+info", "no-scripts": "-evalsha", "no-publish": "-publish", "no-channel": "resetchannels"} {
		rule := []any{"ACL", "SETUSER", user, "on", ">pa55"}
		for _, word := range redis.AccessRules(redis.Config{}) {
			rule = append(rule, word)
		}
		locked.Must(append(rule, "+info", less)...)
	}
	at := func(s *redistest.Server) string { return "REDIS_URL=redis://" + s.Addr() }
	as := func(user string) string { return "REDIS_URL=redis://" + user + ":pa55@" + locked.Addr() }
	ca := "FLYPROXY_REGISTRY_REDIS_CA_FILE=" + secured.CAFile()
	name := "FLYPROXY_REGISTRY_REDIS_SERVER_NAME=" + redistest.ServerName
	for _, tc := range []struct {
		what string
		env  []string
		want []string
		says []string // of the last ID
	}{
		{"all is well", []string{at(open)}, fine, nil},
		{"a password", []string{"REDIS_URL=redis://:s3cret@" + locked.Addr()}, fine, nil},
		{"wrong password", []string{"REDIS_URL=redis://:wr0ng@" + locked.Addr()}, []string{"redis.reached", "not-checked", "redis.password-wrong"}, []string{"default user", "REDIS_PASSWORD"}},
		{"no password", []string{at(locked)}, []string{"redis.reached", "not-checked", "redis.password-missing"}, []string{"REDIS_PASSWORD"}},
		{"the user that is advised", []string{as("advised")}, fine, nil},
		{"a user that may not EVALSHA", []string{as("no-scripts")}, but("-redis.rights", "redis.scripts-refused"), []string{"evalsha", "ACL SETUSER no-scripts"}},
		{"a user that may not PUBLISH", []string{as("no-publish")}, but("-redis.rights", "redis.commands-refused"), []string{"PUBLISH flyproxy:v1:{default}:changes"}},
		{"a user without the channel", []string{as("no-channel")}, but("-redis.rights", "redis.commands-refused", "redis.subscribe-refused"), []string{"channel"}},
		{"allkeys-lru", []string{at(lru)}, but("-redis.eviction", "redis.evicts-without-limit"), []string{"allkeys-lru", "noeviction"}},
		{"allkeys-lru with a limit", []string{at(limited)}, but("-redis.eviction", "redis.evicts"), []string{"allkeys-lru", "100 MiB", "noeviction"}},
		{"full", []string{at(full)}, but("-redis.memory", "redis.memory-full"), []string{"refuses writes"}},
		{"nearly full", []string{at(nearly)}, but("-redis.memory", "redis.memory-short"), nil},
		{"stopped", []string{at(paused), "FLYPROXY_REGISTRY_REDIS_TIMEOUT=300ms"}, []string{"not-checked", "redis.silent"}, []string{"answers nothing"}},
		{"no Redis", []string{"REDIS_URL=redis://" + httpServer(t).Addr().String()}, []string{"not-checked", "redis.not-redis"}, []string{"doctor.test, process "}},
		{"a user that may do nothing", []string{as("nothing")}, []string{"redis.reached", "not-checked", "redis.not-allowed"}, []string{"user nothing", "ACL SETUSER nothing"}},
		{"a Redis that tells nothing", []string{as("mute")}, []string{"redis.reached", "redis.latency", "redis.clock", "redis.cost", "redis.untold", "redis.scripts-refused", "redis.rights-unknown"}, nil},
		{"a CA file that is not there", []string{"REDIS_URL=rediss://" + secured.Addr(), "FLYPROXY_REGISTRY_REDIS_CA_FILE=/nowhere.pem"}, []string{"redis.ca-file"}, []string{"/nowhere.pem"}},
		{"TLS", []string{"REDIS_URL=rediss://" + secured.Addr(), ca, name}, but("redis.certificate-ends"), []string{"its certificate ends in"}},
		{"TLS to plaintext", []string{"REDIS_URL=rediss://" + open.Addr(), ca, name}, []string{"not-checked", "redis.speaks-plaintext"}, []string{"redis://"}},
		{"plaintext to TLS", []string{at(secured)}, []string{"not-checked", "redis.speaks-tls"}, []string{"rediss://"}},
		{"another name in the certificate", []string{"REDIS_URL=rediss://" + secured.Addr(), ca, "FLYPROXY_REGISTRY_REDIS_SERVER_NAME=other.test"},
			[]string{"not-checked", "redis.certificate"}, []string{"redis.test", "server_name"}},
		{"an unknown authority", []string{"REDIS_URL=rediss://" + secured.Addr(), name}, []string{"not-checked", "redis.certificate"}, []string{"ca_file"}},
		{"a replica", []string{at(replica)}, but("redis.replica"), []string{lastOf(open.Addr()), "primary"}},
		{"nobody", []string{"REDIS_URL=redis://" + redistest.Refusing(t)}, []string{"not-checked", "redis.refused"}, []string{"REDIS_URL"}},
		{"a name that does not exist", []string{"REDIS_URL=redis://nowhere.invalid"}, []string{"not-checked", "redis.name"}, []string{"nowhere.invalid"}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r := newHost(t, tc.env...).examine(t)
			last := tc.want[len(tc.want)-1]
			expect(t, r, "redis", tc.want...)
			if len(tc.says) > 0 {
				says(t, r, last, tc.says...)
			}
			if last == "redis.scripts-refused" {
				expect(t, r, "registry", "registry.unreadable")
				expect(t, r, "peers", "not-checked")
			}
			for _, secret := range []string{"s3cret", "wr0ng", "pa55"} {
				if strings.Contains(show(t, r), secret) {
					t.Errorf("it shows the password:\n%s", show(t, r))
				}
			}
		})
	}
}

// The line that was called enough let its user take away all that the Redis held. It is run here as it is printed.
func TestAdvisedAccessRuleIsNoMoreThanFlyproxyNeeds(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Must("SET", "other-app", "precious")
	s.Must("ACL", "SETUSER", "fp", "on", ">pa55", "+@all", "~*", "&*", "-publish") // too much, and yet not enough
	env := []string{"REDIS_URL=redis://fp:pa55@" + s.Addr(), "FLYPROXY_REGISTRY_NAMESPACE=games"}
	r := newHost(t, env...).examine(t)
	expect(t, r, "redis", but("-redis.rights", "redis.commands-refused")...)
	advise(t, s, r, "redis.commands-refused", "fp")
	expect(t, newHost(t, env...).examine(t), "redis", "redis.reached", "redis.latency", "redis.clock", "redis.untold", "redis.rights", "redis.cost")
	for _, command := range [][]any{{"FLUSHALL"}, {"FLUSHDB"}, {"SWAPDB", "0", "1"}, {"KEYS", "*"}, {"CLIENT", "KILL", "TYPE", "normal"}, {"GET", "other-app"}} {
		if got := s.Text(append([]any{"ACL", "DRYRUN", "fp"}, command...)...); got == "OK" {
			t.Errorf("%v is allowed", command)
		}
	}

	// The default user is everybody's: it is not cut down, but another advised.
	s.Must("ACL", "SETUSER", "default", "-publish")
	r = newHost(t, "REDIS_URL=redis://"+s.Addr()).examine(t)
	says(t, r, "redis.commands-refused", "REDIS_URL", "redis://flyproxy:<password>@")
	advise(t, s, r, "redis.commands-refused", "flyproxy")
	r = newHost(t, "REDIS_URL=redis://flyproxy:%3Cpassword%3E@"+s.Addr()).examine(t)
	expect(t, r, "redis", "redis.reached", "redis.latency", "redis.clock", "redis.untold", "redis.rights", "redis.cost")
}

// advise runs the ACL line of a finding, which is to be for user.
func advise(t *testing.T, s *redistest.Server, r *doctor.Report, id, user string) {
	t.Helper()
	for _, f := range r.Findings {
		if _, line, ok := strings.Cut(f.Do, "in Redis: "); ok && f.ID == id && strings.HasPrefix(line, "ACL SETUSER "+user+" ") {
			var command []any
			for word := range strings.FieldsSeq(line) {
				command = append(command, word)
			}
			s.Must(command...)
			return
		}
	}
	t.Fatalf("no line for %s in %s\n%s", user, id, show(t, r))
}

func usedMemory(t *testing.T, s *redistest.Server) int {
	t.Helper()
	_, rest, _ := strings.Cut(s.Text("INFO", "memory"), "used_memory:")
	n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func lastOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }

// Redis' clock cannot be moved here, so it is ours that is.
func TestClocks(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	for off, want := range map[time.Duration]string{
		-time.Minute: "1m0", 0: "", 300 * time.Millisecond: "", 5 * time.Second: "behind",
	} {
		h := newHost(t, "REDIS_URL=redis://"+s.Addr())
		h.o.Now = func() time.Time { return time.Now().Add(off) }
		r := h.examine(t)
		if want == "" {
			expect(t, r, "redis", fine...)
			continue
		}
		expect(t, r, "redis", but("-redis.clock", "redis.clock-differs")...)
		says(t, r, "redis.clock-differs", want)
	}
}

func TestRedisModes(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.ClusterConfig{})
	sentinel := redistest.StartSentinel(t, redistest.Config{})
	alone := redistest.Start(t, redistest.Config{})
	list := func(all []string) string { return "FLYPROXY_REGISTRY_REDIS_ADDRESSES=" + strings.Join(all, ",") }
	key := "flyproxy:v1:{default}:instances"
	owner, other := cluster.Owner(key).Addr(), ""
	for _, a := range cluster.Addrs() {
		if a != owner {
			other = a
		}
	}
	for _, tc := range []struct {
		what string
		env  []string
		want []string
	}{
		{"a cluster", []string{list(cluster.Addrs())}, fine},
		{"the node that has our keys", []string{"REDIS_URL=redis://" + owner}, but("-redis.mode", "redis.cluster-in-part")},
		{"another node", []string{"REDIS_URL=redis://" + other}, but("-redis.mode", "redis.is-cluster")},
		{"no cluster", []string{"REDIS_URL=redis://" + alone.Addr(), "FLYPROXY_REGISTRY_REDIS_MODE=cluster"},
			[]string{"redis.reached", "redis.not-cluster", "not-checked"}},
		{"Sentinels", []string{list(sentinel.Addrs()), "FLYPROXY_REGISTRY_REDIS_SENTINEL_MASTER=" + redistest.MasterName}, fine},
		{"Sentinels that know no such master", []string{list(sentinel.Addrs()), "FLYPROXY_REGISTRY_REDIS_SENTINEL_MASTER=nobody"},
			[]string{"redis.reached", "redis.failed", "not-checked"}},
	} {
		t.Run(tc.what, func(t *testing.T) { expect(t, newHost(t, tc.env...).examine(t), "redis", tc.want...) })
	}
	r := newHost(t, "REDIS_URL=redis://"+sentinel.Addrs()[0]).examine(t)
	says(t, r, "redis.is-sentinel", "sentinel.master")
}

// What is examined stays as it was, byte for byte.
func TestNothingIsWritten(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	_, lis := startApp(t)
	cfg := redis.Config{Addresses: []string{s.Addr()}}
	register(t, cfg, instance("m0", lis.Addr().String()), instance("m1", lis.Addr().String()))
	state := func() string {
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
	before := state()
	r := newHost(t, "REDIS_URL=redis://"+s.Addr(), "GRPC_PORT="+port(lis)).examine(t)
	expect(t, r, "peers", "peers.reached")
	expect(t, r, "record", "record.left-over")
	if after := state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
