package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// certificateSoon is how long before its end a certificate is spoken of, unless it lives so shortly that a quarter of its life is less.
const certificateSoon = 14 * 24 * time.Hour

// registryIsRedis tells whether there is a Redis to look at.
func (e *examination) registryIsRedis() bool {
	return e.cfg.Registry.Store == config.StoreRedis || e.cfg.Registry.Store == config.StoreEmbedded
}

// redis looks at the Redis of the registry.
func (e *examination) redis(ctx context.Context, f *findings) {
	switch {
	case e.cfg.Registry.Store == config.StoreStatic:
		f.add(redisNone, "", "the registry is a list in the configuration (registry.static): there is no Redis", "")
		return
	case !e.registryIsRedis() || len(sidecar.RedisConfig(e.cfg).Addresses) == 0:
		f.skip("", "the configuration names no Redis")
		return
	}
	cfg := sidecar.RedisConfig(e.cfg)
	in, err := redis.Inspect(ctx, cfg, e.o.Now)
	if err != nil {
		e.noRedis = true
		f.add(redisCAFile, "registry.redis", err.Error(), "set registry.redis.ca_file to a readable PEM file")
		return
	}
	reached := 0
	for i := range in.Endpoints {
		if e.endpoint(f, &in.Endpoints[i], late(ctx)) {
			reached++
		}
	}
	if in.Err != nil {
		e.refused(f, &in, reached > 0, late(ctx))
		e.noRedis = true
		f.skip("", "Redis answers no command: latency, clock, version, eviction, memory, permissions")
		return
	}
	s := server{f: f, e: e, in: &in, configured: cfg.Mode}
	s.examine()
	f.add(redisCost, "", e.cost(), "")
}

// endpoint says what is wrong with one address, or that it is reached.
func (e *examination) endpoint(f *findings, at *redis.Endpoint, late bool) (reached bool) {
	err, r := at.Err, e.cfg.Registry.Redis
	var name *net.DNSError
	switch {
	case at.Speaks == redis.SpeaksPlain:
		f.add(redisSpeaksPlain, at.Address, "TLS is configured, and this Redis speaks plaintext",
			"write redis:// in place of rediss:// (registry.redis.tls), or turn TLS on in Redis; inside 6PN plaintext is usual")
	case at.Speaks == redis.SpeaksTLS:
		f.add(redisSpeaksTLS, at.Address, "this Redis speaks TLS, and plaintext is configured", "write rediss:// in place of redis:// (registry.redis.tls)")
	case at.Speaks == redis.SpeaksOther:
		f.add(redisNotRedis, at.Address, "what answers is no Redis"+e.localOwner(at.Address), "correct REDIS_URL, or REDIS_HOST and REDIS_PORT")
	case late && err != nil:
		f.skip(at.Address, "time ran out")
	case at.Speaks == redis.SpeaksNothing:
		f.add(redisSilent, at.Address, "accepts connections and answers nothing", "see whether its process hangs or is stopped; a proxy in between may have lost it")
	case errors.As(err, &name):
		f.add(redisName, at.Address, lookupFault(name), nameFix(name))
	case errors.Is(err, syscall.ECONNREFUSED):
		do := "start it, or correct REDIS_URL, or REDIS_HOST and REDIS_PORT"
		if e.cfg.Registry.Store == config.StoreEmbedded {
			do = "start flyproxy: the first one on this host runs the embedded Redis"
		}
		f.add(redisRefused, at.Address, plain(err), do)
	case redis.OfCertificate(err):
		found, do := certificateFault(err, "registry.redis.ca_file", "registry.redis.server_name")
		f.add(redisCertificate, at.Address, found, do)
	case err != nil:
		f.add(redisUnreachable, at.Address, plain(err), e.unreachableFix(at.Address))
	default:
		f.add(redisReached, at.Address, "answers"+tlsWord(r.TLS), "")
		e.beyond(f, at)
		return true
	}
	return false
}

func tlsWord(on bool) string {
	if on {
		return " over TLS"
	}
	return " in plaintext"
}

// beyond says what else is to be known of an address that answers.
func (e *examination) beyond(f *findings, at *redis.Endpoint) {
	if left := at.Ends.Sub(e.o.Now()); !at.Ends.IsZero() && left < min(certificateSoon, at.Ends.Sub(at.Begins)/4) {
		f.add(redisCertificateEnds, at.Address, fmt.Sprintf("its certificate ends in %s, on %s", left.Round(time.Minute), at.Ends.Format(time.DateOnly)),
			"renew it: from then on no flyproxy can reach Redis")
	}
	host, _, _ := net.SplitHostPort(at.Address)
	ip, err := netip.ParseAddr(host)
	if local := host == "localhost" || err == nil && ip.IsLoopback(); at.Open && !local && e.cfg.Registry.Store == config.StoreRedis {
		f.add(redisOpen, at.Address, "it asks for no password: who reaches it can register instances and read what calls go where",
			"set one (requirepass, or an ACL user); registry.signing_key keeps foreign records out as well")
	}
}

func (e *examination) localOwner(address string) string {
	host, _, _ := net.SplitHostPort(address)
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return e.whoHas(address)
	}
	return ""
}

func nameFix(err *net.DNSError) string {
	if err.IsNotFound {
		return "correct the host in REDIS_URL or REDIS_HOST; a name that ends in .internal or .upstash.io resolves on Fly only"
	}
	return "see /etc/resolv.conf: on Fly the resolver is fdaa::3; try again, look-ups fail now and then"
}

func (e *examination) unreachableFix(address string) string {
	host, _, _ := net.SplitHostPort(address)
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() && e.cfg.Fly.OnFly {
		return "on 6PN there is IPv6 only: use the name that the Redis has there, such as <app>.internal or fly-<name>.upstash.io"
	}
	return "see that it listens on an address that is reached from here ([::] on 6PN, not 127.0.0.1), and that no firewall is between"
}

// refused says why Redis answers no command although it may be reached.
func (e *examination) refused(f *findings, in *redis.Inspection, reached, late bool) {
	r := e.cfg.Registry.Redis
	user := "user " + r.Username
	if r.Username == "" {
		user = "the default user"
	}
	switch {
	case in.Refusal == redis.PasswordMissing:
		f.add(redisNoPassword, "", "it wants a password, and none is configured", "set REDIS_PASSWORD, or write it into REDIS_URL: redis://:password@host:6379")
	case in.Refusal == redis.PasswordWrong:
		f.add(redisWrongPassword, "", "it refuses user and password ("+user+")",
			"set REDIS_PASSWORD, or the one in REDIS_URL, to what Redis has; in a URL, write / ? # % @ : as %2F %3F %23 %25 %40 %3A")
	case in.Refusal == redis.PasswordUnwanted:
		f.add(redisUnwantedPassword, "", "a password is configured, and this Redis has none", "take REDIS_PASSWORD away, or set one in Redis (requirepass)")
	case in.Refusal == redis.NotAllowed:
		f.add(redisNotAllowed, "", user+" is known, and may not even PING", aclFix(e.cfg))
	case strings.Contains(in.Err.Error(), "cluster support disabled"):
		f.add(redisNotCluster, "registry.redis.mode", "the mode is cluster, and this Redis is none", "set registry.redis.mode to standalone, with one address")
	case !reached:
		// The addresses have said it.
	case late:
		f.skip("", "time ran out before Redis answered a PING")
	default:
		f.add(redisFailed, "", strings.TrimPrefix(in.Err.Error(), "ping: "), "see its log; LOADING and MASTERDOWN pass by themselves")
	}
}

// aclFix is the rule that gives a user what flyproxy needs. It takes all else away, which is not to happen to the default user: that one
// is everybody's.
func aclFix(cfg *config.Config) string {
	user, rules := cfg.Registry.Redis.Username, strings.Join(redis.AccessRules(sidecar.RedisConfig(cfg)), " ")
	if user == "" || user == "default" {
		return "give flyproxy a user of its own, and write it into REDIS_URL (redis://flyproxy:<password>@…); in Redis: ACL SETUSER flyproxy on ><password> " + rules
	}
	return "have no other program use this user, as this takes all else from it; in Redis: ACL SETUSER " + user + " " + rules
}

// The price of the hosted Redis on Fly, in dollars for each 100,000 commands (https://fly.io/docs/upstash/redis/, November 2026).
const dollars = 0.20

// cost is what the beats of a month come to.
func (e *examination) cost() string {
	const month = 30 * 24 * time.Hour
	every := e.cfg.Registration.Interval
	beats := float64(month) / float64(every)
	quiet := float64(month / time.Minute)
	text := fmt.Sprintf("one beat every %s is %s commands in 30 days for each Machine, about $%.2f where 100,000 commands cost $%.2f; ",
		every, thousands(beats), beats/1e5*dollars, dollars)
	return text + fmt.Sprintf("its watch adds up to %s PINGs where nothing changes ($%.2f)", thousands(quiet), quiet/1e5*dollars)
}

func thousands(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
