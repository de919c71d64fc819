package flyconfig

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
)

// starters are programs that start others, of which a command line may say nothing.
var starters = regexp.MustCompile(`(?i)^(ba|da|a|z|k)?sh$|\.(sh|py|rb|js|pl)$|start|entry|launch|run|init|supervis|` +
	`^(tini|env|exec|su|sudo|gosu|su-exec|setpriv|nohup|foreman|honcho|overmind|hivemind|goreman|s6-.*|pm2.*|circusd|monit|make|npm|pnpm|yarn|npx)$`)

// What flyproxy takes on Fly where nothing says otherwise.
const (
	defaultAdminPort = 9052
	defaultFile      = "/etc/flyproxy/flyproxy.yaml"
)

// mayStartFlyproxy tells whether a command line, which is none of flyproxy or supervisord, may lead to one.
func mayStartFlyproxy(line []string) bool {
	return len(line) == 0 || starters.MatchString(path.Base(line[0])) ||
		slices.ContainsFunc(line, func(word string) bool { return strings.Contains(word, "flyproxy") })
}

// withoutFlyproxy faults checks and metrics that are for flyproxy, and for a group whose command starts none.
func (r *report) withoutFlyproxy(f *File, group string, line []string) {
	if mayStartFlyproxy(line) {
		return
	}
	port := defaultAdminPort
	if address, ok := f.Env["FLYPROXY_ADMIN_LISTEN"].(string); ok {
		_, port = hostPort(address)
	}
	fix := fmt.Sprintf(`start the app with flyproxy in front, as in %s = "flyproxy run -- %s", or take %q out of processes`, group, strings.Join(line, " "), group)
	for name, c := range f.Checks {
		if f.Applies(c.Processes, group) && c.Port != nil && *c.Port == port {
			r.fault("checks."+name, fix, "port %d is flyproxy's, and group %s starts %s without it: the check never passes", port, group, line[0])
		}
	}
	for i, m := range f.Metrics {
		if f.Applies(m.Processes, group) && m.Port == port {
			r.fault(fmt.Sprintf("metrics[%d]", i), fix, "port %d is flyproxy's, and group %s starts %s without it: nothing is scraped", port, group, line[0])
		}
	}
}

// hasAnApp faults a sidecar that is all that a group starts: an app in another group is on another Machine.
func (r *report) hasAnApp(f *File, group string, line []string, inv Invocation, p *place) {
	if !IsFlyproxy(line) || inv.Command != "serve" || p.cfg.Mode != config.ModeSidecar {
		return
	}
	if inv.Config != "" || f.Env["FLYPROXY_CONFIG"] != nil || slices.ContainsFunc(p.cfg.Listen, reachable) {
		return // the mode may be in the file; calls may come from elsewhere
	}
	if _, target := built(f); target != nil && target.file(defaultFile) == present || f.puts(defaultFile, group) {
		return
	}
	r.fault(p.at, `write "flyproxy serve --mode gateway" for apps on other Machines, or "flyproxy run -- " and the app that this group is to start`,
		"group %s starts a sidecar and no app: it registers none, and listens on %s, where no other Machine reaches it",
		group, strings.Join(p.cfg.Listen, ", "))
}

// checkFits checks a check that asks flyproxy.
func (r *report) checkFits(key string, c *Check) {
	if c.Method != "" && !strings.EqualFold(c.Method, "GET") && !strings.EqualFold(c.Method, "HEAD") {
		r.fault(key+".method", "write GET, or remove it", "flyproxy answers %s with GET and HEAD only, not with %s", admin.PathReady, c.Method)
	}
	if strings.EqualFold(c.Protocol, "https") {
		r.fault(key+".protocol", "write http, or remove it", "flyproxy's admin listener speaks no TLS")
	}
}
