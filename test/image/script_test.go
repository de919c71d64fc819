package image_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// tools/image.sh with builders that only write down how they are called: it takes the one that works, and says what is wrong otherwise.
func TestImageScript(t *testing.T) {
	const (
		asleep = "#!/bin/sh\n[ \"$1\" != info ] || exit 1\necho \"docker $*\"\n" // no daemon answers
		awake  = "#!/bin/sh\n[ \"$1\" != info ] || exit 0\necho \"docker $*\"\n"
		there  = "#!/bin/sh\necho \"buildah $*\"\n"
	)
	for _, tc := range []struct {
		name     string
		builders map[string]string
		env      []string
		code     int
		want     []string
	}{
		{
			"docker", map[string]string{"docker": awake, "buildah": there}, []string{"VERSION=v1", "PLATFORM=linux/arm64", "GOPROXY=file:///modules"},
			0, []string{"docker build --platform linux/arm64 --target flyproxy --tag flyproxy:v1 --build-arg VERSION=v1 --build-arg GOPROXY=file:///modules ."},
		},
		{
			"buildah where docker has no daemon", map[string]string{"docker": asleep, "buildah": there},
			[]string{"VERSION=v1", "PLATFORM=linux/amd64", "TARGET=app", "IMAGE_FLAGS=--no-cache --quiet"},
			0, []string{"buildah build --platform linux/amd64 --target app --tag flyproxy-app:v1 --build-arg VERSION=v1 --build-arg BUILDPLATFORM=linux/", " --no-cache --quiet ."},
		},
		{
			"the one that is asked for", map[string]string{"docker": awake, "buildah": there}, []string{"BUILDER=buildah", "IMAGE=mine:1"},
			0, []string{"buildah build ", "--target flyproxy --tag mine:1 "},
		},
		{"neither", map[string]string{"docker": asleep}, nil, 1, []string{"neither docker nor buildah works here", "docker info", "apt-get install buildah"}},
		{"the one that is asked for is not there", nil, []string{"BUILDER=buildah"}, 1, []string{"BUILDER is buildah, which does not work here"}},
		{"an unknown builder", nil, []string{"BUILDER=kaniko"}, 64, []string{`BUILDER is "kaniko": say docker or buildah`}},
		{"an unknown target", nil, []string{"TARGET=apps"}, 64, []string{`TARGET is "apps": say flyproxy or app`}},
		{"an unknown platform", nil, []string{"PLATFORM=linux/386"}, 64, []string{`PLATFORM is "linux/386": say linux/amd64 or linux/arm64`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := t.TempDir() // nothing else is found
			for _, program := range []string{"bash", "sh", "dirname", "uname"} {
				at, err := exec.LookPath(program)
				proc.Need(t, program, err == nil)
				if err := os.Symlink(at, filepath.Join(path, program)); err != nil {
					t.Fatal(err)
				}
			}
			for name, script := range tc.builders {
				if err := os.WriteFile(filepath.Join(path, name), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("../../tools/image.sh")
			cmd.Env = append([]string{"PATH=" + path}, tc.env...)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
		})
	}
}
