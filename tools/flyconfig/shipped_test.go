package flyconfig_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/tools/flyconfig"
)

const (
	root       = "../.."
	flyTOML    = "fly.toml"
	containers = "configs/fly-containers.toml"
	machine    = "configs/fly-containers.json"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// check gives the file and everything that is wrong with it.
func check(t *testing.T, path, dir string) (*flyconfig.File, []flyconfig.Fault) {
	t.Helper()
	f, faults, err := flyconfig.Load(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		faults = append(faults, flyconfig.Agree(f, dir)...)
	}
	return f, faults
}

func TestShippedFilesAreGood(t *testing.T) {
	for _, name := range []string{flyTOML, containers} {
		t.Run(name, func(t *testing.T) {
			f, faults := check(t, filepath.Join(root, name), root)
			for _, fault := range faults {
				t.Error(fault)
			}
			if f == nil {
				t.FailNow()
			}
			if len(f.Services) > 0 || f.HTTPService != nil {
				t.Error("it has a service, but says that it is for 6PN only")
			}
			if f.Build == nil || f.Build.Target != "app" {
				t.Errorf("the image is not the Dockerfile's target app: %+v", f.Build)
			}
		})
	}
}

func TestShippedGroups(t *testing.T) {
	f, _ := check(t, filepath.Join(root, flyTOML), root)
	if got := f.Groups(); !slices.Equal(got, []string{"app", "gateway"}) {
		t.Errorf("groups %v", got)
	}
	m, _ := flyconfig.ParseMachine(machine, []byte(read(t, machine)))
	var names []string
	for _, c := range m.Containers {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, []string{"app", "flyproxy"}) {
		t.Errorf("containers %v", names)
	}
}

// alternative makes the commented-out command of group app the live one.
func alternative(t *testing.T, text string) string {
	t.Helper()
	live := regexp.MustCompile(`(?m)^  app = "supervisord.*\n`)
	other := regexp.MustCompile(`(?m)^  # (app = "flyproxy run.*)$`)
	if !live.MatchString(text) || !other.MatchString(text) {
		t.Fatal("fly.toml does not show both ways of running the app")
	}
	return other.ReplaceAllString(live.ReplaceAllString(text, ""), "  $1")
}

func TestShippedAlternativeIsGood(t *testing.T) {
	dir := t.TempDir()
	copyShipped(t, dir)
	write(t, filepath.Join(dir, flyTOML), alternative(t, read(t, flyTOML)))
	f, faults := check(t, filepath.Join(dir, flyTOML), dir)
	for _, fault := range faults {
		t.Error(fault)
	}
	if got := f.Processes["app"]; got != "flyproxy run -- app" {
		t.Errorf("group app runs %q", got)
	}
}

// Every command of ours that the files start exists, with the flags that they give it. What is not ours is in the image.
func TestShippedCommandsExist(t *testing.T) {
	f, _ := check(t, filepath.Join(root, flyTOML), root)
	alt := t.TempDir()
	copyShipped(t, alt)
	write(t, filepath.Join(alt, flyTOML), alternative(t, read(t, flyTOML)))
	a, _ := check(t, filepath.Join(alt, flyTOML), alt)
	commands := [][]string{split(t, f.Processes["app"]), split(t, f.Processes["gateway"]), split(t, a.Processes["app"])}
	m, _ := flyconfig.ParseMachine(machine, []byte(read(t, machine)))
	for _, c := range m.Containers {
		commands = append(commands, c.Cmd)
	}
	conf := read(t, "supervisord.conf")
	programs, err := flyconfig.Programs([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		commands = append(commands, split(t, p.Command))
	}

	binary := filepath.Join(t.TempDir(), "flyproxy")
	if out, err := exec.Command("go", "build", "-o", binary, root+"/cmd/flyproxy").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dockerfile := read(t, "Dockerfile")
	for _, command := range commands {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			switch filepath.Base(command[0]) {
			case "flyproxy":
				// With --help the flags before -- are parsed and nothing is run.
				args := command[1:]
				if n := slices.Index(args, "--"); n >= 0 {
					args = args[:n]
				}
				out, err := exec.Command(binary, append(slices.Clone(args), "--help")...).CombinedOutput()
				if err != nil {
					t.Errorf("flyproxy does not take it: %v\n%s", err, out)
				}
				if len(args) > 0 && !strings.Contains(string(out), "flyproxy "+args[0]) {
					t.Errorf("that is the help of something else:\n%s", out)
				}
			case "supervisord":
				if n := slices.Index(command, "-c"); n < 0 || !strings.Contains(dockerfile, command[n+1]) {
					t.Errorf("the Dockerfile says nothing of its configuration")
				}
			default:
				if !regexp.MustCompile(`/` + regexp.QuoteMeta(filepath.Base(command[0])) + `\b`).MatchString(dockerfile) {
					t.Errorf("the Dockerfile says nothing of %s", command[0])
				}
			}
		})
	}
}

// The order and the times of supervisord.conf fit together and into kill_timeout.
func TestShippedSupervisordFits(t *testing.T) {
	conf := read(t, "supervisord.conf")
	programs, err := flyconfig.Programs([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	priority := make(map[string]int)
	for _, p := range programs {
		priority[p.Name] = p.Priority
	}
	// supervisord stops the highest first.
	if len(priority) != 3 || !(priority["withdraw"] > priority["app"] && priority["app"] > priority["flyproxy"]) {
		t.Errorf("priorities: %v", priority)
	}
	sum, err := flyconfig.StopTime([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	f, _ := check(t, filepath.Join(root, flyTOML), root)
	if have := fmt.Sprint(f.KillTimeout); have != "30" || sum.Seconds() >= 30 || sum.Seconds() < 10 {
		t.Errorf("stopping takes up to %v, kill_timeout is %s", sum, have)
	}
	// What fly.toml says of these times is so, and they are all that it adds up.
	said := regexp.MustCompile(`together have to stay below it: ([^.]*), so (\d+) s in all`).FindStringSubmatch(strings.ReplaceAll(read(t, flyTOML), "\n#", ""))
	if said == nil {
		t.Fatal("fly.toml does not add up what supervisord.conf takes")
	}
	adds := 0
	for _, m := range regexp.MustCompile(`(\d+) s `).FindAllStringSubmatch(said[1], -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		adds += n
	}
	if want := fmt.Sprintf("%.0f", sum.Seconds()); said[2] != want || fmt.Sprint(adds) != want {
		t.Errorf("supervisord.conf takes %s s; fly.toml says %s, of parts that make %d", want, said[2], adds)
	}
	for _, p := range programs {
		if !strings.Contains(said[1], fmt.Sprintf("%.0f s ", p.StopWait.Seconds())) {
			t.Errorf("fly.toml says nothing of the %v of %s", p.StopWait, p.Name)
		}
	}
}

func split(t *testing.T, command string) []string {
	t.Helper()
	parts := strings.Fields(command)
	if len(parts) == 0 {
		t.Fatal("there is no command")
	}
	return parts
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// copyShipped puts the files of a deployment into a directory of a test's own.
func copyShipped(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{flyTOML, containers, machine, "Dockerfile", "supervisord.conf"} {
		write(t, filepath.Join(dir, name), read(t, name))
	}
}
