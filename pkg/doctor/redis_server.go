package doctor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

const (
	// slowRedis is a round trip that is too long for a Redis of one's own region, which costs a start and a registration several.
	slowRedis = 100 * time.Millisecond
	// clockOff is a difference of clocks that no exchange of messages explains, and that people would notice in ages and logs.
	clockOff = 2 * time.Second
	// memoryShort is the share of maxmemory from which on memory is called short.
	memoryShort = 0.9
)

// server says what an inspection has found of a Redis that answers.
type server struct {
	f          *findings
	e          *examination
	in         *redis.Inspection
	configured redis.Mode
}

func (s *server) examine() {
	s.mode()
	s.latency()
	s.clock()
	if s.in.Info == nil {
		s.f.add(redisUntold, "INFO", "it does not tell: "+clip(s.in.InfoErr.Error())+"; version, mode, eviction and memory are not known",
			"if this is a Redis of yours, allow +info to see more here; flyproxy itself does without")
	} else {
		s.version()
		s.replica()
		s.eviction()
		s.memory()
	}
	s.rights()
}

func (s *server) mode() {
	said, cluster := s.in.Info["redis_mode"], s.configured == redis.Cluster
	switch {
	case said == "sentinel":
		s.f.add(redisIsSentinel, "registry.redis.mode", "this is a Sentinel, and the mode is "+string(s.configured),
			"set registry.redis.sentinel.master to the name of the primary, and registry.redis.addresses to those of the Sentinels")
	case s.in.SlotErr != nil:
		s.f.add(redisIsCluster, "registry.redis.mode", "this is a node of a Redis Cluster that has not our keys, and the mode is "+string(s.configured)+": "+s.in.SlotErr.Error(),
			"set registry.redis.mode to cluster, and registry.redis.addresses to some of its nodes")
	case said == "cluster" && !cluster:
		s.f.add(redisClusterAlone, "registry.redis.mode", "this is a node of a Redis Cluster, and the mode is "+string(s.configured)+
			": it has our keys now, and may not after the next resharding or failover", "set registry.redis.mode to cluster")
	case said != "":
		s.f.add(redisMode, "", "mode "+string(s.configured), "")
	}
}

func (s *server) latency() {
	m := median(s.in.Pings)
	text := fmt.Sprintf("round trip %s (median of %d PINGs)", short(m), len(s.in.Pings))
	if m < slowRedis {
		s.f.add(redisLatency, "", text, "")
		return
	}
	s.f.add(redisSlow, "", text+": calls do not wait for it, but registrations, withdrawals and starts do",
		"use a Redis in the region where most of the Machines are")
}

func (s *server) clock() {
	if s.in.ClockErr != nil {
		return // the permissions say so
	}
	d, unsure := s.in.Clock, s.in.ClockWithin
	if d.Abs()-unsure < clockOff {
		s.f.add(redisClock, "", fmt.Sprintf("its clock and ours differ by %s, within %s", short(d.Abs()), short(unsure)), "")
		return
	}
	ahead := "ahead of"
	if d < 0 {
		ahead = "behind"
	}
	s.f.add(redisClockDiffers, "", fmt.Sprintf("its clock is %s %s ours; leases go by Redis' clock alone and are right, but ages, logs and the "+
		"validity of certificates go by ours", d.Abs().Round(time.Millisecond), ahead),
		"find out which is wrong: after a suspend a Machine's clock may lag for seconds; if it stays, restart the Machine")
}

// version: the scripts use ZADD GT, which came with 6.2.
func (s *server) version() {
	said := s.in.Info["redis_version"]
	major, rest, _ := strings.Cut(said, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	switch {
	case errA != nil || errB != nil:
		s.f.add(redisUntold, "redis_version", "it does not tell its version", "")
	case a < 6 || a == 6 && b < 2:
		s.f.add(redisOld, "", "Redis "+said+": flyproxy's scripts need 6.2", "use a newer Redis")
	default:
		s.f.add(redisVersion, "", "Redis "+said, "")
	}
}

func (s *server) replica() {
	if s.in.Info["role"] != "slave" {
		return
	}
	s.f.add(redisReplica, "", fmt.Sprintf("a replica, of %s:%s: it refuses writes, or loses them", s.in.Info["master_host"], s.in.Info["master_port"]),
		"set REDIS_URL to the primary; where that changes, use Sentinel (registry.redis.sentinel.master)")
}

// eviction: no key of the registry has a time to live, so volatile-* policies leave them alone.
func (s *server) eviction() {
	policy, limit := s.in.Info["maxmemory_policy"], s.number("maxmemory")
	switch {
	case policy == "":
		s.f.add(redisUntold, "maxmemory_policy", "it does not tell whether it evicts keys", "see its provider's page: eviction should be off")
	case !strings.HasPrefix(policy, "allkeys-"):
		s.f.add(redisKeeps, "maxmemory-policy", policy+": the registry's keys, which have no time to live, are not evicted", "")
	case limit == 0:
		s.f.add(redisMayEvict, "maxmemory-policy", policy+", and no maxmemory: nothing is evicted as long as there is no limit",
			"set maxmemory-policy to noeviction or volatile-lru before a limit is set")
	default:
		s.f.add(redisEvicts, "maxmemory-policy", fmt.Sprintf("%s with maxmemory %s: when memory runs short Redis may drop all instances at once. Calls "+
			"go on, and all register again within a beat, but a flyproxy that starts in between knows nobody", policy, size(limit)),
			"set maxmemory-policy to noeviction or volatile-lru; at a provider, turn eviction off")
	}
}

func (s *server) memory() {
	used, limit := s.number("used_memory"), s.number("maxmemory")
	if limit == 0 {
		s.f.add(redisMemory, "", size(used)+" used, no maxmemory", "")
		return
	}
	share := float64(used) / float64(limit)
	text := fmt.Sprintf("%s of %s used (%.0f %%)", size(used), size(limit), share*100)
	switch {
	case share >= 1 && !strings.HasPrefix(s.in.Info["maxmemory_policy"], "allkeys-"):
		s.f.add(redisMemoryFull, "", text+": it refuses writes, so nobody can register or beat", "raise maxmemory, or move what else is in it")
	case share >= memoryShort:
		s.f.add(redisMemoryShort, "", text, "raise maxmemory: when it is full, writes are refused or keys dropped, as maxmemory-policy says")
	default:
		s.f.add(redisMemory, "", text, "")
	}
}

func (s *server) number(name string) int64 {
	n, _ := strconv.ParseInt(s.in.Info[name], 10, 64)
	return n
}

func (s *server) rights() {
	r := s.in.Rights
	if r.Scripts != nil {
		s.f.add(redisScriptsRefused, "EVALSHA, EVAL", "scripts may not be run, and all that flyproxy does is a script: "+clip(r.Scripts.Error()), aclFix(s.e.cfg))
	}
	switch {
	case len(r.Denied) > 0:
		s.f.add(redisCommandsRefused, "", "flyproxy's scripts may not use "+strings.Join(r.Denied, ", "), aclFix(s.e.cfg))
	case r.How == "":
		s.f.add(redisRightsUnknown, "", "this Redis does not tell what the user may do (redis.acl_check_cmd, ACL DRYRUN, MULTI)",
			"see whether flyproxy registers: if the user lacks a right, its log and registry below say so")
	case r.Scripts == nil && s.in.SubscribeErr == nil:
		s.f.add(redisRights, "", "all commands of flyproxy's scripts and its subscription are allowed (asked by "+r.How+")", "")
	}
	if s.in.SubscribeErr != nil {
		s.f.add(redisSubscribeRefused, "SUBSCRIBE", "changes cannot be heard: "+clip(s.in.SubscribeErr.Error()), aclFix(s.e.cfg))
	}
}

// short is a time with a sensible number of digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// clip shortens what came from outside.
func clip(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
