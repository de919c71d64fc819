package flyconfig

// Machine is the JSON of machine_config: the containers of one Machine, and what they share. Keys that fly.toml has too (guest,
// services, checks, metrics, env, init, restart) are taken from there and are not in this type, so that they are faults here.
type Machine struct {
	Containers []Container `json:"containers"`
	Volumes    []Volume    `json:"volumes"`
}

// Container is one container. All of a Machine's containers share its network: localhost is the same for all of them.
type Container struct {
	Name string `json:"name"`
	// Image is a reference, or "." for the image that is built by this deploy.
	Image        string            `json:"image"`
	Exec         []string          `json:"exec"`
	Entrypoint   []string          `json:"entrypoint"`
	Cmd          []string          `json:"cmd"`
	User         string            `json:"user"`
	Env          map[string]string `json:"env"`
	EnvFrom      []EnvFrom         `json:"env_from"`
	Secrets      []Secret          `json:"secrets"`
	Files        []ContainerFile   `json:"files"`
	Restart      *ContainerRestart `json:"restart"`
	Stop         *Stop             `json:"stop"`
	DependsOn    []Dependency      `json:"depends_on"`
	Healthchecks []Healthcheck     `json:"healthchecks"`
	Mounts       []ContainerMount  `json:"mounts"`
}

// EnvFrom is a variable that gets its value from the Machine.
type EnvFrom struct {
	EnvVar   string `json:"env_var"`
	FieldRef string `json:"field_ref"`
}

// Secret is a variable that gets its value from a secret. A container with a list of them gets no others.
type Secret struct {
	EnvVar string `json:"env_var"`
	Name   string `json:"name"`
}

// ContainerFile is a file that is put into a container.
type ContainerFile struct {
	GuestPath   string  `json:"guest_path"`
	LocalPath   string  `json:"local_path"`
	RawValue    *string `json:"raw_value"`
	SecretName  *string `json:"secret_name"`
	ImageConfig *string `json:"image_config"`
	Mode        uint32  `json:"mode"`
}

// ContainerRestart is what happens when a container ends. Its words are not those of fly.toml: never is no here.
type ContainerRestart struct {
	Policy     string `json:"policy"`
	MaxRetries int    `json:"max_retries"`
}

// Stop is how a container is stopped.
type Stop struct {
	Timeout any    `json:"timeout"` // text with a unit
	Signal  string `json:"signal"`
}

// Dependency is what a container waits for before it is started.
type Dependency struct {
	Name      string `json:"name"`
	Condition string `json:"condition"`
}

// Healthcheck is one check of a container; all times are seconds.
type Healthcheck struct {
	Name             string `json:"name"`
	Interval         int64  `json:"interval"`
	GracePeriod      int64  `json:"grace_period"`
	SuccessThreshold int32  `json:"success_threshold"`
	FailureThreshold int32  `json:"failure_threshold"`
	Timeout          int64  `json:"timeout"`
	Kind             string `json:"kind"`
	Unhealthy        string `json:"unhealthy"`

	HTTP *HTTPHealthcheck `json:"http"`
	TCP  *TCPHealthcheck  `json:"tcp"`
	Exec *ExecHealthcheck `json:"exec"`
}

// HTTPHealthcheck wants a response of 2xx.
type HTTPHealthcheck struct {
	Port          int          `json:"port"`
	Method        string       `json:"method"`
	Path          string       `json:"path"`
	Headers       []HTTPHeader `json:"headers"`
	Scheme        string       `json:"scheme"`
	TLSSkipVerify *bool        `json:"tls_skip_verify"`
	TLSServerName string       `json:"tls_server_name"`
}

// HTTPHeader is a header of a check's request.
type HTTPHeader struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// TCPHealthcheck wants a port that accepts.
type TCPHealthcheck struct {
	Port int `json:"port"`
}

// ExecHealthcheck wants a command that ends with 0.
type ExecHealthcheck struct {
	Command []string `json:"command"`
}

// ContainerMount puts a volume into a container.
type ContainerMount struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// Volume is what containers can share.
type Volume struct {
	Name    string `json:"name"`
	Image   string `json:"image"`
	TempDir *struct {
		StorageType string `json:"storage_type"`
		SizeMB      uint64 `json:"size_mb"`
	} `json:"temp_dir"`
}
