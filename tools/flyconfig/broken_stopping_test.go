package flyconfig_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// brokenTimes are variables of fly.toml that do not fit into supervisord.conf.
var brokenTimes = []edit{
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_DRAIN_SETTLE = "10s"`, want: "env.FLYPROXY_DRAIN_SETTLE: drain.settle of 10s, and 1s for the registry, do not fit into the stopwaitsecs of 3s in [program:withdraw] of "},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_DRAIN_SETTLE = "2001ms"`, want: "supervisord.conf; write at most 2s, or raise stopwaitsecs there and kill_timeout here"},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_DRAIN_TIMEOUT = "20s"`, want: "env.FLYPROXY_DRAIN_TIMEOUT: drain.timeout of 20s, and 1s for its own end, do not fit into the stopwaitsecs of 8s in [program:flyproxy] of "},
}

// brokenStopping are edits of supervisord.conf that end a Machine in bad order.
var brokenStopping = []edit{
	{old: "priority=900", new: "priority=150", want: "program:withdraw.priority: the highest is stopped first, and 150 is not above the 200 of app: peers would still call what is stopped; write more than 200"},
	{old: "priority=900", new: "priority=100", want: "program:withdraw.priority: the highest is stopped first, and 100 is not above the 200 of app"},
	{old: "priority=100", new: "priority=900", want: "program:withdraw.priority: the highest is stopped first, and 900 is not above the 900 of flyproxy", at: "priority=900\ncommand=flyproxy withdraw"},
	{old: "priority=100", new: "priority=300", want: "program:flyproxy.priority: the lowest is stopped last, and 300 is not below the 200 of app: its calls would be cut off; write less than 200"},
	{old: "priority=100", new: "priority=200", want: "program:flyproxy.priority: the lowest is stopped last, and 200 is not below the 200 of app"},
	{old: "priority=100\n", new: "", want: "program:flyproxy.priority: the lowest is stopped last, and 999 is not below the 200 of app", at: "[program:flyproxy]"},
	{old: "stopsignal=TERM\nstopwaitsecs=8", new: "stopsignal=KILL\nstopwaitsecs=8", want: "program:flyproxy.stopsignal: flyproxy does not end in good order on KILL; write TERM"},
	{old: "stopsignal=TERM\n; It ends once", new: "stopsignal=SIGKILL\n; It ends once", want: "program:withdraw.stopsignal: flyproxy does not end in good order on KILL"},
	{old: "stopsignal=TERM\n; Time for the calls", new: "stopsignal=KILL\n; Time for the calls", want: "program:app.stopsignal: KILL cuts off the calls that the app is answering"},
	{old: "nodaemon=true", new: "nodaemon=false", want: "supervisord.nodaemon: supervisord goes into the background, and a Machine ends with the command of its group; write nodaemon=true"},
	{old: "nodaemon=true", new: "", want: "supervisord.nodaemon: supervisord goes into the background", at: "[supervisord]"},
	{old: "stopwaitsecs=8", new: "stopwaitsecs=3", want: "program:flyproxy.stopwaitsecs: drain.timeout of 4s, and 1s for its own end, do not fit into the stopwaitsecs of 3s; write at least 5"},
	{old: "stopwaitsecs=3", new: "stopwaitsecs=1", want: "program:withdraw.stopwaitsecs: drain.settle of 250ms, and 1s for the registry, do not fit into the stopwaitsecs of 1s; write at least 2"},
	{old: `environment=FLYPROXY_ADMIN_SOCKET="unix:///run/flyproxy.sock"`, new: `environment=FLYPROXY_DRAIN_TIMEOUT="20s"`, want: "program:flyproxy.stopwaitsecs: drain.timeout of 20s", at: "stopwaitsecs=8"},
}

// What ends a Machine in good order stays good.
func TestGoodStopping(t *testing.T) {
	for name, e := range map[string]edit{
		"other priorities":  {old: "priority=900", new: "priority=201"},
		"INT":               {old: "stopsignal=TERM\nstopwaitsecs=8", new: "stopsignal=SIGINT\nstopwaitsecs=8"},
		"an app's own":      {old: "stopsignal=TERM\n; Time for the calls", new: "stopsignal=QUIT\n; Time for the calls"},
		"yes":               {old: "nodaemon=true", new: "nodaemon=yes"},
		"just enough":       {old: "stopwaitsecs=8", new: "stopwaitsecs=5"},
		"another program":   {old: "[unix_http_server]", new: "[program:cron]\ncommand=cron -f\npriority=50\nstopsignal=KILL\nstopwaitsecs=1\n\n[unix_http_server]"},
		"time of its own":   {old: `environment=FLYPROXY_ADMIN_SOCKET="unix:///run/flyproxy.sock"`, new: `environment=FLYPROXY_DRAIN_TIMEOUT="7s"`},
		"a file of its own": {old: "command=flyproxy serve\n", new: "command=flyproxy -c /app/flyproxy.yaml serve\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			copyShipped(t, dir)
			before := read(t, "supervisord.conf")
			if !strings.Contains(before, e.old) {
				t.Fatalf("supervisord.conf does not contain %q", e.old)
			}
			write(t, filepath.Join(dir, "supervisord.conf"), strings.Replace(before, e.old, e.new, 1))
			if _, faults := check(t, filepath.Join(dir, flyTOML), dir); len(faults) > 0 {
				t.Errorf("%v", faults)
			}
		})
	}
}

// What a configuration file in the image may say is not taken to be the default.
func TestStoppingWithAFile(t *testing.T) {
	for command, good := range map[string]bool{"command=flyproxy -c /app/flyproxy.yaml serve\n": true, "command=flyproxy serve\n": false} {
		dir := t.TempDir()
		copyShipped(t, dir)
		conf := strings.NewReplacer("command=flyproxy serve\n", command, "stopwaitsecs=8", "stopwaitsecs=2").Replace(read(t, "supervisord.conf"))
		write(t, filepath.Join(dir, "supervisord.conf"), conf)
		if _, faults := check(t, filepath.Join(dir, flyTOML), dir); (len(faults) == 0) != good {
			t.Errorf("%q: %v", command, faults)
		}
	}
}
