package image_test

import (
	"debug/elf"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The image that comes by default holds the static binary, CA certificates, and the folder of the control socket; for both architectures.
func TestImageOfTheBinary(t *testing.T) {
	for name, machine := range map[string]elf.Machine{"flyproxy-amd64": elf.EM_X86_64, "flyproxy-arm64": elf.EM_AARCH64} {
		i := images(t, name)
		var files []string
		var bytes int64
		err := filepath.WalkDir(i.root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, strings.TrimPrefix(path, i.root))
				if info, err := d.Info(); err == nil {
					bytes += info.Size()
				}
			}
			return err
		})
		if want := []string{"/etc/ssl/certs/ca-certificates.crt", "/usr/local/bin/flyproxy"}; err != nil || !slices.Equal(files, want) {
			t.Errorf("%s: files %q (%v), want %q", name, files, err, want)
		}
		t.Logf("%s: %.1f MB", name, float64(bytes)/1e6)
		if i.user != "65532:65532" || !slices.Equal(i.cmd, []string{"flyproxy", "serve"}) || !slices.Contains(i.env, "PATH=/usr/local/bin") {
			t.Errorf("%s: user %q, command %q, environment %q", name, i.user, i.cmd, i.env)
		}
		var run syscall.Stat_t
		if err := syscall.Stat(i.root+"/run", &run); err != nil || run.Uid != 65532 {
			t.Errorf("%s: /run belongs to %d: %v", name, run.Uid, err)
		}
		static(t, i.root+"/usr/local/bin/flyproxy", machine)
	}
}

// static checks that a binary is one for a machine, without debug information and without an interpreter.
func static(t *testing.T, path string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != machine {
		t.Errorf("%s is for %v, want %v", path, f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static", path)
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Errorf("%s is not stripped", path)
	}
}

// Both images run as they are, by the version that was stamped into them; paths of the build's own are not in the binary.
func TestImagesRun(t *testing.T) {
	for _, name := range []string{"flyproxy-amd64", "app-amd64"} {
		i := images(t, name)
		cmd := exec.Command("/usr/local/bin/flyproxy", "version") // in the root
		cmd.Env = i.env
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: i.root}
		cmd.Dir = "/"
		if i.user != "" {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65532, Gid: 65532}
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), version) {
			t.Errorf("%s: flyproxy version: %v: %s", name, err, out)
		}
		static(t, i.root+"/usr/local/bin/flyproxy", elf.EM_X86_64)
	}
	i := images(t, "app-amd64")
	if want := []string{"supervisord", "-c", "/etc/supervisord.conf"}; !slices.Equal(i.cmd, want) {
		t.Errorf("the app's command is %q, want %q", i.cmd, want)
	}
	static(t, i.root+"/usr/local/bin/app", elf.EM_X86_64)
	t.Logf("builds: %s", strings.Join(built.took, ", "))
}
