package flyconfig

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for _, tc := range []struct {
		value any
		unit  time.Duration
		want  time.Duration
	}{
		{"30s", time.Second, 30 * time.Second},
		{"1m30s", time.Second, 90 * time.Second},
		{int64(30), time.Second, 30 * time.Second},
		{int64(1500), time.Millisecond, 1500 * time.Millisecond},
		{2.0, time.Second, 2 * time.Second},
	} {
		if got, err := duration(tc.value, tc.unit); err != nil || got != tc.want {
			t.Errorf("%v: %v, %v; want %v", tc.value, got, err, tc.want)
		}
	}
	for _, bad := range []any{"30", "", "soon", true, nil} {
		if got, err := duration(bad, time.Second); err == nil {
			t.Errorf("%v is taken as %v", bad, got)
		}
	}
}

func TestMegabytes(t *testing.T) {
	for value, want := range map[any]int{
		"512": 512, int64(512): 512, "512mb": 512, "512MB": 512, "512 MiB": 512, "1gb": 1024, "1g": 1024, "1.5GiB": 1536, "262144k": 256,
	} {
		if got, err := megabytes(value); err != nil || got != want {
			t.Errorf("%v: %d, %v; want %d", value, got, err, want)
		}
	}
	for _, bad := range []any{"", "half", "1 gig", "-1gb", true} {
		if got, err := megabytes(bad); err == nil {
			t.Errorf("%v is taken as %d", bad, got)
		}
	}
}

func TestWords(t *testing.T) {
	for command, want := range map[string][]string{
		`flyproxy run -- app`:    {"flyproxy", "run", "--", "app"},
		`  a  "b c" 'd "e' f\ g`: {"a", "b c", `d "e`, "f g"},
		`a ""`:                   {"a", ""},
		``:                       nil,
	} {
		if got, err := words(command); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", command, got, err, want)
		}
	}
	for _, bad := range []string{`a "b`, `a 'b`, `a \`} {
		if got, err := words(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, got)
		}
	}
}

// Programs of one priority are stopped together, the others one after the other; what is not said is supervisord's default.
func TestStopTime(t *testing.T) {
	const conf = `
[supervisord]
stopwaitsecs=99

[program:a]
command=a -x  ; why
priority=1
stopwaitsecs=8
environment=X="1",
	stopwaitsecs="50"
[program:b]
priority = 1
stopwaitsecs = 3
[program:c]
; stopwaitsecs=70
command=c
[group:g]
priority=5
[eventlistener:e]
command=e
stopwaitsecs=1
`
	if got, err := StopTime([]byte(conf)); err != nil || got != 19*time.Second {
		t.Errorf("%v, %v; want 8s + 10s + 1s", got, err)
	}
	programs, err := Programs([]byte(conf))
	want := `[{a a -x 1 8s TERM map[X:1 stopwaitsecs:50] false} {b  1 3s TERM map[] false} {c c 999 10s TERM map[] false}]`
	if got := fmt.Sprint(programs); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := Programs([]byte("[program:a]\nstopwaitsecs=soon\n")); err == nil {
		t.Error("a time that is no number is taken")
	}
}

// Fly takes these as one table or as a list.
func TestSingleTables(t *testing.T) {
	r := &report{file: "fly.toml"}
	f := decode([]byte("app = 'a'\n[metrics]\nport = 1\n[ vm ]\nmemory = '1gb'\n[metrics.x]\n"), r)
	if f == nil || len(f.Metrics) != 1 || f.Metrics[0].Port != 1 || len(f.VM) != 1 {
		t.Fatalf("%+v", f)
	}
	if len(r.faults) != 1 || r.faults[0].Key != "metrics.x" || r.faults[0].Line != 6 {
		t.Errorf("%v", r.faults)
	}
}

// Lists within lists keep their lines apart.
func TestLines(t *testing.T) {
	l := newLines([]byte("[[services]]\na = 1\n[[services.ports]]\nport = 1\n[[services]]\n[[services.ports]]\n[[services.ports]]\nport = 2\nx = { y = 1 }\n"))
	for key, want := range map[string]int{
		"services[0].a": 2, "services[0].ports[0].port": 4, "services[1].ports[1].port": 8, "services[1].ports[1].x.y": 9,
		"services[1].ports[1].absent": 7, "absent": 0,
	} {
		if got := l.of(key); got != want {
			t.Errorf("%s: line %d, want %d", key, got, want)
		}
	}
}
