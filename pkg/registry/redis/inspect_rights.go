package redis

import (
	"context"
	"errors"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// Rights are what the user may do, of what the scripts and the watch need.
type Rights struct {
	// Scripts is why EVALSHA or EVAL is refused; nil where both are allowed.
	Scripts error
	// Denied are the commands that are refused, in the order of the scripts' use, with the key or channel as the name of it.
	Denied []string
	// How is the way in which Denied was found out: "acl_check_cmd", "ACL DRYRUN" or "MULTI"; empty where none works, which Err explains.
	How string
	Err error
}

// needed are the commands that the scripts call, in forms that an access list can judge and that, should one ever be run, write
// nothing: a field without its value, a score that is no number, an option that does not exist, a name that no record has. A test
// compares them with the scripts.
func (s *Store) needed() [][]any {
	instances, leases, load, version, beat := s.keys[0], s.keys[1], s.keys[2], s.keys[3], s.keys[4]
	all := [][]any{
		{"TIME"}, {"HGET", instances, "f"}, {"HMGET", instances, "f"}, {"HKEYS", instances}, {"HEXISTS", instances, "f"},
		{"HLEN", instances}, {"HSTRLEN", instances, "f"}, {"HSET", instances, "f", "v", "odd"}, {"HDEL", instances, ""},
		{"ZADD", leases, "none", "f"}, {"ZREM", leases, ""}, {"ZCARD", leases}, {"ZRANGE", leases, "0", "0"},
		{"ZRANGEBYSCORE", leases, "0", "0"},
		{"HSET", load, "f", "v", "odd"}, {"HMGET", load, "f"}, {"HDEL", load, ""}, {"HLEN", load}, {"HKEYS", load}, {"HGETALL", load},
		{"GET", version}, {"SET", version, "0", "none"}, {"GET", beat}, {"SET", beat, "0", "none"}, {"PUBLISH", s.channel, ""},
	}
	for _, key := range s.keys[:5] {
		all = append(all, []any{"TYPE", key})
	}
	return all
}

// named is a command as people are told of it.
func named(command []any) string {
	if len(command) == 1 {
		return command[0].(string)
	}
	return command[0].(string) + " " + command[1].(string)
}

// rights asks in the ways that there are, until one works. None of them runs any of the commands.
func (s *Store) rights(ctx context.Context, node *goredis.Client, user string) Rights {
	var r Rights
	r.Scripts = scriptsRefused(ctx, node)
	commands := s.needed()
	for _, way := range []struct {
		how string
		ask func() ([]string, error)
	}{
		{"acl_check_cmd", func() ([]string, error) { return s.askScript(ctx, node, commands) }},
		{"ACL DRYRUN", func() ([]string, error) { return askDryRun(ctx, node, user, commands) }},
		{"MULTI", func() ([]string, error) { return askMulti(ctx, node, commands) }},
	} {
		denied, err := way.ask()
		if err == nil {
			r.How, r.Denied, r.Err = way.how, denied, nil
			return r
		}
		r.Err = errors.Join(r.Err, err)
	}
	return r
}

// scriptsRefused tells why scripts may not be run. An access list is asked before the script is looked up or compiled, so a digest of
// none and a text that is no script do for the question.
func scriptsRefused(ctx context.Context, node *goredis.Client) error {
	err := node.EvalSha(ctx, strings.Repeat("0", 40), nil).Err()
	if err != nil && !goredis.HasErrorPrefix(err, "NOSCRIPT") {
		return err
	}
	if err := node.Eval(ctx, "(", nil).Err(); goredis.IsPermissionError(err) || goredis.HasErrorPrefix(err, "NOPERM") ||
		err != nil && strings.Contains(err.Error(), "unknown command") {
		return err
	}
	return nil
}

// askScript has a script ask for all commands (redis.acl_check_cmd, since Redis 7). It needs no right but the one to run scripts.
func (s *Store) askScript(ctx context.Context, node *goredis.Client, commands [][]any) ([]string, error) {
	const script = `local out, at = {}, 1
while at <= #ARGV do
  local size = tonumber(ARGV[at])
  out[#out + 1] = redis.acl_check_cmd(unpack(ARGV, at + 1, at + size)) and 1 or 0
  at = at + size + 1
end
return out`
	var args []any
	for _, c := range commands {
		args = append(append(args, len(c)), c...)
	}
	reply, err := node.Eval(ctx, script, s.keys, args...).Int64Slice()
	if err != nil {
		return nil, err
	}
	if len(reply) != len(commands) {
		return nil, errors.New("acl_check_cmd: not as many answers as questions")
	}
	var denied []string
	for i, allowed := range reply {
		if allowed == 0 {
			denied = append(denied, named(commands[i]))
		}
	}
	return denied, nil
}

// askDryRun asks ACL DRYRUN (since Redis 7), which few users may.
func askDryRun(ctx context.Context, node *goredis.Client, user string, commands [][]any) ([]string, error) {
	if user == "" {
		user = "default"
	}
	var denied []string
	for _, c := range commands {
		reply, err := node.Do(ctx, append([]any{"ACL", "DRYRUN", user}, c...)...).Text()
		if err != nil {
			return nil, err
		}
		if reply != "OK" {
			denied = append(denied, named(c))
		}
	}
	return denied, nil
}

// askMulti queues the commands in a transaction that is then discarded: an access list is asked when a command is queued. All of it is
// one write on one connection.
func askMulti(ctx context.Context, node *goredis.Client, commands [][]any) ([]string, error) {
	pipe := node.Pipeline()
	first := pipe.Do(ctx, "MULTI")
	queued := make([]*goredis.Cmd, len(commands))
	for i, c := range commands {
		queued[i] = pipe.Do(ctx, c...)
	}
	last := pipe.Do(ctx, "DISCARD")
	_, _ = pipe.Exec(ctx) // its error is the first of the commands'
	if err := errors.Join(first.Err(), last.Err()); err != nil {
		return nil, err
	}
	var denied []string
	for i, c := range commands {
		switch err := queued[i].Err(); {
		case err == nil:
		case goredis.IsPermissionError(err) || goredis.HasErrorPrefix(err, "NOPERM"):
			denied = append(denied, named(c))
		default:
			return nil, err
		}
	}
	return denied, nil
}
