package flyconfig

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// flagLine is a flag in the text of --help: its letter, its name, and what it takes.
var flagLine = regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([a-z-]+)(?: (string|duration))?(?: |$)`)

func flagsOf(help string) []string {
	var all []string
	for _, m := range flagLine.FindAllStringSubmatch(help, -1) {
		if m[2] != "help" {
			all = append(all, m[1]+" "+m[2]+" "+m[3])
		}
	}
	slices.Sort(all)
	return all
}

// The commands and their flags are the binary's: a new one, or one that is gone, shows here.
func TestCommandsAreTheBinarys(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "flyproxy")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/flyproxy").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	help := func(args ...string) string {
		out, err := exec.Command(binary, append(args, "--help")...).Output()
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return string(out)
	}
	root := commandTree(new(Invocation))
	var known, names []string
	for _, cmd := range root.Commands() {
		known = append(known, cmd.Name())
	}
	_, list, _ := strings.Cut(help(), "Available Commands:")
	list, _, _ = strings.Cut(list, "Flags:")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) `).FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			names = append(names, m[1])
		}
	}
	slices.Sort(known)
	if !slices.Equal(known, names) {
		t.Errorf("the binary has %q, we know %q", names, known)
	}
	compare := func(cmd *cobra.Command, args ...string) {
		got := flagsOf(cmd.LocalFlags().FlagUsages() + cmd.InheritedFlags().FlagUsages())
		if want := flagsOf(help(args...)); !slices.Equal(got, want) {
			t.Errorf("%q: the binary has the flags %q, we know %q", args, want, got)
		}
	}
	compare(root)
	for _, cmd := range root.Commands() {
		if slices.Contains([]string{"serve", "run", "wait", "withdraw"}, cmd.Name()) {
			compare(cmd, cmd.Name())
		}
	}

	// Whether a line is taken, they agree on too. With --help at its end nothing is run.
	for line, taken := range map[string]bool{
		"serve": true, "serve --mode gateway": true, "serve --mode=gateway": true, "-c x serve": true, "serve -cx": true,
		"sreve": false, "serve --modus gateway": false, "serve --mode": false, "-x serve": false, "wait --timeout 5": false, "wait --timeout 5s": true,
		"withdraw --now": true, "withdraw --sock x": false,
	} {
		args := strings.Fields(line)
		err := exec.Command(binary, append(slices.Clone(args), "--help")...).Run()
		if strings.HasPrefix(line, "sreve") || strings.HasSuffix(line, "--mode") { // of which --help would be a part
			err = exec.Command(binary, args...).Run()
		}
		_, ours := ParseCommand(append(append([]string{"flyproxy"}, args...), map[bool][]string{true: {"--", "app"}}[args[0] == "wait"]...))
		if (err == nil) != taken || (ours == nil) != taken {
			t.Errorf("flyproxy %s: taken by the binary: %v, by us: %v (%v)", line, err == nil, ours == nil, ours)
		}
	}
}
