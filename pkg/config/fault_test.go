package config_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

func TestFaults(t *testing.T) {
	const notHostPort = "write host:port, an IPv6 address in brackets, such as 127.0.0.1:50051 or [::1]:50051"
	for _, tt := range []struct {
		name string
		file string
		env  []string // added to what makes everything else good
		want []string
	}{
		{
			name: "typing error in a key",
			file: "mode: sidecar\nlisen: [localhost:1]\n",
			want: []string{`flyproxy.yaml:2: lisen: unknown key; did you mean "listen"?`},
		},
		{
			name: "typing error in a nested key",
			file: "registration:\n  enabled: true\n  intreval: 5s\n",
			want: []string{`flyproxy.yaml:3: registration.intreval: unknown key; did you mean "interval"?`},
		},
		{
			name: "key in capitals",
			file: "Listen: [localhost:1]\n",
			want: []string{`flyproxy.yaml:1: Listen: unknown key; did you mean "listen"?`},
		},
		{
			name: "key with a dot",
			file: "admin.listen: localhost:1\n",
			want: []string{`flyproxy.yaml:1: admin.listen: unknown key; write listen: on a line of its own below admin:`},
		},
		{
			name: "key at the wrong level",
			file: "redis: {host: a}\n",
			want: []string{`flyproxy.yaml:1: redis: unknown key; did you mean "registry.redis"?`},
		},
		{
			name: "key like no other",
			file: "drain:\n  frobnicate: 1\n",
			want: []string{"flyproxy.yaml:2: drain.frobnicate: unknown key; known here: timeout, settle"},
		},
		{
			name: "typing error in an item",
			file: "apps:\n- name: a\n  helth: {}\n",
			want: []string{`flyproxy.yaml:3: apps[0].helth: unknown key; did you mean "health"?`},
		},
		{
			name: "unknown variables",
			env:  []string{"FLYPROXY_LISEN=a", "FLYPROXY_APPS_0_NAME=b", "FLYPROXY_ZZZZZZZZZZZZZZZZZZZZZZZZ=c"},
			want: []string{
				"FLYPROXY_APPS_0_NAME: unknown environment variable; write the whole list as YAML or JSON in FLYPROXY_APPS",
				"FLYPROXY_LISEN: unknown environment variable; did you mean FLYPROXY_LISTEN?",
				"FLYPROXY_ZZZZZZZZZZZZZZZZZZZZZZZZ: unknown environment variable; unset it; `flyproxy config print` lists the keys",
			},
		},
		{
			name: "duplicate key",
			file: "log:\n  level: info\n  level: warn\n",
			want: []string{"flyproxy.yaml:3: log.level: the same key stands in line 2; keep one of them"},
		},
		{
			name: "wrong types",
			file: "listen: {a: b}\nlog: info\napps: one\nregistry:\n  redis:\n    port: many\n    tls: maybe\n    db: [0]\n" +
				"limits:\n  memory_share: half\n  max_header_bytes: 1MB\nupstream:\n  idle_timeout: 5\n  connect_timeout: soon\n",
			want: []string{
				"flyproxy.yaml:1: listen: a list of values is wanted, not a map of keys",
				"flyproxy.yaml:2: log: holds keys, not a single value; write keys below it: level, format",
				"flyproxy.yaml:3: apps: a list is wanted, not a single value; write items below it, each beginning with - and having the keys " +
					"name, address, service, weight, inbound, grpc_services, health",
				`flyproxy.yaml:6: registry.redis.port = "many": not a whole number; write a number from 1 to 65535`,
				`flyproxy.yaml:7: registry.redis.tls = "maybe": not true or false; write true or false`,
				"flyproxy.yaml:8: registry.redis.db: one value is wanted, not a list",
				`flyproxy.yaml:10: limits.memory_share = "half": not a number; write a number from 0 to 1`,
				`flyproxy.yaml:11: limits.max_header_bytes = "1MB": not a size; write a number of bytes, or one with KiB, MiB or GiB, such as 64KiB`,
				`flyproxy.yaml:13: upstream.idle_timeout = "5": a duration without its unit; write 5s for seconds or 5ms for milliseconds`,
				`flyproxy.yaml:14: upstream.connect_timeout = "soon": not a duration; write a number with a unit, such as 500ms, 5s or 2m`,
			},
		},
		{
			name: "out of bounds",
			file: "registration: {weight: 0, interval: 0s}\nlimits: {memory_share: 1.5, max_header_bytes: 1}\napps: [{weight: 10001}]\n",
			want: []string{
				`flyproxy.yaml:1: registration.weight = "0": below 1; write a value from 1 to 10000`,
				`flyproxy.yaml:1: registration.interval = "0s": below 50ms; write a value from 50ms to 10m`,
				`flyproxy.yaml:2: limits.memory_share = "1.5": above 1; write a value from 0 to 1`,
				`flyproxy.yaml:2: limits.max_header_bytes = "1": below 4KiB; write a value from 4KiB to 64MiB`,
				`flyproxy.yaml:3: apps[0].weight = "10001": above 10000; write a value from 1 to 10000`,
			},
		},
		{
			name: "unknown modes",
			env:  []string{"FLYPROXY_MODE=proxy", "FLYPROXY_ENGINE=envoy", "FLYPROXY_ROUTING_POLICY=WeightdLoadStrategy"},
			want: []string{
				`FLYPROXY_MODE: mode = "proxy": not a value of this key; write sidecar or gateway`,
				`FLYPROXY_ENGINE: engine = "envoy": not a value of this key; write relay or grpc`,
				`FLYPROXY_ROUTING_POLICY: routing.policy = "WeightdLoadStrategy": not a value of this key; ` +
					`did you mean "WeightedLoadStrategy"? It takes round_robin, least_connections or weighted_load`,
			},
		},
		{
			name: "a listener that others reach",
			env:  []string{"FLYPROXY_LISTEN=localhost:50052,0.0.0.0:50053,[::]:50054,nonsense"},
			want: []string{
				`FLYPROXY_LISTEN: listen = "0.0.0.0:50053": not a loopback address: in sidecar mode whoever reaches this port can call ` +
					"every service, as the app may; write localhost:50053",
				`FLYPROXY_LISTEN: listen = "[::]:50054": not a loopback address: in sidecar mode whoever reaches this port can call ` +
					"every service, as the app may; write localhost:50054",
				`FLYPROXY_LISTEN: listen = "nonsense": not host:port; ` + notHostPort,
			},
		},
		{
			name: "no listener",
			file: "listen: []\n",
			want: []string{"flyproxy.yaml:1: listen: no address; write at least one, such as localhost:50052"},
		},
		{
			name: "two listeners on one port",
			env:  []string{"FLYPROXY_ADMIN_LISTEN=[::]:50052"},
			want: []string{
				`FLYPROXY_ADMIN_LISTEN: admin.listen = "[::]:50052": the same port as listen = "localhost:50052"; give each its own`,
			},
		},
		{
			name: "the embedded Redis on a port of ours, and open to others",
			env:  []string{"FLYPROXY_REGISTRY_STORE=embedded", "FLYPROXY_REGISTRY_EMBEDDED_ADDRESS=127.0.0.1:9052"},
			want: []string{
				`FLYPROXY_REGISTRY_EMBEDDED_ADDRESS: registry.embedded.address = "127.0.0.1:9052": the same port as ` +
					`admin.listen = "127.0.0.1:9052"; give each its own`,
			},
		},
		{
			name: "the app is our own listener",
			file: "apps:\n- address: 127.0.0.1:50052\n",
			want: []string{
				`flyproxy.yaml:2: apps[0].address = "127.0.0.1:50052": the sidecar's own listener (listen = "localhost:50052"), ` +
					"so it would loop; write the address that the app itself listens on (GRPC_PORT), or move listen",
			},
		},
		{
			name: "the app is our own listener, by GRPC_PORT",
			env:  []string{"GRPC_PORT=50052"},
			want: []string{
				`GRPC_PORT: apps[0].address = "127.0.0.1:50052": the sidecar's own listener (listen = "localhost:50052"), ` +
					"so it would loop; write the address that the app itself listens on (GRPC_PORT), or move listen",
			},
		},
		{
			name: "the app is our own admin listener, by the Machine's private address",
			env: []string{
				"FLY_APP_NAME=shop", "FLY_MACHINE_ID=148e", "FLY_PRIVATE_IP=fdaa:0:1::2", "GRPC_BIND_ADDRESS=fdaa:0:1::2", "GRPC_PORT=9052",
			},
			want: []string{
				`GRPC_BIND_ADDRESS, GRPC_PORT: apps[0].address = "[fdaa:0:1::2]:9052": the sidecar's own listener ` +
					`(admin.listen = "[::]:9052"), so it would loop; write the address that the app itself listens on (GRPC_PORT), ` +
					"or move admin.listen",
			},
		},
		{
			name: "GRPC_PORT and GRPC_BIND_ADDRESS that say nothing",
			env:  []string{"GRPC_PORT=http", "GRPC_BIND_ADDRESS=0.0.0.0:50051"},
			want: []string{
				`GRPC_BIND_ADDRESS: apps[0].address = "0.0.0.0:50051": "0.0.0.0:50051" is not a host; ` +
					"write the IP address that the app binds, without a port, such as 0.0.0.0 or ::",
				`GRPC_PORT: apps[0].address = "http": not a port; write the port that the app listens on, from 1 to 65535`,
			},
		},
		{
			name: "two apps alike",
			file: "apps:\n- {name: a, address: '127.0.0.1:1'}\n- {name: a, address: '127.0.0.1:1'}\n",
			want: []string{
				`flyproxy.yaml:3: apps[1].name = "a": also the name of apps[0]; give each app its own name`,
				`flyproxy.yaml:3: apps[1].address = "127.0.0.1:1": the same service at the same address as apps[0]; ` +
					"give each app its own address, or its own service",
			},
		},
		{
			name: "a service with a slash, an id with one, a namespace with a space",
			env:  []string{"FLYPROXY_SERVICE=a/b", "FLYPROXY_INSTANCE_ID=a/b", "FLYPROXY_REGISTRY_NAMESPACE=a b"},
			want: []string{
				`FLYPROXY_SERVICE: service = "a/b": a service has no slash; write 1 to 128 of the characters A-Z a-z 0-9 . _ -`,
				`FLYPROXY_INSTANCE_ID: instance_id = "a/b": not a name; write 1 to 128 of the characters A-Z a-z 0-9 . _ -`,
				`FLYPROXY_REGISTRY_NAMESPACE: registry.namespace = "a b": not a namespace; write 1 to 64 of the characters A-Z a-z 0-9 . _ -`,
			},
		},
		{
			name: "a lease too short",
			env:  []string{"FLYPROXY_REGISTRATION_LEASE=10s"},
			want: []string{
				`FLYPROXY_REGISTRATION_LEASE: registration.lease = "10s": too short for beats every 5s: one lost beat would end the ` +
					"registration; write at least 12.5s (2.5 intervals), or shorten registration.interval",
			},
		},
		{
			name: "no private address on Fly",
			env:  []string{"FLY_APP_NAME=shop", "FLY_MACHINE_ID=148e"},
			want: []string{
				`default: registration.address = "auto": nothing to put in for {private_ip}: FLY_PRIVATE_IP is not set, or not an IP address; ` +
					"set FLY_PRIVATE_IP, or write another form into registration.address, or set registration.is_fly to false",
			},
		},
		{
			name: "a private address that is none, beside another fault",
			env:  []string{"FLY_APP_NAME=shop", "FLY_MACHINE_ID=148e", "FLY_PRIVATE_IP=zz", "GRPC_PORT=99999"},
			want: []string{
				`GRPC_PORT: apps[0].address = "99999": not a port; write the port that the app listens on, from 1 to 65535`,
				`FLY_PRIVATE_IP = "zz": not an IP address; write the Machine's 6PN address, fdaa:…`,
			},
		},
		{
			name: "an address that nobody would take",
			env:  []string{"FLYPROXY_REGISTRATION_ADDRESS=192.0.2.1:50051", "FLYPROXY_REGISTRY_ALLOWED_NETWORKS=fdaa::/16,10.0.0.0/8"},
			want: []string{
				`FLYPROXY_REGISTRATION_ADDRESS: registration.address = "192.0.2.1:50051": it gives 192.0.2.1:50051, which lies outside ` +
					"registry.allowed_networks: nobody would take the record; " +
					"add its network to registry.allowed_networks, or advertise another address",
			},
		},
		{
			name: "a namespace that is too long",
			env:  []string{"FLYPROXY_REGISTRY_NAMESPACE=" + strings.Repeat("n", 65)},
			want: []string{
				`FLYPROXY_REGISTRY_NAMESPACE: registry.namespace = "` + strings.Repeat("n", 65) +
					`": not a namespace; write 1 to 64 of the characters A-Z a-z 0-9 . _ -`,
			},
		},
		{
			name: "an unknown placeholder",
			env:  []string{"FLYPROXY_REGISTRATION_ADDRESS={machine}.internal:{port}"},
			want: []string{
				`FLYPROXY_REGISTRATION_ADDRESS: registration.address = "{machine}.internal:{port}": unknown placeholder {machine}: known are ` +
					"{instance_id}, {machine_id}, {app}, {region}, {private_ip}, {port}, {host}; " +
					"write auto, private-ip, machine-dns, host:port, or a template such as {instance_id}.internal:{port}",
			},
		},
		{
			name: "two apps advertised alike",
			file: "apps:\n- {name: a, address: '127.0.0.1:1'}\n- {name: b, address: '127.0.0.1:2'}\nregistration: {address: 'h.example:1'}\n",
			want: []string{
				`flyproxy.yaml:4: registration.address = "h.example:1": apps[0] and apps[1] would both be advertised as h.example:1; ` +
					"write {port} into it",
			},
		},
		{
			name: "labels, routes and static entries",
			file: "registration: {labels: [{name: a}, {name: a}, {value: b}]}\n" +
				"routing: {routes: [{prefix: pkg.Svc/, service: s}, {prefix: /a/}], backoff: {base: 1m}}\n" +
				"registry: {static: [{service: s, address: nowhere}], allowed_networks: [fdaa::]}\n",
			want: []string{
				"flyproxy.yaml:1: registration.labels[2].name: missing; add name: the label's name",
				"flyproxy.yaml:2: routing.routes[1].service: missing; add service: the service that takes these calls",
				`flyproxy.yaml:1: registration.labels[1].name = "a": also the name of labels[0]; keep one of them`,
				`flyproxy.yaml:3: registry.allowed_networks = "fdaa::": not a network; ` +
					"write an address, a slash and the length of the prefix, such as fdaa::/16",
				`flyproxy.yaml:3: registry.static[0].address = "nowhere": not host:port; ` + notHostPort,
				`flyproxy.yaml:2: routing.routes[0].prefix = "pkg.Svc/": does not begin with a slash, as every gRPC path does; write /pkg.Svc/`,
				`flyproxy.yaml:2: routing.backoff.base = "1m": longer than routing.backoff.max, 10s; shorten it, or lengthen the other`,
			},
		},
		{
			name: "lists in the environment",
			env:  []string{"FLYPROXY_APPS={name: a}", "FLYPROXY_ROUTING_ROUTES=[{prefx: /a/}]", "FLYPROXY_REGISTRY_STATIC=[{"},
			want: []string{
				"FLYPROXY_APPS: apps: a list is wanted, not a map of keys; write [{…}], YAML or JSON",
				"FLYPROXY_REGISTRY_STATIC: registry.static: did not find expected node content; check the indentation and the quotes around there",
				`FLYPROXY_ROUTING_ROUTES: routing.routes[0].prefx: unknown key; did you mean "prefix"?`,
				"FLYPROXY_ROUTING_ROUTES: routing.routes[0].prefix: missing; add prefix: /package.Service/ or /package.",
				"FLYPROXY_ROUTING_ROUTES: routing.routes[0].service: missing; add service: the service that takes these calls",
			},
		},
		{
			name: "the file is a list",
			file: "- listen\n",
			want: []string{"flyproxy.yaml:1: the file is a list, not keys with values; begin with a key such as listen:"},
		},
		{
			name: "the file is one value",
			file: "listen\n",
			want: []string{"flyproxy.yaml:1: the file is a single value, not keys with values; begin with a key such as listen:"},
		},
		{
			name: "a tab",
			file: "log:\n\tlevel: info\n",
			want: []string{"flyproxy.yaml:2: a tab in the indentation, which YAML does not allow; indent with spaces"},
		},
		{
			name: "a tab after a good key",
			file: "log:\n  level: info\n\tformat: text\n",
			want: []string{"flyproxy.yaml:3: a tab in the indentation, which YAML does not allow; indent with spaces"},
		},
		{
			name: "broken YAML",
			file: "mode: sidecar\nlisten: a: b\n",
			want: []string{
				"flyproxy.yaml:2: mapping values are not allowed in this context; check the indentation and the quotes around there",
			},
		},
		{
			name: "two documents",
			file: "mode: sidecar\n---\nmode: sidecar\n",
			want: []string{"flyproxy.yaml:2: a second YAML document; remove the --- line: one document is read"},
		},
		{
			name: "aliases and merges",
			file: "log: &x {level: info}\ndrain: *x\nadmin:\n  <<: *x\n",
			want: []string{
				"flyproxy.yaml:2: drain: a YAML alias; write out the value: aliases are not read",
				"flyproxy.yaml:4: admin: not a plain key; write out the keys: aliases and merges are not read",
			},
		},
		{
			name: "Redis",
			env: []string{
				"FLYPROXY_REGISTRY_REDIS_MODE=cluster", "FLYPROXY_REGISTRY_REDIS_DB=2", "FLYPROXY_REGISTRY_REDIS_ADDRESSES=a:1,b",
				"FLYPROXY_REGISTRY_REDIS_SENTINEL_MASTER=m",
			},
			want: []string{
				`FLYPROXY_REGISTRY_REDIS_ADDRESSES: registry.redis.addresses = "b": not host:port; ` + notHostPort,
				`FLYPROXY_REGISTRY_REDIS_SENTINEL_MASTER: registry.redis.sentinel.master = "m": the mode is cluster; ` +
					"set registry.redis.mode to sentinel, or remove the master",
				`FLYPROXY_REGISTRY_REDIS_DB: registry.redis.db = "2": a Redis Cluster has only database 0; write 0`,
			},
		},
		{
			name: "a sentinel without its master",
			env:  []string{"FLYPROXY_REGISTRY_REDIS_MODE=sentinel"},
			want: []string{
				"default: registry.redis.sentinel.master: missing: sentinels are asked for a master by its name; " +
					"set it to the name in sentinel.conf",
			},
		},
		{
			name: "several standalones",
			env:  []string{"FLYPROXY_REGISTRY_REDIS_MODE=standalone", "FLYPROXY_REGISTRY_REDIS_ADDRESSES=a:1,b:2"},
			want: []string{
				`FLYPROXY_REGISTRY_REDIS_ADDRESSES: registry.redis.addresses = "a:1,b:2": several addresses, and the mode is standalone; ` +
					"keep one, or set registry.redis.mode to cluster or sentinel",
			},
		},
		{
			name: "lists whose items are no values",
			file: "listen:\n- localhost:1\n- {a: b}\n-\napps:\n- a\n- grpc_services: [/a.B/, c.D]\n",
			want: []string{
				"flyproxy.yaml:3: listen: item 2 is a map of keys, not a value; write one value after each -",
				"flyproxy.yaml:4: listen: item 3 is empty, not a value; write one value after each -",
				"flyproxy.yaml:6: apps[0]: holds keys, not a single value; write the keys " +
					"name, address, service, weight, inbound, grpc_services, health",
				`flyproxy.yaml:7: apps[1].grpc_services = "/a.B/": not the full name of a gRPC service; write package.Service, without slashes`,
			},
		},
		{
			name: "lists in the environment with holes",
			env:  []string{"FLYPROXY_LISTEN=localhost:1,,localhost:2"},
			want: []string{
				`FLYPROXY_LISTEN: listen = "localhost:1,,localhost:2": an empty item in the list; separate the items with single commas`,
			},
		},
		{
			name: "addresses that are none",
			env: []string{
				"FLYPROXY_ADMIN_LISTEN=-a-:1", "FLYPROXY_REGISTRY_EMBEDDED_ADDRESS=0.0.0.0:1",
				"FLYPROXY_APPS=[{address: 'h:0'},{name: b, address: 'h:65536'}]",
			},
			want: []string{
				`FLYPROXY_APPS: apps[0].address = "h:0": "0" is not a port; write a port from 1 to 65535`,
				`FLYPROXY_APPS: apps[1].address = "h:65536": "65536" is not a port; write a port from 1 to 65535`,
				`FLYPROXY_ADMIN_LISTEN: admin.listen = "-a-:1": "-a-" is not a host; write a host name or an IP address before the port`,
				`FLYPROXY_REGISTRY_EMBEDDED_ADDRESS: registry.embedded.address = "0.0.0.0:1": not a loopback address: ` +
					"the embedded Redis asks nobody for a password; write an address such as 127.0.0.1:56379",
			},
		},
		{
			name: "static entries alike",
			file: "registry: {static: [{service: s, id: a, address: 'h:1'}, {service: s, id: a, address: 'h:2'}, {service: t, id: a, address: 'h:3'}]}\n",
			want: []string{
				`flyproxy.yaml:1: registry.static[1].id = "a": also the id of registry.static[0], of the same service; give each instance its own`,
			},
		},
		{
			name: "routes alike",
			file: "routing: {routes: [{prefix: /a/, service: s}, {prefix: /a/, service: t}]}\n",
			want: []string{`flyproxy.yaml:1: routing.routes[1].prefix = "/a/": also the prefix of routes[0]; keep one of them`},
		},
		{
			name: "no app to register",
			file: "apps: []\n",
			want: []string{"flyproxy.yaml:1: apps: no app to register; list one, or set registration.enabled to false"},
		},
		{
			name: "a control socket that is none",
			file: "admin:\n  socket: /run/flyproxy.sock\n",
			want: []string{
				`flyproxy.yaml:2: admin.socket = "/run/flyproxy.sock": not an absolute path; write unix:// and an absolute path, such as unix:///run/flyproxy.sock`,
			},
		},
		{
			name: "a control socket that takes calls too",
			file: "listen: [localhost:50052, unix:///run/flyproxy.sock]\nadmin:\n  socket: unix:///run/./flyproxy.sock\n",
			want: []string{
				`flyproxy.yaml:3: admin.socket = "unix:///run/./flyproxy.sock": the same socket as listen = "unix:///run/flyproxy.sock"; give each its own`,
			},
		},
		{
			name: "waits before restarts that shrink",
			file: "run:\n  backoff: {base: 1m, max: 30s}\n  restart: sometimes\n",
			want: []string{
				`flyproxy.yaml:3: run.restart = "sometimes": not a value of this key; write never, on-failure or always`,
				`flyproxy.yaml:2: run.backoff.base = "1m": longer than run.backoff.max, 30s; shorten it, or lengthen the other`,
			},
		},
		{
			name: "a broken second document",
			file: "mode: sidecar\n---\na: b: c\n",
			want: []string{
				"flyproxy.yaml:3: mapping values are not allowed in this context; check the indentation and the quotes around there",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantLines(t, faults(t, tt.file, good(tt.env...)...), tt.want)
		})
	}
}

// What is missing altogether is told with what to set; nothing else is needed then.
func TestNothingConfigured(t *testing.T) {
	wantLines(t, faults(t, ""), []string{
		"default: registry.store: Service discovery not configured; set REDIS_URL (or REDIS_HOST, or registry.redis in the file), " +
			"list instances under registry.static, or for development set FLYPROXY_REGISTRY_STORE=embedded",
		"default: service: missing: the app is registered under the name of its service, and outside Fly there is no FLY_APP_NAME to take; " +
			"set service or FLYPROXY_SERVICE, or set registration.enabled to false",
	})
}

// Faults that need an environment in which something else is missing.
func TestFaultsOfWhatIsMissing(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		env        []string
		want       []string
	}{
		{
			name: "redis without an address", env: []string{"FLYPROXY_SERVICE=s", "FLYPROXY_REGISTRY_STORE=redis"},
			want: []string{
				`FLYPROXY_REGISTRY_STORE: registry.store = "redis": no Redis address is set; set REDIS_URL, REDIS_HOST or registry.redis in the file`,
			},
		},
		{
			name: "static without instances", env: []string{"FLYPROXY_SERVICE=s", "FLYPROXY_REGISTRY_STORE=static"},
			want: []string{
				`FLYPROXY_REGISTRY_STORE: registry.store = "static": registry.static lists no instances; list them, each with service and address`,
			},
		},
		{
			name: "one of several apps without a service", env: []string{"REDIS_HOST=r"},
			file: "apps: [{name: a, address: 'h:1', service: s}, {name: b, address: 'h:2'}]",
			want: []string{
				"default: apps[1].service: the app has no service to be registered under; " +
					"set it, or set service (FLYPROXY_SERVICE) for all apps",
			},
		},
		{
			name: "a FLY_ variable that cannot be a name", env: []string{"REDIS_HOST=r", "FLY_APP_NAME=a b"},
			want: []string{
				`FLY_APP_NAME: service = "a b": not the name of a service; write 1 to 128 of the characters A-Z a-z 0-9 . _ -`,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) { wantLines(t, faults(t, tt.file, tt.env...), tt.want) })
	}
}

// A file that is there but cannot be read is a fault although nobody named it: it was put there to be read.
func TestImplicitFileThatCannotBeRead(t *testing.T) {
	_, err := config.Load(config.Options{Environ: good(), ReadFile: func(name string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}})
	const want = "1 fault in the configuration:\n" +
		"  flyproxy.yaml: cannot read the file: permission denied; make it readable, or name another with --config"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// Faults of every layer come together, and the text says how many.
func TestAllFaultsAtOnce(t *testing.T) {
	_, err := load("lisen: []\nlog: {level: loud}\n", "FLYPROXY_DRAIN_TIMEOUT=4", "FLYPROXY_SERVICE=a", "GRPC_PORT=50052", "REDIS_HOST=r")
	const want = `4 faults in the configuration:
  flyproxy.yaml:1: lisen: unknown key; did you mean "listen"?
  flyproxy.yaml:2: log.level = "loud": not a value of this key; write debug, info, warn or error
  FLYPROXY_DRAIN_TIMEOUT: drain.timeout = "4": a duration without its unit; write 4s for seconds or 4ms for milliseconds
  GRPC_PORT: apps[0].address = "127.0.0.1:50052": the sidecar's own listener (listen = "localhost:50052"), so it would loop; ` +
		`write the address that the app itself listens on (GRPC_PORT), or move listen`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// A value that is refused is not reported a second time as missing or as in conflict.
func TestNoFaultFollowsFromAnother(t *testing.T) {
	for name, env := range map[string][]string{
		"service":  {"FLYPROXY_SERVICE=a/b", "REDIS_HOST=r"},
		"store":    {"FLYPROXY_SERVICE=a", "FLYPROXY_REGISTRY_STORE=etcd"},
		"URL":      {"FLYPROXY_SERVICE=a", "REDIS_URL=http://r"},
		"host":     {"FLYPROXY_SERVICE=a", "REDIS_HOST=a b"},
		"app":      {"FLYPROXY_SERVICE=a", "REDIS_HOST=r", "FLYPROXY_APPS=[{address: nonsense}]"},
		"apps":     {"FLYPROXY_SERVICE=a", "REDIS_HOST=r", "FLYPROXY_APPS=[["},
		"interval": {"FLYPROXY_SERVICE=a", "REDIS_HOST=r", "FLYPROXY_REGISTRATION_LEASE=1s", "FLYPROXY_REGISTRATION_INTERVAL=1"},
		"lease":    {"FLYPROXY_SERVICE=a", "REDIS_HOST=r", "FLYPROXY_REGISTRATION_LEASE=1", "FLYPROXY_REGISTRATION_INTERVAL=9s"},
		"the file": {"FLYPROXY_CONFIG=/nowhere.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := faults(t, "", env...); len(got) != 1 {
				t.Errorf("%d faults:\n  %s", len(got), strings.Join(got, "\n  "))
			}
		})
	}
}

func TestFiles(t *testing.T) {
	disk := map[string]string{"flyproxy.yaml": "region: here", "/etc/flyproxy/flyproxy.yaml": "region: etc", "/other.yaml": "region: other"}
	read := func(name string) ([]byte, error) {
		if text, ok := disk[name]; ok {
			return []byte(text), nil
		}
		if name == "/closed.yaml" {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	region := func(t *testing.T, path string, env ...string) (string, error) {
		t.Helper()
		cfg, err := config.Load(config.Options{Path: path, Environ: good(env...), ReadFile: read})
		if err != nil {
			return "", err
		}
		return cfg.Region + " " + cfg.Source("region") + " " + cfg.File, nil
	}
	for _, tt := range []struct{ path, env, gone, want string }{
		{path: "/other.yaml", env: "FLYPROXY_CONFIG=/nowhere", want: "other /other.yaml:1 /other.yaml"},
		{env: "FLYPROXY_CONFIG=/other.yaml", want: "other /other.yaml:1 /other.yaml"},
		{want: "here flyproxy.yaml:1 flyproxy.yaml"},
		{gone: "flyproxy.yaml", want: "etc /etc/flyproxy/flyproxy.yaml:1 /etc/flyproxy/flyproxy.yaml"},
		{gone: "/etc/flyproxy/flyproxy.yaml", want: "  "},
	} {
		delete(disk, tt.gone)
		if got, err := region(t, tt.path, tt.env); err != nil || got != tt.want {
			t.Errorf("%+v: got %q, %v", tt, got, err)
		}
	}

	for path, want := range map[string]string{
		"/nowhere.yaml": `--config = "/nowhere.yaml": cannot read the file: file does not exist; name a file that is there`,
		"/closed.yaml":  `--config = "/closed.yaml": cannot read the file: permission denied; name a file that is there`,
	} {
		_, err := region(t, path)
		var faulty *config.Error
		if !errors.As(err, &faulty) || len(faulty.Faults) != 1 || faulty.Faults[0].String() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

func TestEmptyFilesSetNothing(t *testing.T) {
	for _, text := range []string{"\n", "# nothing\n", "---\n", "null\n", "registry:\nlog: {}\napps:\nservice: ''\ninstance_id: ''\n"} {
		cfg := mustLoad(t, text, good()...)
		if cfg.Service != "greeter" || len(cfg.Apps) != 1 || cfg.InstanceID == "" || cfg.Log.Level != "info" {
			t.Errorf("%q: %+v", text, cfg)
		}
	}
}
