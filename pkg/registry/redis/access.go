package redis

import (
	"slices"
	"strings"
)

// AccessRules are what ACL SETUSER is told after a user's name, so that the user may do what a [Store] with this cfg does and nothing
// else. They name single commands: the categories have some that ask for no key, such as FLUSHALL (@write), KEYS (@read) and
// CLIENT KILL (@connection), and so reach all data of the server. They take away what the user had before. INFO is not among them:
// only an inspection asks for it.
func AccessRules(cfg Config) []string {
	if cfg.Namespace == "" {
		cfg.Namespace = DefaultNamespace
	}
	s := &Store{}
	s.name(cfg.Namespace)
	// PING is the watch's. AUTH and HELLO are allowed to all by Redis itself, and are named for servers that ask.
	commands := []string{"auth", "hello", "ping", "eval", "evalsha", "subscribe"}
	if cfg.DB != 0 {
		commands = append(commands, "select")
	}
	if cfg.Mode == Cluster {
		commands = append(commands, "cluster|slots", "asking")
	}
	for _, c := range s.needed() {
		if name := strings.ToLower(c[0].(string)); !slices.Contains(commands, name) {
			commands = append(commands, name)
		}
	}
	rules := []string{"resetkeys", "resetchannels", "-@all", "~" + prefix(cfg.Namespace) + "*", "&" + s.channel}
	for _, name := range commands {
		rules = append(rules, "+"+name)
	}
	return rules
}
