package telemetry_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func proc(t *testing.T, dir, stat, meminfo string) {
	t.Helper()
	for name, text := range map[string]string{"stat": stat, "meminfo": meminfo} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const meminfo = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     250 kB\nBuffers: 7 kB\n"

func TestMachineSampler(t *testing.T) {
	dir := t.TempDir()
	//               user nice system idle iowait irq softirq steal guest guest_nice
	proc(t, dir, "cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 2 3 4\n", meminfo)
	s := telemetry.NewMachineSamplerAt(dir)
	if m := s.Sample(); m.CPU != 0 || m.Memory != 0.75 {
		t.Errorf("within the first tick: %+v", m)
	}
	// Of 100 ticks: 20 user, 10 system, 10 stolen, 50 idle, 10 waiting. Guest time is in user already.
	proc(t, dir, "cpu  120 0 110 850 10 0 0 10 70 0\n", meminfo)
	for range 2 { // the second one finds no new tick and gives the last share
		if m := s.Sample(); math.Abs(m.CPU-0.4) > 1e-9 {
			t.Errorf("CPU %v, want 0.4", m.CPU)
		}
	}
	// Idle time may step back.
	proc(t, dir, "cpu  140 0 110 845 10 0 0 10 70 0\n", meminfo)
	if m := s.Sample(); m.CPU != 1 {
		t.Errorf("CPU %v, want it bounded by 1", m.CPU)
	}
}

func TestMachineSamplerUnreadable(t *testing.T) {
	for name, c := range map[string][2]string{
		"empty":             {"", ""},
		"other words":       {"processor 1 2 3 4 5\n", "Total: 5\n"},
		"not numbers":       {"cpu a b c d e\n", "MemTotal: x kB\nMemAvailable: y kB\n"},
		"too short":         {"cpu 1 2\n", "MemTotal:\n"},
		"nothing available": {"cpu 1 2\n", "MemTotal: 5 kB\n"},
		"impossible":        {"cpu 1 2\n", "MemTotal: 5 kB\nMemAvailable: 9 kB\n"},
	} {
		dir := t.TempDir()
		proc(t, dir, c[0], c[1])
		if m := telemetry.NewMachineSamplerAt(dir).Sample(); m != (telemetry.Machine{}) {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if m := telemetry.NewMachineSamplerAt(filepath.Join(t.TempDir(), "none")).Sample(); m != (telemetry.Machine{}) {
		t.Errorf("no files: %+v", m)
	}
}

func TestMachineSamplerHere(t *testing.T) {
	m := telemetry.NewMachineSampler().Sample()
	if m.Memory <= 0 || m.Memory >= 1 || m.CPU < 0 || m.CPU > 1 {
		t.Errorf("this machine: %+v", m)
	}
}
