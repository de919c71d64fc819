package flyconfig_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// service is the commented-out one at the end of fly.toml.
const service = "# [http_service]\n#   internal_port = 8080\n#   processes = [\"app\"]"

const ports = "[[services]]\n  internal_port = 8080\n  processes = [\"app\"]\n[[services.ports]]\n"

// brokenOnFly are files that were called good and do not work on Fly.
var brokenOnFly = []edit{
	// who is reached from where
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_ADMIN_LISTEN = "127.0.0.1:9052"`, want: `env.FLYPROXY_ADMIN_LISTEN: flyproxy's admin listener, 127.0.0.1:9052, is reachable from inside the Machine only, and Fly's checks and metrics come from outside; write "[::]:9052"`},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_ADMIN_LISTEN = "localhost:9052"`, want: "env.FLYPROXY_ADMIN_LISTEN: flyproxy's admin listener, localhost:9052, is reachable from inside"},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_LISTEN = "localhost:50052"`, want: "env.FLYPROXY_LISTEN: the gateway listens on localhost:50052, where no other Machine reaches it; write fly-local-6pn:50052"},
	{old: `GRPC_PORT = "50051"`, new: `FLYPROXY_LISTEN_SOCKET_MODE = "0666"`, want: "env.FLYPROXY_LISTEN_SOCKET_MODE: flyproxy: listen_socket_mode: not used"},
	// commands
	{old: `flyproxy serve --mode gateway`, new: `flyproxy sreve --mode gateway`, want: `processes.gateway: flyproxy has no command "sreve"; did you mean serve?`},
	{old: `flyproxy serve --mode gateway`, new: `flyproxy serve --modus gateway`, want: "processes.gateway: unknown flag: --modus; write it as flyproxy's --help has it"},
	{old: `flyproxy serve --mode gateway`, new: `flyproxy serve gateway`, want: `processes.gateway: flyproxy serve takes no "gateway"; remove it`},
	{old: `flyproxy serve --mode gateway`, new: `flyproxy status`, want: "processes.gateway: flyproxy status accepts no calls; write flyproxy serve"},
	{old: `flyproxy serve --mode gateway`, new: `flyproxy wait -- app`, want: "processes.gateway: flyproxy wait accepts no calls"},
	{old: `app = "supervisord -c /etc/supervisord.conf"`, new: `app = "flyproxy run"`, want: "processes.app: flyproxy run without an app to start; write its command after --, as in flyproxy run -- app"},
	// services
	{old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"app\"]\n  auto_stop_machines = \"sometimes\"", want: `http_service.auto_stop_machines: sometimes is not accepted; write one of "off"`, at: "auto_stop_machines"},
	{old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"app\"]\n  auto_stop_machines = \"stop\"", want: `http_service.auto_stop_machines: Fly's proxy does not see calls over 6PN: it would stop a Machine that is answering some, and wake none for them; write "off"`, at: "auto_stop_machines"},
	{old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"gateway\"]\n  auto_stop_machines = \"suspend\"", want: `it would suspend a Machine`, at: "auto_stop_machines"},
	{old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"app\"]\n  auto_stop_machines = true", want: `it would stop a Machine`, at: "auto_stop_machines"},
	{old: service, new: "[http_service]\n  internal_port = 50052\n  processes = [\"app\"]", want: "http_service.internal_port: flyproxy listens on localhost:50052, which Fly's proxy does not reach", at: "internal_port = 50052"},
	{old: service, new: "[http_service]\n  internal_port = 9052\n  processes = [\"app\"]", want: "http_service.internal_port: it would show flyproxy's admin listener to the internet", at: "internal_port = 9052"},
	{old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"app\"]\n[http_service.concurrency]\n  type = \"foo\"", want: `http_service.concurrency.type: "foo" is not accepted; write one of connections, requests`, at: `type = "foo"`},
	{old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"app\"]\n[http_service.concurrency]\n  hard_limit = -1", want: "http_service.concurrency.hard_limit: -1 is negative", at: "hard_limit"},
	{old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"app\"]\n[http_service.concurrency]\n  hard_limit = 5\n  soft_limit = 6", want: "http_service.concurrency.soft_limit: 6 is above hard_limit", at: "soft_limit"},
	{old: service, new: ports + "  port = 99999", want: "services[0].ports[0].port: 99999 is no port; write one from 1 to 65535", at: "port = 99999"},
	{old: service, new: ports + "  port = 80\n  handlers = [\"htpp\"]", want: `services[0].ports[0].handlers: "htpp" is not accepted; write one of http, tls`, at: "handlers"},
	{old: service, new: ports + "  start_port = 90\n  end_port = 80", want: "services[0].ports[0].end_port: it is before start_port", at: "end_port"},
	{old: service, new: ports + "  handlers = [\"http\"]", want: "services[0].ports[0]: which port it is is not said", at: "[[services.ports]]"},
	// names
	{old: `app = "test-battle"`, new: `app = "Test_Battle"`, want: `app: "Test_Battle" is no name of an app; write less than 63 small letters, digits and dashes`},
}

// brokenSupervisord are edits of supervisord.conf, which is looked at with fly.toml.
var brokenSupervisord = []edit{
	{old: "command=flyproxy serve", new: "command=flyproxy sreve", want: `supervisord.conf, [program:flyproxy]: flyproxy has no command "sreve"`, at: "fly.toml:"},
	{old: "command=flyproxy wait --timeout 30s -- app", new: "command=flyproxy wait --timeout 30 -- app", want: `supervisord.conf, [program:app]: invalid argument "30" for "--timeout"`, at: "fly.toml:"},
	{old: "command=flyproxy serve", new: "command=flyproxy withdraw", want: "supervisord.conf starts no flyproxy that accepts calls", at: "fly.toml:"},
}

var brokenContainers = []edit{
	{old: `["flyproxy", "serve"]`, new: `["flyproxy", "server"]`, want: `containers[1].cmd: flyproxy has no command "server"; did you mean serve?`},
	{old: `["flyproxy", "serve"],` + "\n" + `      "env": {`, new: `["flyproxy", "serve"],` + "\n" + `      "env": { "FLYPROXY_ADMIN_LISTEN": "127.0.0.1:9052",`, want: "containers[1].env.FLYPROXY_ADMIN_LISTEN: flyproxy's admin listener, 127.0.0.1:9052, is reachable from inside", at: "FLYPROXY_ADMIN_LISTEN"},
	{old: `["flyproxy", "serve"],` + "\n" + `      "env": {`, new: `["flyproxy", "serve"],` + "\n" + `      "env": { "FLYPROXY_ADMIN_LISTEN": "[::]:9099",`, want: "fly-containers.toml:", at: "json:"},
	{old: `"GRPC_PORT": "50051"`, new: `"GRPC_PORT": "50055"`, want: "containers[0].env.GRPC_PORT: app serves on 50055, and flyproxy looks for the app on 50051; write the same in both containers"},
	{old: `"GRPC_PORT": "50051"`, new: `"GRPC_PORT": "50055"`, want: "containers[0].healthchecks[0].tcp.port: app serves on 50055, not on 50051; write 50055", at: `"port": 50051`},
}

// What is good stays so: what only one of several groups uses, files that are in the image, services that let Machines be.
func TestGoodEdits(t *testing.T) {
	for name, e := range map[string]edit{
		"for the gateway only": {old: `GRPC_PORT = "50051"`, new: "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS = \"fdaa:0:1::/48\"\n"},
		"files in the image": {old: `GRPC_PORT = "50051"`, new: "FLYPROXY_CONFIG = \"/app/flyproxy.yaml\"\n  FLYPROXY_DOWNSTREAM_TLS_ENABLED = \"true\"\n" +
			"  FLYPROXY_DOWNSTREAM_TLS_CERT_FILE = \"/app/tls.crt\"\n  FLYPROXY_DOWNSTREAM_TLS_KEY_FILE = \"/app/tls.key\""},
		"another admin address": {old: `GRPC_PORT = "50051"`, new: `FLYPROXY_ADMIN_LISTEN = "0.0.0.0:9052"`},
		"another Redis":         {old: `GRPC_PORT = "50051"`, new: `FLYPROXY_REGISTRY_REDIS_ADDRESSES = "a:6379,b:6379"`},
		"a path and a file":     {old: `flyproxy serve --mode gateway`, new: `/usr/local/bin/flyproxy -c /app/gateway.yaml serve --mode=gateway`},
		"the default command":   {old: `flyproxy serve --mode gateway`, new: `flyproxy -c /app/gateway.yaml`},
		"a mode in a file": {old: "[processes]\n  app = \"supervisord -c /etc/supervisord.conf\"", new: "[[files]]\n  guest_path = \"/etc/flyproxy/flyproxy.yaml\"\n" +
			"  local_path = \"x\"\n  processes = [\"app\"]\n\n[processes]\n  app = \"flyproxy\""},
		"a script": {old: `supervisord -c /etc/supervisord.conf`, new: `/app/start`},
		"a shell":  {old: `supervisord -c /etc/supervisord.conf`, new: `sh -c 'flyproxy serve & exec app'`},
		"a file of Fly's": {old: "[processes]\n  app = \"supervisord -c /etc/supervisord.conf\"", new: "[[files]]\n  guest_path = \"/etc/other.conf\"\n" +
			"  local_path = \"x\"\n  processes = [\"app\"]\n\n[processes]\n  app = \"supervisord -c /etc/other.conf\""},
		"a check by HEAD": {old: `path = "/ready"`, new: "path = \"/ready\"\n  method = \"head\"\n  protocol = \"http\""},
		"a service": {old: service, new: "[http_service]\n  internal_port = 8080\n  processes = [\"app\"]\n  auto_stop_machines = false\n" +
			"[http_service.concurrency]\n  type = \"requests\"\n  hard_limit = 10\n  soft_limit = 5"},
		"ranges of ports": {old: service, new: ports + "  start_port = 80\n  end_port = 90\n  handlers = [\"tls\", \"http\"]"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			copyShipped(t, dir)
			before := read(t, flyTOML)
			if !strings.Contains(before, e.old) {
				t.Fatalf("fly.toml does not contain %q", e.old)
			}
			write(t, filepath.Join(dir, flyTOML), strings.Replace(before, e.old, e.new, 1))
			if _, faults := check(t, filepath.Join(dir, flyTOML), dir); len(faults) > 0 {
				t.Errorf("%v", faults)
			}
		})
	}
}
