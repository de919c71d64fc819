package config

import (
	"net/url"
	"strconv"
	"strings"
)

const redisKeys = "registry.redis."

// resolveRedis folds the URL into the keys that it speaks of. A URL is whole: what it does not say (a password, say) it says
// is absent. It beats the single keys of its own layer and of those below; a single key of a higher layer beats it.
func (l *loader) resolveRedis(r *Redis) {
	r.Host = strings.TrimSuffix(strings.TrimPrefix(r.Host, "["), "]")
	if r.Host != "" {
		if wrong := checkHost(r.Host); wrong != nil {
			l.refused[redisKeys+"host"] = true
			l.faultAt(redisKeys+"host", r.Host, wrong.problem, "write a host name or an IP address; the port is a key of its own")
		}
	}
	if r.URL != "" {
		if from, wrong := parseRedisURL(r.URL); wrong != nil {
			l.refused[redisKeys+"url"] = true
			l.faultAt(redisKeys+"url", r.URL, wrong.problem, wrong.fix)
		} else {
			l.applyURL(r, from)
		}
	}
	l.chooseSeeds(r)
	l.checkRedis(r)
}

func (l *loader) applyURL(r *Redis, from Redis) {
	by := l.origins[redisKeys+"url"]
	if own := l.origins[redisKeys+"tls"]; r.TLS && !from.TLS && own.level < by.level {
		// The usual rule, but nobody should lose encryption without a word.
		l.warn(redisKeys+"tls", "not used: %s says redis://, which is without TLS", by.source)
	}
	urlKey(l, by, "host", &r.Host, from.Host)
	urlKey(l, by, "port", &r.Port, from.Port)
	urlKey(l, by, "username", &r.Username, from.Username)
	urlKey(l, by, "password", &r.Password, from.Password)
	urlKey(l, by, "db", &r.DB, from.DB)
	urlKey(l, by, "tls", &r.TLS, from.TLS)
	if r.userAlone(l.origins) {
		l.warn(redisKeys+"url", "it has a user and no password; a password alone is written redis://:password@host")
	}
}

// userAlone tells whether the URL names a user and nothing gives a password. Then that user is probably the password.
func (r *Redis) userAlone(origins map[string]origin) bool {
	return r.Username != "" && r.Password == "" && r.URL != "" && origins[redisKeys+"username"] == origins[redisKeys+"url"]
}

// urlKey puts the URL's word in place of a single key's, unless that one stands in a higher layer.
func urlKey[T comparable](l *loader, by origin, name string, value *T, fromURL T) {
	path := redisKeys + name
	own := l.origins[path]
	if own.level > by.level {
		return
	}
	if own.level == by.level && *value != fromURL {
		l.warn(path, "not used: %s is set too, says otherwise, and wins", by.source)
	}
	*value = fromURL
	l.origins[path] = by
}

// chooseSeeds settles between host and addresses: the higher layer wins, in the same layer a URL, then addresses.
func (l *loader) chooseSeeds(r *Redis) {
	if len(r.Addresses) == 0 || r.Host == "" {
		return
	}
	host, addresses := l.origins[redisKeys+"host"], l.origins[redisKeys+"addresses"]
	switch {
	case host.level > addresses.level, host.level == addresses.level && host == l.origins[redisKeys+"url"]:
		l.warn(redisKeys+"addresses", "not used: %s names a host, and wins", host.source)
		r.Addresses = nil
	case host.level == addresses.level:
		l.warn(redisKeys+"host", "not used: %s names addresses, and wins", addresses.source)
		fallthrough
	default:
		r.Host = ""
		delete(l.origins, redisKeys+"host")
	}
}

func (l *loader) checkRedis(r *Redis) {
	for _, address := range r.Addresses {
		if _, wrong := parseAddress(address, false); wrong != nil {
			l.refused[redisKeys+"addresses"] = true
			l.faultAt(redisKeys+"addresses", address, wrong.problem, wrong.fix)
		}
	}
	if r.Mode == "auto" {
		switch {
		case r.Sentinel.Master != "":
			r.Mode = RedisSentinel
		case len(r.Addresses) > 1:
			r.Mode = RedisCluster
		default:
			r.Mode = RedisStandalone
		}
		l.resolved(redisKeys + "mode")
	}
	switch {
	case r.Mode == RedisSentinel && r.Sentinel.Master == "" && !l.refused[redisKeys+"sentinel.master"]:
		l.faultAt(redisKeys+"sentinel.master", "", "missing: sentinels are asked for a master by its name",
			"set it to the name in sentinel.conf")
	case r.Mode != RedisSentinel && r.Sentinel.Master != "":
		l.faultAt(redisKeys+"sentinel.master", r.Sentinel.Master, "the mode is "+r.Mode,
			"set registry.redis.mode to sentinel, or remove the master")
	}
	if r.Mode == RedisStandalone && len(r.Addresses) > 1 {
		l.faultAt(redisKeys+"addresses", strings.Join(r.Addresses, ","), "several addresses, and the mode is standalone",
			"keep one, or set registry.redis.mode to cluster or sentinel")
	}
	if r.Mode == RedisCluster && r.DB != 0 {
		l.faultAt(redisKeys+"db", strconv.Itoa(r.DB), "a Redis Cluster has only database 0", "write 0")
	}
	if !r.TLS {
		for _, k := range []struct{ name, value string }{{"ca_file", r.CAFile}, {"server_name", r.ServerName}} {
			if k.value != "" {
				l.warn(redisKeys+k.name, "not used: TLS is off (registry.redis.tls, or a rediss:// URL)")
			}
		}
	}
}

// resolved notes that auto was replaced by what it comes to.
func (l *loader) resolved(path string) {
	o := l.origins[path]
	o.source += " (auto)"
	l.origins[path] = o
}

// parseRedisURL reads redis:// and rediss:// URLs (https://www.iana.org/assignments/uri-schemes/prov/redis). Its faults never
// quote the URL: the parser's own errors do, and where a password has a bare / or # they quote the password.
func parseRedisURL(s string) (Redis, *bad) {
	const fix = "write redis://[user[:password]@]host[:port][/db], rediss:// for TLS"
	u, err := url.Parse(s)
	if err != nil {
		return Redis{}, &bad{"not a URL", fix + "; in a password, / ? # % @ : are written %2F %3F %23 %25 %40 %3A"}
	}
	r := Redis{Host: u.Hostname(), Port: 6379, Username: u.User.Username(), TLS: u.Scheme == "rediss"}
	r.Password, _ = u.User.Password()
	switch {
	case u.Scheme != "redis" && u.Scheme != "rediss":
		return r, &bad{"not a Redis URL", fix}
	case r.Host == "" || checkHost(r.Host) != nil:
		return r, &bad{"the URL names no host", fix}
	case u.Fragment != "":
		return r, &bad{"the URL has a # part", fix + "; in a password, # is written %23"}
	}
	for name := range u.Query() {
		if name != "family" { // for clients that must be told to use IPv6; here both are tried
			return r, &bad{"the URL has parameters", fix + "; what they say has keys of its own below registry.redis"}
		}
	}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return r, &bad{"the URL's port is not one from 1 to 65535", fix}
		}
		r.Port = int(port)
	}
	if text := strings.Trim(u.Path, "/"); text != "" {
		db, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return r, &bad{"the URL's path is not the number of a database", fix}
		}
		r.DB = int(db)
	}
	return r, nil
}
