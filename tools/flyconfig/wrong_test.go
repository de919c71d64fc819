package flyconfig_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// An edit replaces one text of a shipped file. Want is a part of the fault that this has to give; it stands on the line of the
// edit, or on the one where the text at stands. At is "-" where no line is expected, and ends with : where another file is meant.
type edit struct {
	old, new, want string
	at             string
}

var flyEdits = []edit{
	// keys
	{old: `kill_timeout = 30`, new: `kill_timout = 30`, want: "kill_timout: unknown key, which Fly ignores; did you mean kill_timeout?"},
	{old: `[checks.ready]`, new: `[check.ready]`, want: "check.ready: unknown key, which Fly ignores; did you mean checks?"},
	{old: `grace_period = "10s"`, new: `grace = "10s"`, want: "checks.ready.grace: unknown key"},
	{old: `  memory = "256mb"`, new: `  memory_gb = 1`, want: "memory_gb: unknown key, which Fly ignores; did you mean memory_mb?"},
	{old: `strategy = "rolling"`, new: "container = \"app\"\n[experimental]\n  container = \"app\"", want: "deploy.container: unknown key"},
	{old: `app = "test-battle"`, new: `app = test-battle`, want: `text stands in "quotes"`},
	{old: `port = 9052`, new: `port = "9052"`, want: "a string is not accepted; write a number, without quotes"},
	{old: `app = "test-battle"`, new: ``, want: "app: the name of the app is missing", at: "-"},
	// the end
	{old: `kill_signal = "SIGTERM"`, new: `kill_signal = "TERM"`, want: `kill_signal: "TERM" is not accepted; write one of SIGHUP, SIGINT`},
	{old: `kill_signal = "SIGTERM"`, new: `kill_signal = "SIGQUIT"`, want: "kill_signal: flyproxy does not drain on SIGQUIT"},
	{old: `kill_signal = "SIGTERM"`, new: ``, want: `kill_signal: it is not set, and what Fly sends then is documented in two ways`, at: "-"},
	{old: `kill_timeout = 30`, new: `kill_timeout = 301`, want: "kill_timeout: 5m1s is more than Fly allows; write at most 300"},
	{old: `kill_timeout = 30`, new: `kill_timeout = "half a minute"`, want: `kill_timeout: "half a minute" is no duration; write a number and a unit`},
	{old: `kill_timeout = 30`, new: `kill_timeout = 25`, want: "kill_timeout: 25s is too short for what "},
	{old: `kill_timeout = 30`, new: `kill_timeout = "-1s"`, want: "kill_timeout: -1s is negative"},
	{old: `kill_timeout = 30`, new: ``, want: "kill_timeout: 5s is too short for what ", at: "-"},
	// build and deploy
	{old: `dockerfile = "Dockerfile"`, new: `dockerfile = "docker/Dockerfile"`, want: "docker/Dockerfile is not there"},
	{old: `build-target = "app"`, new: `build-target = "apps"`, want: `build.build-target: Dockerfile has no target "apps"; write one of `},
	{old: `dockerfile = "Dockerfile"`, new: `image = "nginx"`, want: "build: more than one way of building: dockerfile, image", at: "[build]"},
	{old: `strategy = "rolling"`, new: `strategy = "roling"`, want: `deploy.strategy: "roling" is not accepted; write one of canary, rolling`},
	{old: `strategy = "rolling"`, new: `strategy = "immediate"`, want: "deploy.max_unavailable: it has no effect on strategy immediate", at: "max_unavailable"},
	{old: `max_unavailable = 1`, new: `max_unavailable = 0`, want: "deploy.max_unavailable: 0 lets no Machine be replaced"},
	// env
	{old: `GRPC_PORT = "50051"`, new: `FLY_REGION = "hkg"`, want: "env.FLY_REGION: names that begin with FLY_ are Fly's own; remove it"},
	{old: `GRPC_PORT = "50051"`, new: `REDIS_PASSWORD = "hunter2"`, want: "env.REDIS_PASSWORD: secrets do not belong into a file"},
	{old: `GRPC_PORT = "50051"`, new: `JWT_SECRET = "hunter2"`, want: "env.JWT_SECRET: secrets do not belong into a file"},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_REGISTRY_SIGNING_KEY = "k"`, want: "env.FLYPROXY_REGISTRY_SIGNING_KEY: secrets do not belong"},
	{old: `GRPC_PORT = "50051"`, new: `GRPC_PORT = "5005l"`, want: "env.GRPC_PORT: flyproxy: "},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_ROUTING_POLCY = "round_robin"`, want: "env.FLYPROXY_ROUTING_POLCY: flyproxy: unknown environment variable; did you mean FLYPROXY_ROUTING_POLICY?"},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_ADMIN_LISTEN = "[::]:9090"`, want: "checks: no check awaits flyproxy in group app", at: "-"},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_DOWNSTREAM_TLS_ENABLED = "true"`, want: "env: flyproxy: downstream.tls.cert_file: missing", at: "[env]"},
	{old: `--mode gateway`, new: `--mode gatway`, want: `processes.gateway: --mode is "gatway"; write sidecar or gateway`},
	{old: `GRPC_PORT = "50051"`, new: `GRPC_PORT = ["50051"]`, want: "env.GRPC_PORT: the value is not text"},
	// groups
	{old: `gateway = "flyproxy serve --mode gateway"`, new: `gateway = "flyproxy serve 'x"`, want: "processes.gateway: "},
	{old: `gateway = "flyproxy serve --mode gateway"`, new: `gateway = ""`, want: "processes.gateway: there is no command"},
	{old: `gateway = "flyproxy serve --mode gateway"`, new: `gw = "flyproxy serve --mode gateway"`, want: `checks.ready.processes: there is no process group "gateway"; write one of app, gw`, at: "[[3]] processes"},
	{old: `grace_period = "10s"` + "\n" + `  processes = ["app", "gateway"]`, new: `grace_period = "10s"`, want: `checks.ready: without processes it is for group app only; write processes = ["app", "gateway"]`, at: "[checks.ready]"},
	{old: `path = "/metrics"` + "\n" + `  processes = ["app", "gateway"]`, new: `path = "/metrics"` + "\n" + `  processes = ["app"]`, want: "metrics: nothing scrapes flyproxy in group gateway", at: "-"},
	{old: `policy = "always"` + "\n" + `  processes = ["app", "gateway"]`, new: `policy = "always"` + "\n" + `  processes = ["worker"]`, want: `restart[0].processes: there is no process group "worker"`, at: `processes = ["worker"]`},
	{old: `  memory = "256mb"` + "\n" + `  processes = ["gateway"]`, new: `  memory = "256mb"` + "\n" + `  processes = ["app"]`, want: "vm[1]: group app has one already: vm[0]; keep one", at: "-"},
	{old: `[[restart]]`, new: "[[services]]\n  internal_port = 8080\n[[services.ports]]\n  port = 80\n[[restart]]", want: "services[0]: a service without processes is refused", at: "[[services]]"},
	{old: `[[restart]]`, new: "[[services]]\n  internal_port = 8080\n  processes = [\"app\"]\n[[restart]]", want: "services[0]: a service without ports serves nobody", at: "[[services]]"},
	// checks, metrics
	{old: `type = "http"`, new: `type = "grpc"`, want: `checks.ready.type: "grpc" is not accepted; write one of http, tcp`},
	{old: `type = "http"`, new: ``, want: `checks.ready.type: "" is not accepted`, at: "[checks.ready]"},
	{old: `type = "http"`, new: `type = "tcp"`, want: "checks.ready.path: a tcp check asks for no path", at: `path = "/ready"`},
	{old: `port = 9052`, new: ``, want: "checks.ready.port: a check without a port", at: "[checks.ready]"},
	{old: `port = 9052`, new: `port = 90520`, want: "checks.ready.port: 90520 is no port"},
	{old: `port = 9052`, new: `port = 50052`, want: "checks.ready.port: flyproxy's admin listener is not on 50052; write 9052"},
	{old: `path = "/ready"`, new: `path = "ready"`, want: `checks.ready.path: "ready" is no path; begin it with /`},
	{old: `path = "/ready"`, new: `path = "/health"`, want: "checks.ready.path: flyproxy's readiness is not at /health; write /ready"},
	{old: `interval = "15s"`, new: `interval = "1s"`, want: `checks.ready.interval: 1s is shorter than Fly allows`},
	{old: `interval = "15s"`, new: `interval = 15`, want: `checks.ready.interval: 15ms is shorter than Fly allows`},
	{old: `timeout = "2s"`, new: `timeout = "2m"`, want: `checks.ready.timeout: 2m0s is longer than Fly allows`},
	{old: `timeout = "2s"`, new: `timeout = "2"`, want: `checks.ready.timeout: "2" is no duration`},
	{old: "[[metrics]]\n  port = 9052", new: "[[metrics]]\n  port = 9091", want: "metrics[0].port: flyproxy's metrics are not on 9091; write 9052", at: "port = 9091"},
	{old: `path = "/metrics"`, new: `path = "/stats"`, want: "metrics[0].path: flyproxy's metrics are not at /stats; write /metrics"},
	{old: "[[metrics]]\n  port = 9052", new: "[[metrics]]", want: "metrics[0].port: 0 is no port", at: "[[metrics]]"},
	// restart, vm
	{old: `policy = "always"`, new: `policy = "no"`, want: `restart[0].policy: "no" is not accepted; write one of always, on-failure, never`},
	{old: `policy = "always"`, new: "policy = \"on-failure\"\n  retries = -1", want: "restart[0].retries: -1 is negative", at: "retries"},
	{old: `size = "shared-cpu-1x"`, new: `size = "shared-cpu-3x"`, want: `vm[0].size: "shared-cpu-3x" is no size; write one of `},
	{old: `memory = "512mb"`, new: `memory = "half"`, want: `vm[0].memory: "half" is no size; write "512mb"`},
	{old: `memory = "512mb"`, new: `memory = "4gb"`, want: "vm[0].memory: 4096 MB is not possible with 1 shared CPU; write a multiple of 256 from 256 to 2048"},
	{old: `memory = "512mb"`, new: `memory = 300`, want: "vm[0].memory: 300 MB is not possible"},
	{old: `memory = "512mb"`, new: `cpu_kind = "fast"`, want: `vm[0].cpu_kind: "fast" is not accepted; write one of shared, performance`},
	{old: `memory = "512mb"`, new: `cpus = 3`, want: `vm[0].cpus: 3 is not accepted`},
}

var containerEdits = []edit{
	{old: `machine_config = "configs/fly-containers.json"`, new: `machine_config = "fly-containers.json"`, want: "fly-containers.json is not there; it is a path from the directory in which fly is run"},
	{old: `machine_config = "configs/fly-containers.json"`, new: `machine_config = "configs/flyproxy.yaml"`, want: `machine_config: "configs/flyproxy.yaml" is not accepted; name a .json file`},
	{old: `container = "app"`, new: `container = "web"`, want: `has no container "web"; write the name of one`},
	{old: `kill_timeout = 30`, new: `kill_timeout = 20`, want: "containers[1].stop.timeout: 25s does not fit into the Machine's kill_timeout of 20s", at: "json:"},
}

var machineEdits = []edit{
	{old: `"depends_on"`, new: `"dependson"`, want: "containers[0].dependson: unknown key, which Fly ignores or fly.toml has; did you mean depends_on?"},
	{old: `"containers": [`, new: `"guest": {"cpus": 1}, "containers": [`, want: "guest: unknown key, which Fly ignores or fly.toml has; known are containers, volumes"},
	{old: `"condition": "healthy"`, new: `"condition": "ready"`, want: `depends_on[0].condition: "ready" is not accepted; write one of started, healthy, exited_successfully`},
	{old: `"name": "flyproxy", "condition"`, new: `"name": "proxy", "condition"`, want: `depends_on[0].name: there is no container "proxy"`},
	{old: `"name": "flyproxy", "condition"`, new: `"name": "app", "condition"`, want: "containers[0].depends_on: app waits for itself", at: `"depends_on"`},
	{old: `"image": "."`, new: `"image": ""`, want: `containers[0].image: there is no image`},
	{old: `"policy": "always"`, new: `"policy": "never"`, want: `containers[0].restart.policy: "never" is not accepted; write one of always, on-failure, no`},
	{old: `"timeout": "15s"`, new: `"timeout": 15`, want: "containers[0].stop.timeout: a number counts nanoseconds here"},
	{old: `"field_ref": "id"`, new: `"field_ref": "machine_id"`, want: `env_from[1].field_ref: "machine_id" is not accepted`},
	{old: `"env_var": "FLY_REGION"`, new: `"env_var": "REGION"`, want: "containers[1].env_from: FLY_REGION is missing", at: `"env_from"`},
	{old: `"tcp": { "port": 50052 }`, new: `"tcp": { "port": 50053 }`, want: "healthchecks[0].tcp.port: flyproxy does not listen on 50053; write one of [50052 9052]"},
	{old: `"tcp": { "port": 50052 }`, new: `"exec": { "command": [] }`, want: "healthchecks[0].exec.command: there is no command"},
	{old: `"tcp": { "port": 50052 }`, new: `"failure_threshold": 2`, want: "containers[1].healthchecks[0]: a check is of one kind, here are 0", at: "-"},
	{old: `"port": 9052, "path": "/health"`, new: `"port": 9052, "path": "/ready"`, want: "healthchecks[1].http.path: flyproxy is not dead when it is not ready"},
	{old: `"port": 9052, "path": "/health"`, new: `"port": 9053, "path": "/health"`, want: "healthchecks[1].http.port: flyproxy's admin listener is not on 9053; write 9052"},
	{old: `"kind": "liveness"`, new: `"kind": "startup"`, want: `healthchecks[1].kind: "startup" is not accepted; write one of readiness, liveness`},
	{old: `["flyproxy", "serve"]`, new: `["app"]`, want: "containers: 0 containers run flyproxy", at: `"containers"`},
	{old: `"interval": 10,`, new: `"interval": "10s",`, want: "containers.healthchecks.interval: a string is not accepted; write a number, without quotes"},
	{old: `"interval": 10,`, new: `"interval": 10, // seconds`, want: "it has to be JSON, without comments"},
	{old: `"GRPC_PORT": "50051"`, new: `"REDIS_PASSWORD": "hunter2"`, want: "containers[0].env.REDIS_PASSWORD: secrets do not belong into a file"},
}

func TestWrongEdits(t *testing.T) {
	for _, set := range []struct {
		file, checked string
		edits         []edit
	}{
		{flyTOML, flyTOML, flyEdits},
		{flyTOML, flyTOML, brokenOnFly},
		{flyTOML, flyTOML, brokenImages},
		{flyTOML, flyTOML, brokenGroups},
		{flyTOML, flyTOML, brokenTimes},
		{"supervisord.conf", flyTOML, brokenStopping},
		{"supervisord.conf", flyTOML, brokenSupervisord},
		{machine, containers, brokenContainers},
		{containers, containers, containerEdits},
		{containers, containers, brokenContainerImages},
		{machine, containers, machineEdits},
	} {
		for i, e := range set.edits {
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(set.file), i), func(t *testing.T) {
				dir := t.TempDir()
				copyShipped(t, dir)
				before := read(t, set.file)
				if !strings.Contains(before, e.old) {
					t.Fatalf("%s does not contain %q", set.file, e.old)
				}
				after := strings.Replace(before, e.old, e.new, 1)
				write(t, filepath.Join(dir, set.file), after)
				_, faults := check(t, filepath.Join(dir, set.checked), dir)

				where := filepath.Join(dir, set.file) + fmt.Sprintf(":%d: ", lineOf(t, before, after, e))
				var said []string
				for _, fault := range faults {
					text := fault.String()
					said = append(said, text)
					if strings.Contains(text, e.want) && (strings.HasPrefix(text, where) || e.at == "-" || strings.HasSuffix(e.at, ":")) && fault.Fix != "" {
						return
					}
				}
				t.Errorf("%q → %q: no fault at %s says %q and what to do, but:\n%s", e.old, e.new, where, e.want, strings.Join(said, "\n"))
			})
		}
	}
}

// lineOf is where the fault of an edit is expected.
func lineOf(t *testing.T, before, after string, e edit) int {
	t.Helper()
	number := func(text string, index int) int { return 1 + strings.Count(text[:index], "\n") }
	at, n := e.at, 0
	switch {
	case at == "" || at == "-" || strings.HasSuffix(at, ":"):
		return number(before, strings.Index(before, e.old))
	case strings.HasPrefix(at, "[[3]] "):
		at = `processes = ["app", "gateway"]`
	}
	n = strings.Index(after, at)
	if n < 0 {
		t.Fatalf("%q is not in the edited file", at)
	}
	return number(after, n)
}

// What flyproxy run may take to end has to fit as well.
func TestRunHasToFit(t *testing.T) {
	dir := t.TempDir()
	copyShipped(t, dir)
	text := strings.Replace(alternative(t, read(t, flyTOML)), `GRPC_PORT = "50051"`, `FLYPROXY_RUN_STOP_TIMEOUT = "28s"`, 1)
	write(t, filepath.Join(dir, flyTOML), text)
	_, faults := check(t, filepath.Join(dir, flyTOML), dir)
	const want = "kill_timeout: 30s is too short for flyproxy run's drain.settle, run.stop_timeout and drain.timeout: 32.25s; write more than 32"
	if len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
		t.Errorf("%v\nwant %s", faults, want)
	}
}

// The image's own start would stand before each group's command.
func TestEntrypoint(t *testing.T) {
	dir := t.TempDir()
	copyShipped(t, dir)
	dockerfile := strings.Replace(read(t, "Dockerfile"), `CMD ["supervisord"`, `ENTRYPOINT ["supervisord"`, 1)
	write(t, filepath.Join(dir, "Dockerfile"), dockerfile)
	_, faults := check(t, filepath.Join(dir, flyTOML), dir)
	const want = "build.dockerfile: Fly appends the command of a process group to the ENTRYPOINT of target \"app\"; make it a CMD"
	if len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
		t.Errorf("%v\nwant %s", faults, want)
	}
}

// The app's own checks are its own business.
func TestOtherChecks(t *testing.T) {
	dir := t.TempDir()
	copyShipped(t, dir)
	more := "[checks.app]\n  type = \"http\"\n  port = 8080\n  path = \"/health\"\n  processes = [\"app\"]\n\n[[metrics]]"
	write(t, filepath.Join(dir, flyTOML), strings.Replace(read(t, flyTOML), "[[metrics]]", more, 1))
	_, faults := check(t, filepath.Join(dir, flyTOML), dir)
	for _, fault := range faults {
		t.Error(fault)
	}
}
