// Package config reads flyproxy's configuration: defaults, then a strict YAML file, then the environment. It checks all of it
// and reports every fault at once, each with its key, its value, where it stands and what would be right, before anything binds.
//
// The structs below are the one table of keys: names, defaults, bounds and accepted values are their tags, and everything else
// (environment names, unknown-key detection, printing, the check of configs/flyproxy.yaml) is derived from them by reflection.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

// Size is a number of bytes. In the configuration it is written 65536 or 64KiB (KiB, MiB, GiB).
type Size int64

// Config is the whole configuration as it is in force. It is not changed after Load; all methods may be called concurrently.
//
// Tags: key is the name; default is the value in the form of an environment variable, auto says in words where a default comes
// from that depends on the surroundings; oneof, min and max bound the value; alias is a suffix with which each oneof value is
// taken in capitals too (WeightedLoadStrategy); form names a form of text; need says that an item of a list must have it; secret
// values are masked wherever they are shown; usage is one line for people.
type Config struct {
	Mode         string       `key:"mode" default:"sidecar" oneof:"sidecar|gateway" usage:"what this process is"`
	Listen       []string     `key:"listen" default:"localhost:50052" auto:"fly-local-6pn:50052 for a gateway" usage:"where calls are accepted: host:port, unix:///path"`
	SocketMode   string       `key:"listen_socket_mode" default:"0660" form:"mode" usage:"who may connect to a unix socket of listen"`
	Engine       string       `key:"engine" default:"relay" oneof:"relay|grpc" usage:"the data plane"`
	Service      string       `key:"service" auto:"FLY_APP_NAME" form:"service" usage:"the service that the app offers"`
	InstanceID   string       `key:"instance_id" auto:"FLY_MACHINE_ID, else generated" form:"name" usage:"unique within the service"`
	Region       string       `key:"region" auto:"FLY_REGION" form:"name" usage:"where this instance is"`
	Apps         []App        `key:"apps" auto:"one app, at GRPC_BIND_ADDRESS:GRPC_PORT" usage:"the apps beside this sidecar"`
	Registration Registration `key:"registration"`
	Registry     Registry     `key:"registry"`
	Routing      Routing      `key:"routing"`
	Retry        Retry        `key:"retry"`
	Upstream     Upstream     `key:"upstream"`
	Downstream   Downstream   `key:"downstream"`
	Limits       Limits       `key:"limits"`
	Drain        Drain        `key:"drain"`
	Run          Run          `key:"run"`
	Admin        Admin        `key:"admin"`
	Log          Log          `key:"log"`
	AccessLog    AccessLog    `key:"access_log"`

	// Fly is the Machine as Fly describes it, with registration.is_fly applied.
	Fly fly.Environment
	// File is the file that was read; empty when there was none.
	File string
	// Warnings are about what is not wrong but may not be what was meant.
	Warnings []Warning

	origins map[string]origin
}

// App is a gRPC server beside this sidecar.
type App struct {
	Name         string   `key:"name" default:"app" form:"name" usage:"tells the apps of a Machine apart"`
	Address      string   `key:"address" auto:"GRPC_BIND_ADDRESS:GRPC_PORT" usage:"host:port where the sidecar reaches the app"`
	Service      string   `key:"service" auto:"service" form:"service" usage:"the service that this app offers"`
	Weight       int      `key:"weight" auto:"registration.weight" min:"1" max:"10000" usage:"share of calls, relative to others"`
	Inbound      string   `key:"inbound" default:"auto" oneof:"auto|always|never" usage:"listen for peers on the app's behalf"`
	GRPCServices []string `key:"grpc_services" auto:"asked by reflection" form:"grpc" usage:"what it answers: package.Service"`
	Health       Health   `key:"health"`
}

// Health is how the sidecar learns whether its app is healthy.
type Health struct {
	Service  string        `key:"service" usage:"the name that the health check asks for; empty asks for the whole server"`
	Mode     string        `key:"mode" default:"auto" oneof:"auto|watch|check|tcp|none" usage:"how health is learnt"`
	Interval time.Duration `key:"interval" default:"2s" min:"50ms" max:"1h" usage:"time between two checks"`
	Timeout  time.Duration `key:"timeout" default:"1s" min:"10ms" max:"1h" usage:"time that one check may take"`
	Rise     int           `key:"rise" default:"1" min:"1" max:"100" usage:"good checks in a row until healthy"`
	Fall     int           `key:"fall" default:"3" min:"1" max:"100" usage:"bad checks in a row until unhealthy"`
}

// Registration is what the sidecar registers of its apps, and how it keeps that alive.
type Registration struct {
	Enabled      bool          `key:"enabled" default:"true" usage:"register the apps; false only calls others"`
	Address      string        `key:"address" default:"auto" usage:"what peers dial: a form, a template or host:port"`
	IsFly        string        `key:"is_fly" default:"auto" oneof:"auto|true|false" usage:"whether this is a Fly Machine"`
	Interval     time.Duration `key:"interval" default:"5s" min:"50ms" max:"10m" usage:"time between two beats"`
	Lease        time.Duration `key:"lease" default:"15s" min:"100ms" max:"1h" usage:"how long a record lives without a beat"`
	Weight       int           `key:"weight" default:"100" min:"1" max:"10000" usage:"share of calls, relative to others"`
	ProcessGroup string        `key:"process_group" auto:"FLY_PROCESS_GROUP" usage:"shown in status pages"`
	AppVersion   string        `key:"app_version" auto:"FLY_IMAGE_REF" usage:"shown in status pages"`
	Labels       []Label       `key:"labels" usage:"free labels of the record"`
}

// Label is a name and a value. Labels are a list, not a map, so that dots and capitals in names survive.
type Label struct {
	Name  string `key:"name" need:"true" usage:"the label's name"`
	Value string `key:"value" usage:"the label's value"`
}

// Registry is where instances are registered and found.
type Registry struct {
	// Store is redis, static or embedded once Load has resolved auto.
	Store           string   `key:"store" default:"auto" oneof:"auto|redis|static|embedded" usage:"the kind of registry"`
	Namespace       string   `key:"namespace" default:"default" form:"namespace" usage:"sidecars see only their own namespace"`
	AllowedNetworks []string `key:"allowed_networks" auto:"fdaa::/16 on Fly, else any" usage:"where addresses of records may lie"`
	SigningKey      string   `key:"signing_key" secret:"true" usage:"signs records and refuses unsigned ones"`
	MaxRecordBytes  Size     `key:"max_record_bytes" default:"64KiB" min:"1KiB" max:"16MiB" usage:"larger records are ignored"`
	Redis           Redis    `key:"redis"`
	Static          []Static `key:"static" usage:"the instances of the static store"`
	Embedded        Embedded `key:"embedded"`
}

// Redis is how the Redis is reached. After Load, Host, Port, Username, Password, DB and TLS are what is in force, whether it
// was said by them, by URL, or by REDIS_URL and its kin; nobody else needs to read URL.
type Redis struct {
	URL         string        `key:"url" secret:"url" usage:"redis://user:password@host:6379/0, or rediss:// for TLS"`
	Mode        string        `key:"mode" default:"auto" oneof:"auto|standalone|sentinel|cluster" usage:"what answers there"`
	Addresses   []string      `key:"addresses" usage:"host:port of cluster nodes or sentinels, in place of host and port"`
	Host        string        `key:"host" usage:"host name or IP address"`
	Port        int           `key:"port" default:"6379" min:"1" max:"65535" usage:"TCP port"`
	Username    string        `key:"username" usage:"ACL user; empty is Redis' default user"`
	Password    string        `key:"password" secret:"true" usage:"the user's password"`
	DB          int           `key:"db" default:"0" min:"0" max:"1000000" usage:"database number; a cluster has only 0"`
	TLS         bool          `key:"tls" default:"false" usage:"speak TLS"`
	CAFile      string        `key:"ca_file" usage:"PEM file of the certificate authority; empty is the system's"`
	ServerName  string        `key:"server_name" usage:"the name in the server's certificate, if not the host"`
	Sentinel    Sentinel      `key:"sentinel"`
	DialTimeout time.Duration `key:"dial_timeout" default:"2s" min:"1ms" max:"5m" usage:"time that a connect may take"`
	Timeout     time.Duration `key:"timeout" default:"2s" min:"1ms" max:"5m" usage:"time that a command may take"`
}

// Sentinel is for a Redis that is found by asking sentinels; Redis.Addresses are theirs.
type Sentinel struct {
	Master   string `key:"master" usage:"the name of the master set"`
	Username string `key:"username" usage:"ACL user of the sentinels themselves"`
	Password string `key:"password" secret:"true" usage:"password of the sentinels themselves"`
}

// Static is one instance of the static store.
type Static struct {
	Service      string   `key:"service" need:"true" form:"service" usage:"the service that it offers"`
	ID           string   `key:"id" auto:"address" form:"id" usage:"unique within the service"`
	Address      string   `key:"address" need:"true" usage:"host:port that is dialled"`
	Region       string   `key:"region" form:"name" usage:"where it is"`
	Weight       int      `key:"weight" default:"100" min:"1" max:"10000" usage:"share of calls, relative to others"`
	GRPCServices []string `key:"grpc_services" form:"grpc" usage:"what it answers: package.Service"`
}

// Embedded is the Redis that a flyproxy process runs itself, for development and the demo.
type Embedded struct {
	Address string `key:"address" default:"127.0.0.1:56379" usage:"loopback host:port; the first process there hosts it"`
}

// Routing is how a call finds its peer.
type Routing struct {
	Policy       string  `key:"policy" default:"weighted_load" oneof:"round_robin|least_connections|weighted_load" alias:"Strategy" usage:"choice of equals"`
	PreferRegion bool    `key:"prefer_region" default:"true" usage:"same region first, then the nearest"`
	Self         string  `key:"self" default:"last" oneof:"last|include|never" usage:"when a call may go to the own app"`
	Routes       []Route `key:"routes" usage:"services by path, where the gRPC service name does not tell"`
	Backoff      Backoff `key:"backoff"`
}

// Route sends the calls whose path (/package.Service/Method) begins with Prefix to Service.
type Route struct {
	Prefix  string `key:"prefix" need:"true" usage:"/package.Service/ or /package."`
	Service string `key:"service" need:"true" form:"service" usage:"the service that takes these calls"`
}

// Backoff is how long a peer that refused is left alone: Base, doubled with each refusal, up to Max.
type Backoff struct {
	Base time.Duration `key:"base" default:"100ms" min:"1ms" max:"1h" usage:"after the first refusal"`
	Max  time.Duration `key:"max" default:"10s" min:"1ms" max:"1h" usage:"the longest"`
}

// Retry says which calls may be sent again although a peer may have begun them. Calls that no peer has begun are sent again anyway.
type Retry struct {
	Methods  []string `key:"methods" form:"method" usage:"safe to call again: /package.Service/Method, /package.Service/*"`
	Attempts int      `key:"attempts" default:"3" min:"2" max:"10" usage:"peers that one call is sent to at most, the first included"`
	Budget   float64  `key:"budget" default:"0.2" min:"0.01" max:"1" usage:"retries for each call of the last ten seconds"`
}

// Upstream is about the connections to peers.
type Upstream struct {
	ConnectTimeout        time.Duration `key:"connect_timeout" default:"1s" min:"1ms" max:"5m" usage:"time that a connect may take"`
	MaxConnectionsPerPeer int           `key:"max_connections_per_peer" default:"4" min:"1" max:"1000" usage:"most that are opened"`
	IdleTimeout           time.Duration `key:"idle_timeout" default:"5m" min:"1s" max:"24h" usage:"an unused connection is closed"`
	DeadAfter             time.Duration `key:"dead_after" default:"5s" min:"100ms" max:"5m" usage:"a silent peer's calls are ended"`
	TLS                   UpstreamTLS   `key:"tls"`
}

// UpstreamTLS is TLS towards peers, mutual where there is a certificate. The files are read again when they change.
type UpstreamTLS struct {
	Enabled    bool   `key:"enabled" default:"false" usage:"speak TLS to peers"`
	CAFile     string `key:"ca_file" usage:"PEM file of the peers' certificate authorities; empty is the system's"`
	CertFile   string `key:"cert_file" usage:"PEM file of our own certificate, the intermediate ones after it"`
	KeyFile    string `key:"key_file" usage:"PEM file of its private key"`
	ServerName string `key:"server_name" usage:"the name in the peers' certificates, if not the host that is dialled"`
}

// Downstream is who may be a client of a gateway, and how they speak to it. A sidecar has no use for it: its listeners are loopback
// and unix sockets.
type Downstream struct {
	AllowedNetworks []string      `key:"allowed_networks" auto:"fdaa::/16,127.0.0.0/8,::1/128 for a gateway" usage:"where its clients may be"`
	TLS             DownstreamTLS `key:"tls"`
}

// DownstreamTLS is TLS on a gateway's TCP listeners, mutual where ClientCAFile is set. The files are read again when they change.
type DownstreamTLS struct {
	Enabled      bool   `key:"enabled" default:"false" usage:"take TLS from clients, and nothing else"`
	CertFile     string `key:"cert_file" usage:"PEM file of the gateway's certificate, the intermediate ones after it"`
	KeyFile      string `key:"key_file" usage:"PEM file of its private key"`
	ClientCAFile string `key:"client_ca_file" usage:"PEM file of authorities; clients must have a certificate of one"`
}

// Limits protect the sidecar and its Machine. Their defaults fit one of 256 MB.
type Limits struct {
	MaxHeaderBytes         Size          `key:"max_header_bytes" default:"256KiB" min:"4KiB" max:"64MiB" usage:"metadata of one call"`
	MaxConcurrentStreams   int           `key:"max_concurrent_streams" default:"16384" min:"1" max:"1000000" usage:"open calls of a client connection"`
	MaxCalls               int           `key:"max_calls" default:"16384" min:"1" max:"10000000" usage:"open calls of all connections"`
	MaxConnections         int           `key:"max_connections" default:"1024" min:"1" max:"1000000" usage:"client connections"`
	MaxBufferedBytes       Size          `key:"max_buffered_bytes" default:"32MiB" min:"64KiB" max:"64GiB" usage:"data that its reader does not take"`
	MaxReplayBytes         Size          `key:"max_replay_bytes" default:"8MiB" min:"64KiB" max:"64GiB" usage:"requests kept to be sent again"`
	MaxResetsPerSecond     int           `key:"max_resets_per_second" default:"10000" min:"1" max:"10000000" usage:"of a client connection"`
	MaxQueuedControlFrames int           `key:"max_queued_control_frames" default:"10000" min:"100" max:"10000000" usage:"of a connection"`
	HandshakeTimeout       time.Duration `key:"handshake_timeout" default:"10s" min:"100ms" max:"5m" usage:"time for a client's HTTP/2 preface"`
	ClientIdleTimeout      time.Duration `key:"client_idle_timeout" default:"1h" min:"1s" max:"168h" usage:"a client without calls is sent away"`
	MemoryShare            float64       `key:"memory_share" default:"0.25" min:"0" max:"1" usage:"of FLY_VM_MEMORY_MB, for Go; 0 is all"`
}

// Drain is the orderly end.
type Drain struct {
	Timeout time.Duration `key:"timeout" default:"4s" min:"0s" max:"5m" usage:"time that open calls have to end"`
	Settle  time.Duration `key:"settle" default:"250ms" min:"0s" max:"1m" usage:"time that peers have to learn of a withdrawal"`
}

// Run is about the app that `flyproxy run` starts. No other command reads it.
type Run struct {
	Restart     string        `key:"restart" default:"never" oneof:"never|on-failure|always" usage:"when an app that has ended is started again"`
	Backoff     RunBackoff    `key:"backoff"`
	StopTimeout time.Duration `key:"stop_timeout" default:"2.5s" min:"10ms" max:"5m" usage:"time that the app has to end, then it is killed"`
}

// RunBackoff is the wait before the app is started again: Base, doubled with each quick end, up to Max. An app that ran for longer
// than Max begins anew.
type RunBackoff struct {
	Base time.Duration `key:"base" default:"1s" min:"1ms" max:"1h" usage:"before the first restart"`
	Max  time.Duration `key:"max" default:"30s" min:"1ms" max:"1h" usage:"the longest"`
}

// Admin is the HTTP listener for health, status and metrics, and a unix socket for its user alone, on which `flyproxy withdraw` asks.
type Admin struct {
	Listen string `key:"listen" default:"127.0.0.1:9052" auto:"[::]:9052 on Fly" usage:"host:port"`
	Socket string `key:"socket" auto:"unix:///run/flyproxy.sock on Fly" usage:"unix:///path, where a command may change something"`
}

// Log is about the log on standard error.
type Log struct {
	Level  string `key:"level" default:"info" oneof:"debug|info|warn|error" usage:"the least that is logged"`
	Format string `key:"format" default:"auto" oneof:"auto|json|text" usage:"auto is JSON on Fly or when not on a terminal"`
}

// AccessLog is about the log's lines for single calls.
type AccessLog struct {
	Slow      time.Duration `key:"slow" default:"1s" min:"0s" max:"24h" usage:"calls that take this long are logged; 0s: none for that"`
	Failed    bool          `key:"failed" default:"true" usage:"calls that end with another status than OK are logged"`
	PerSecond int           `key:"per_second" default:"10" min:"1" max:"10000" usage:"lines a second at most"`
}

// The values of Mode and Engine, and those of Registry.Store and of Redis.Mode after Load.
const (
	ModeSidecar = "sidecar"
	ModeGateway = "gateway"

	EngineRelay = "relay"
	EngineGRPC  = "grpc"

	StoreRedis    = "redis"
	StoreStatic   = "static"
	StoreEmbedded = "embedded"

	RedisStandalone = "standalone"
	RedisSentinel   = "sentinel"
	RedisCluster    = "cluster"
)

// ID is the instance id under which app is registered: InstanceID, or InstanceID/name when several apps offer one service.
func (c *Config) ID(app App) string {
	same := 0
	for _, other := range c.Apps {
		if other.Service == app.Service {
			same++
		}
	}
	if same > 1 {
		return c.InstanceID + "/" + app.Name
	}
	return c.InstanceID
}

// AdvertisedAddress is what peers dial to reach app. Host is the address by which this host reaches the registry; only a form
// that names {host} uses it, as the default does where there is no Fly.
func (c *Config) AdvertisedAddress(app App, host string) (string, error) {
	return c.Fly.Address(c.AddressForm(), fly.Place{InstanceID: c.InstanceID, Region: c.Region, Host: host, Port: app.Port()})
}

// AddressForm is Registration.Address with auto resolved: [fly.PrivateIPForm] on Fly, [fly.HostForm] elsewhere.
func (c *Config) AddressForm() string {
	switch {
	case c.Registration.Address != "auto":
		return c.Registration.Address
	case c.Fly.OnFly:
		return fly.PrivateIPForm
	}
	return fly.HostForm
}

// Port is the port of the app's address.
func (a App) Port() int {
	_, port, _ := net.SplitHostPort(a.Address) // Load has checked it
	n, _ := strconv.Atoi(port)
	return n
}

// Networks are AllowedNetworks; none means that any address is allowed.
func (r Registry) Networks() []netip.Prefix { return networks(r.AllowedNetworks) }

// Seeds are the host:port at which the Redis, or its sentinels, are dialled first; none when no Redis is configured.
func (r Redis) Seeds() []string {
	switch {
	case len(r.Addresses) > 0:
		return r.Addresses
	case r.Host != "":
		return []string{net.JoinHostPort(r.Host, strconv.Itoa(r.Port))}
	}
	return nil
}

// Source tells where the value of a key comes from, such as "flyproxy.yaml:12", "FLYPROXY_LISTEN" or "default". The key is
// written as in the file with dots between its parts, an item of a list as apps[0].
func (c *Config) Source(key string) string {
	return c.origins[key].String()
}

// String writes a size with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.bytes == 0 {
			return fmt.Sprintf("%d%s", s/u.bytes, u.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
