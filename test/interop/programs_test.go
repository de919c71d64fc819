package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// programs of grpc-go's interop suite, by the names that they get here. go.mod pins them as tools.
var programs = map[string]string{
	"client":   "google.golang.org/grpc/interop/client",
	"server":   "google.golang.org/grpc/interop/server",
	"negative": "google.golang.org/grpc/interop/http2",
}

// programDir is where they are built.
var programDir string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "flyproxy-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programDir = dir
	return m.Run()
}

var buildPrograms = sync.OnceValue(func() error {
	for name, path := range programs {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(programDir, name), path).CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", path, err, out)
		}
	}
	return nil
})

// program gives the path of one of them.
func program(t *testing.T, name string) string {
	t.Helper()
	if err := buildPrograms(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(programDir, name)
}

// running is a program that runs.
type running struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// startProgram starts a client program that calls address. It ends with the test.
func startProgram(t *testing.T, name, address string, flags ...string) *running {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	path := program(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	r := &running{cmd: exec.CommandContext(ctx, path, append([]string{"-server_host", host, "-server_port", port}, flags...)...)}
	r.cmd.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info")
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = r.cmd.Wait()
	})
	return r
}

// wait awaits the program's end. It must be a good one, or, with says, another after these words.
func (r *running) wait(t *testing.T, says string) {
	t.Helper()
	err := r.cmd.Wait()
	if (err == nil) != (says == "") || !strings.Contains(r.out.String(), says) {
		t.Errorf("%v\n%s", err, &r.out)
	}
}
