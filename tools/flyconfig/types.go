package flyconfig

// File is fly.toml. Absent values are nil or empty.
type File struct {
	App            string `toml:"app"`
	PrimaryRegion  string `toml:"primary_region"`
	KillSignal     string `toml:"kill_signal"`
	KillTimeout    any    `toml:"kill_timeout"` // a number of seconds, or a duration
	SwapSizeMB     *int   `toml:"swap_size_mb"`
	ConsoleCommand string `toml:"console_command"`
	HostDedication string `toml:"host_dedication_id"`

	// MachineConfig is the path of a JSON file, from the directory where fly is run, or the JSON itself. Container names the
	// container of it that gets the image that is built: by default app, else the first.
	MachineConfig string `toml:"machine_config"`
	Container     string `toml:"container"`

	Build        *Build            `toml:"build"`
	Deploy       *Deploy           `toml:"deploy"`
	Env          map[string]any    `toml:"env"` // numbers and booleans are taken as text
	Processes    map[string]string `toml:"processes"`
	Checks       map[string]*Check `toml:"checks"`
	Metrics      []Metrics         `toml:"metrics"`
	Restart      []Restart         `toml:"restart"`
	VM           []VM              `toml:"vm"`
	Services     []Service         `toml:"services"`
	HTTPService  *HTTPService      `toml:"http_service"`
	Mounts       []Mount           `toml:"mounts"`
	Files        []GuestFile       `toml:"files"`
	Statics      []Static          `toml:"statics"`
	Machines     []MachineCheck    `toml:"machine_checks"`
	Experimental *Experimental     `toml:"experimental"`

	path string
	line func(key string) int
}

// Build says how the image comes about.
type Build struct {
	Builder          string            `toml:"builder"`
	Args             map[string]string `toml:"args"`
	Buildpacks       []string          `toml:"buildpacks"`
	Image            string            `toml:"image"`
	Settings         map[string]any    `toml:"settings"`
	Builtin          string            `toml:"builtin"`
	Dockerfile       string            `toml:"dockerfile"` // from the directory of fly.toml
	Ignorefile       string            `toml:"ignorefile"`
	Target           string            `toml:"build-target"`
	TargetOld        string            `toml:"build_target"`
	Compression      string            `toml:"compression"`
	CompressionLevel *int              `toml:"compression_level"`
	Compose          *struct {
		File string `toml:"file"`
	} `toml:"compose"`
}

// Deploy says how Machines are replaced.
type Deploy struct {
	Strategy string `toml:"strategy"`
	// MaxUnavailable is a share of a group's Machines below 1, rounded up, and a number of them from 1 on.
	MaxUnavailable        *float64 `toml:"max_unavailable"`
	WaitTimeout           any      `toml:"wait_timeout"`
	ReleaseCommand        string   `toml:"release_command"`
	ReleaseCommandTimeout any      `toml:"release_command_timeout"`
	ReleaseCommandVM      *VM      `toml:"release_command_vm"`
	SeedCommand           string   `toml:"seed_command"`
}

// Check is a check of the Machine. It is shown and awaited by deploys; it neither routes nor restarts.
type Check struct {
	Port        *int           `toml:"port"`
	Type        string         `toml:"type"`
	Interval    any            `toml:"interval"` // a number of milliseconds, or a duration
	Timeout     any            `toml:"timeout"`
	GracePeriod any            `toml:"grace_period"`
	Method      string         `toml:"method"`
	Path        string         `toml:"path"`
	Protocol    string         `toml:"protocol"`
	TLSSkip     *bool          `toml:"tls_skip_verify"`
	TLSName     string         `toml:"tls_server_name"`
	Headers     map[string]any `toml:"headers"`
	Processes   []string       `toml:"processes"`
}

// Metrics is what Fly scrapes. A Machine has one endpoint: the first that applies to its group.
type Metrics struct {
	Port      int      `toml:"port"`
	Path      string   `toml:"path"`
	HTTPS     bool     `toml:"https"`
	Processes []string `toml:"processes"`
}

// Restart is what happens when a Machine's main process ends.
type Restart struct {
	Policy    string   `toml:"policy"`
	Retries   int      `toml:"retries"`
	Processes []string `toml:"processes"`
}

// VM is the size of Machines.
type VM struct {
	Size           string   `toml:"size"`
	Memory         any      `toml:"memory"` // 512, "512", "512mb", "1gb"
	MemoryMB       int      `toml:"memory_mb"`
	MaxMemoryMB    int      `toml:"max_memory_mb"`
	CPUKind        string   `toml:"cpu_kind"`
	CPUs           int      `toml:"cpus"`
	GPUs           int      `toml:"gpus"`
	GPUKind        string   `toml:"gpu_kind"`
	HostDedication string   `toml:"host_dedication_id"`
	PersistRootfs  string   `toml:"persist_rootfs"`
	KernelArgs     []string `toml:"kernel_args"`
	Processes      []string `toml:"processes"`
}

// Mount is a volume.
type Mount struct {
	Source             string   `toml:"source"`
	Destination        string   `toml:"destination"`
	InitialSize        any      `toml:"initial_size"`
	SnapshotRetention  *int     `toml:"snapshot_retention"`
	ScheduledSnapshots *bool    `toml:"scheduled_snapshots"`
	ExtendThreshold    int      `toml:"auto_extend_size_threshold"`
	ExtendIncrement    string   `toml:"auto_extend_size_increment"`
	ExtendLimit        string   `toml:"auto_extend_size_limit"`
	Processes          []string `toml:"processes"`
}

// GuestFile is a file that is put into the Machine.
type GuestFile struct {
	GuestPath  string   `toml:"guest_path"`
	LocalPath  string   `toml:"local_path"`
	SecretName string   `toml:"secret_name"`
	RawValue   string   `toml:"raw_value"`
	Processes  []string `toml:"processes"`
}

// Static is a directory that Fly's proxy serves.
type Static struct {
	GuestPath     string `toml:"guest_path"`
	URLPrefix     string `toml:"url_prefix"`
	TigrisBucket  string `toml:"tigris_bucket"`
	IndexDocument string `toml:"index_document"`
}

// Experimental are keys without a promise. A container key, which a page of the documentation shows here, is none of them.
type Experimental struct {
	Cmd            any    `toml:"cmd"`
	Entrypoint     any    `toml:"entrypoint"`
	Exec           any    `toml:"exec"`
	AutoRollback   bool   `toml:"auto_rollback"`
	EnableConsul   bool   `toml:"enable_consul"`
	EnableEtcd     bool   `toml:"enable_etcd"`
	LazyLoadImages bool   `toml:"lazy_load_images"`
	MachineConfig  string `toml:"machine_config"`
	Attached       *struct {
		Secrets struct {
			Export map[string]string `toml:"export"`
		} `toml:"secrets"`
	} `toml:"attached"`
}
