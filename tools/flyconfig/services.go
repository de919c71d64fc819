package flyconfig

import "fmt"

// Service is a port that Fly's proxy answers for. An app that only speaks over 6PN needs none.
type Service struct {
	Protocol           string         `toml:"protocol"`
	InternalPort       int            `toml:"internal_port"`
	AutoStop           any            `toml:"auto_stop_machines"` // off, stop, suspend; false, true
	AutoStart          *bool          `toml:"auto_start_machines"`
	MinMachinesRunning *int           `toml:"min_machines_running"`
	Ports              []ServicePort  `toml:"ports"`
	Concurrency        *Concurrency   `toml:"concurrency"`
	TCPChecks          []ServiceCheck `toml:"tcp_checks"`
	HTTPChecks         []ServiceCheck `toml:"http_checks"`
	MachineChecks      []MachineCheck `toml:"machine_checks"`
	Processes          []string       `toml:"processes"`
}

// HTTPService is a Service on ports 80 and 443.
type HTTPService struct {
	InternalPort       int            `toml:"internal_port"`
	ForceHTTPS         bool           `toml:"force_https"`
	AutoStop           any            `toml:"auto_stop_machines"`
	AutoStart          *bool          `toml:"auto_start_machines"`
	MinMachinesRunning *int           `toml:"min_machines_running"`
	Processes          []string       `toml:"processes"`
	Concurrency        *Concurrency   `toml:"concurrency"`
	TLSOptions         *TLSOptions    `toml:"tls_options"`
	HTTPOptions        *HTTPOptions   `toml:"http_options"`
	Checks             []ServiceCheck `toml:"checks"`
	MachineChecks      []MachineCheck `toml:"machine_checks"`
}

// ServicePort is a port, or a range of them, to the outside.
type ServicePort struct {
	Port         *int         `toml:"port"`
	StartPort    *int         `toml:"start_port"`
	EndPort      *int         `toml:"end_port"`
	Handlers     []string     `toml:"handlers"`
	ForceHTTPS   bool         `toml:"force_https"`
	TLSOptions   *TLSOptions  `toml:"tls_options"`
	HTTPOptions  *HTTPOptions `toml:"http_options"`
	ProxyOptions *struct {
		Version string `toml:"version"`
	} `toml:"proxy_proto_options"`
}

// Concurrency is what one Machine takes at a time.
type Concurrency struct {
	Type      string `toml:"type"`
	HardLimit int    `toml:"hard_limit"`
	SoftLimit int    `toml:"soft_limit"`
}

// TLSOptions are for the tls handler.
type TLSOptions struct {
	ALPN              []string `toml:"alpn"`
	Versions          []string `toml:"versions"`
	DefaultSelfSigned *bool    `toml:"default_self_signed"`
}

// HTTPOptions are for the http handler.
type HTTPOptions struct {
	Compress           *bool `toml:"compress"`
	H2Backend          *bool `toml:"h2_backend"`
	IdleTimeout        *int  `toml:"idle_timeout"`
	HeadersReadTimeout *int  `toml:"headers_read_timeout"`
	ReplayCache        []any `toml:"replay_cache"`
	Response           *struct {
		Headers  map[string]any `toml:"headers"`
		Pristine *bool          `toml:"pristine"`
	} `toml:"response"`
}

// ServiceCheck gates the routing of Fly's proxy.
type ServiceCheck struct {
	Interval    any            `toml:"interval"`
	Timeout     any            `toml:"timeout"`
	GracePeriod any            `toml:"grace_period"`
	Method      string         `toml:"method"`
	Path        string         `toml:"path"`
	Protocol    string         `toml:"protocol"`
	TLSSkip     *bool          `toml:"tls_skip_verify"`
	TLSName     string         `toml:"tls_server_name"`
	Headers     map[string]any `toml:"headers"`
}

// MachineCheck is a command that is run in a Machine of its own during a deploy.
type MachineCheck struct {
	Command     []string `toml:"command"`
	Image       string   `toml:"image"`
	Entrypoint  []string `toml:"entrypoint"`
	KillSignal  string   `toml:"kill_signal"`
	KillTimeout any      `toml:"kill_timeout"`
}

// anyService is what a Service and an HTTPService have in common.
type anyService struct {
	key         string
	port        int
	autoStop    any
	concurrency *Concurrency
	processes   []string
}

func (f *File) allServices() []anyService {
	var all []anyService
	for i, s := range f.Services {
		all = append(all, anyService{fmt.Sprintf("services[%d]", i), s.InternalPort, s.AutoStop, s.Concurrency, s.Processes})
	}
	if s := f.HTTPService; s != nil {
		all = append(all, anyService{"http_service", s.InternalPort, s.AutoStop, s.Concurrency, s.Processes})
	}
	return all
}
