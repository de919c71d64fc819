// Package standin is a stand-in for Fly and its command line tool, for the tests of the deploy script: a small platform in a file,
// with apps, secrets, and Machines by region. It records every call with its standard input, and fails where a test says so.
package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// The variables by which the tool finds the directory of its platform, and the real flyproxy.
const (
	DirVariable      = "STANDIN_DIR"
	FlyproxyVariable = "STANDIN_FLYPROXY"
)

// A Platform is what the stand-in knows of Fly. Tests set it before the script runs and look at it afterwards.
type Platform struct {
	LoggedOut bool
	App       string // that exists; empty when none does
	Secrets   map[string]string
	// Machines are the numbers of the group app, by region. Others are instances of another app on the same Redis.
	Machines map[string]int
	Others   int
	// Asks counts the calls of ssh. Until it exceeds Slow, the instances are draining; until it exceeds Linger, one more is shown.
	Asks, Slow, Linger int
	// Fail says, by the beginning of a command, what it writes to standard error before it exits with 1. Hang are commands that
	// do not end.
	Fail map[string]string
	Hang []string

	Calls []Call
}

// A Call is one run of fly.
type Call struct {
	Args  []string
	Stdin string
}

// String is the command line.
func (c Call) String() string { return strings.Join(c.Args, " ") }

// Load reads a platform from its directory.
func Load(dir string) (*Platform, error) {
	data, err := os.ReadFile(filepath.Join(dir, "platform.json"))
	if err != nil {
		return nil, err
	}
	p := new(Platform)
	return p, json.Unmarshal(data, p)
}

// Save writes it there.
func (p *Platform) Save(dir string) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "platform.json"), data, 0o600)
}

// Main is one call of fly. It gives the exit code.
func Main(args []string) int {
	dir := os.Getenv(DirVariable)
	p, err := Load(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		return 99
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		return 99
	}
	p.Calls = append(p.Calls, Call{args, string(stdin)})
	err = p.run(args, string(stdin))
	if saveErr := p.Save(dir); saveErr != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", saveErr)
		return 99
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 1
	}
	command := strings.Join(args, " ")
	if slices.ContainsFunc(p.Hang, func(prefix string) bool { return strings.HasPrefix(command, prefix) }) {
		time.Sleep(time.Hour) // until the script ends it
	}
	return 0
}

// Option is the value of a flag, as the real tool's: --name value.
func Option(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// flags are those that the script may use of each command, as flyctl has them; one that it has not is refused as flyctl would.
var flags = map[string][]string{
	"auth whoami":    nil,
	"apps create":    nil,
	"status":         {"--app"},
	"secrets list":   {"--app", "--json"},
	"secrets import": {"--app", "--stage"},
	"secrets set":    {"--app", "--stage"},
	"deploy":         {"--app", "--config", "--ha=false", "--yes", "--primary-region", "--build-arg"},
	"scale count":    {"--app", "--yes", "--region"},
	"scale show":     {"--app", "--json"},
	"ssh console":    {"--app", "--process-group", "--quiet", "--container", "--command"},
}

func unknownFlag(args []string) error {
	for command, known := range flags {
		if rest, ok := strings.CutPrefix(strings.Join(args, " "), command); !ok || rest != "" && rest[0] != ' ' {
			continue
		}
		for _, a := range args {
			if strings.HasPrefix(a, "-") && !slices.Contains(known, a) {
				return fmt.Errorf("unknown flag: %s", a)
			}
		}
	}
	return nil
}

func (p *Platform) run(args []string, stdin string) error {
	command := strings.Join(args, " ")
	if err := unknownFlag(args); err != nil {
		return err
	}
	for prefix, text := range p.Fail {
		if strings.HasPrefix(command, prefix) {
			return errors.New(text)
		}
	}
	if p.LoggedOut {
		return errors.New("no access token available. Please login with 'flyctl auth login'")
	}
	is := func(words ...string) bool { return len(args) >= len(words) && slices.Equal(args[:len(words)], words) }
	app := Option(args, "--app")
	switch {
	case is("auth", "whoami"):
		fmt.Println("someone@example.com")
		return nil
	case is("apps", "create"):
		if p.App != "" {
			return errors.New("validation failed: Name has already been taken")
		}
		p.App = args[2]
		return nil
	case app == "" || app != p.App:
		return fmt.Errorf("failed to get app: Could not find App %q", app)
	case is("status"):
		fmt.Println("App\n  Name     =", app)
		return nil
	case is("secrets", "list"):
		var list []map[string]string
		for name := range p.Secrets {
			list = append(list, map[string]string{"name": name, "digest": "0123456789abcdef", "status": "Deployed"})
		}
		return json.NewEncoder(os.Stdout).Encode(list)
	case is("secrets", "import"), is("secrets", "set"):
		return p.setSecrets(args, stdin)
	case is("deploy"):
		if len(p.Machines) == 0 {
			region := Option(args, "--primary-region")
			if region == "" {
				region = "ams"
			}
			p.Machines = map[string]int{region: 1}
		}
		return nil
	case is("scale", "count"):
		return p.scale(args)
	case is("scale", "show"):
		return p.show()
	case is("ssh", "console"):
		return p.ssh(args)
	}
	return fmt.Errorf("unknown command %q", command)
}

// scale brings the named regions, or all that have Machines, to a total, in turn.
func (p *Platform) scale(args []string) error {
	text, ok := strings.CutPrefix(args[2], "app=")
	n, err := strconv.Atoi(text)
	if !ok || err != nil || !slices.Contains(args, "--yes") {
		return fmt.Errorf("cannot scale by %q", args)
	}
	var regions []string
	if r := Option(args, "--region"); r != "" {
		regions = strings.Split(r, ",")
	} else {
		for region := range p.Machines {
			regions = append(regions, region)
		}
		slices.Sort(regions)
	}
	have := 0
	for _, r := range regions {
		have += p.Machines[r]
	}
	for i := 0; have < n; i++ {
		p.Machines[regions[i%len(regions)]]++
		have++
	}
	for i := len(regions) - 1; have > n; i-- {
		if r := regions[(i+len(regions))%len(regions)]; p.Machines[r] > 0 {
			p.Machines[r]--
			have--
		}
	}
	maps.DeleteFunc(p.Machines, func(_ string, n int) bool { return n == 0 })
	return nil
}

// show prints the groups as the real tool does with --json (flyctl, internal/command/scale/show_machines.go): here the group app, and a
// gateway in each of its regions.
func (p *Platform) show() error {
	type group struct {
		Process string
		Count   int
		CPUKind string
		CPUs    int
		Memory  int
		Regions map[string]int
	}
	app, gateway := group{"app", 0, "shared", 1, 512, p.Machines}, group{"gateway", 0, "shared", 1, 256, make(map[string]int)}
	for region, n := range p.Machines {
		app.Count += n
		gateway.Count++
		gateway.Regions[region] = 1
	}
	data, err := json.MarshalIndent([]group{app, gateway}, "", "    ")
	fmt.Println(string(data))
	return err
}

// ssh runs the command in a Machine: the real flyproxy, which asks for the status there.
func (p *Platform) ssh(args []string) error {
	p.Asks++
	status := p.status()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != admin.PathStatus {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(status)
	}))
	defer server.Close()
	command := strings.Fields(Option(args, "--command"))
	if len(command) == 0 || command[0] != "flyproxy" {
		return fmt.Errorf("no such command: %q", command)
	}
	fmt.Println("No machine specified, using 148e2 in region ams") // as the real tool does, on standard output
	cmd := exec.Command(os.Getenv(FlyproxyVariable), append(command[1:], "--addr", server.Listener.Addr().String())...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func (p *Platform) status() admin.Status {
	s := admin.Status{Self: admin.Self{InstanceID: "ams-0", Region: "ams", Mode: "sidecar"}, Registry: admin.Registry{State: admin.StateCurrent}}
	add := func(app, region, id string, state registry.State) {
		s.Instances = append(s.Instances, admin.Instance{Service: app, App: app, Region: region, ID: id, Address: "[fdaa::1]:50051", State: state})
	}
	state := registry.Serving
	if p.Asks <= p.Slow {
		state = registry.Draining
	}
	for region, n := range p.Machines {
		for i := range n {
			add(p.App, region, fmt.Sprintf("%s-%d", region, i), state)
		}
	}
	if p.Asks <= p.Linger {
		add(p.App, "ams", "gone", state)
	}
	for i := range p.Others {
		add("other", "ams", fmt.Sprintf("other-%d", i), registry.Serving)
	}
	return s
}
