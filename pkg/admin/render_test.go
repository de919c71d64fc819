package admin_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

var update = flag.Bool("update", false, "write the golden files anew")

func render(t rapid.TB, s admin.Status, opts admin.RenderOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := admin.RenderStatus(&b, s, opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func healthy() admin.Status {
	s := cluster()
	s.Readiness = admin.Readiness{Ready: true}
	s.Registry.Rejected, s.LoadsError = nil, ""
	s.Instances = s.Instances[:3]
	s.Counts = admin.Count(s.Instances)
	return s
}

func troubled() admin.Status {
	s := cluster()
	s.Readiness = admin.Readiness{Ready: true, Degraded: true, Reasons: []string{
		"the registry has confirmed nothing for 4m: calls go by the last view; check that redis://cache.internal:6379 is up and that registry.redis.url is right",
	}}
	s.Registry.State, s.Registry.StalenessS, s.Registry.LastError = admin.StateStale, 240, "dial tcp: connection refused"
	app := &s.Self.Apps[0]
	app.Health = admin.Health{State: "unhealthy", How: "tcp", Detail: "dial tcp 127.0.0.1:50051: connection refused", Since: noon.Add(-90e9)}
	app.Registration, app.Reason = admin.Withdrawn, "the app is not healthy: dial tcp 127.0.0.1:50051: connection refused"
	return s
}

func gateway() admin.Status {
	s := cluster()
	s.Self.Services, s.Self.Apps, s.Self.Mode, s.Self.Region = nil, nil, "gateway", ""
	s.Registry = admin.Registry{Store: "redis", State: admin.StateConnecting, Source: registry.FromNowhere, StalenessS: 12}
	s.Routing = admin.Routing{Policy: "round_robin"}
	s.Readiness, s.Instances, s.Counts, s.LoadsError = admin.Readiness{}, nil, admin.Counts{}, ""
	return s
}

func TestRenderGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		s    admin.Status
		opts admin.RenderOptions
	}{
		{"healthy-100", healthy(), admin.RenderOptions{Width: 100, Now: noon}},
		{"healthy-80", healthy(), admin.RenderOptions{Width: 80, Now: noon}},
		{"troubled-100", troubled(), admin.RenderOptions{Width: 100, Now: noon}},
		{"troubled-80", troubled(), admin.RenderOptions{Width: 80, Now: noon}},
		{"troubled-unlimited", troubled(), admin.RenderOptions{Now: noon}},
		{"troubled-color", troubled(), admin.RenderOptions{Width: 100, Color: true, Now: noon}},
		{"gateway-80", gateway(), admin.RenderOptions{Width: 80, Now: noon}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := render(t, c.s, c.opts)
			path := filepath.Join("testdata", c.name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// The table fits wherever its unshortened columns leave room.
func TestRenderFits(t *testing.T) {
	for _, s := range []admin.Status{healthy(), troubled(), gateway()} {
		for width := 80; width <= 160; width++ {
			for line := range strings.Lines(render(t, s, admin.RenderOptions{Width: width, Now: noon})) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("width %d: %d columns: %s", width, n, line)
				}
			}
		}
	}
}

func TestColorChangesNoText(t *testing.T) {
	plain := render(t, troubled(), admin.RenderOptions{Width: 100})
	colored := render(t, troubled(), admin.RenderOptions{Width: 100, Color: true})
	for _, code := range []string{"1", "2", "31", "33", "0"} {
		colored = strings.ReplaceAll(colored, "\x1b["+code+"m", "")
	}
	if colored != plain {
		t.Errorf("got\n%s\nwant\n%s", colored, plain)
	}
}

// Nothing that came from elsewhere can steer the terminal or break lines, and nothing makes rendering panic.
func TestRenderAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "\x1b[2J", "a\nb", "\xff", strings.Repeat("x", 300)}))
		number := rapid.Float64()
		s := admin.Status{
			Self: admin.Self{InstanceID: text.Draw(t, "id"), Version: text.Draw(t, "version"), UptimeS: number.Draw(t, "up"),
				Apps: []admin.App{{Name: text.Draw(t, "app"), Reason: text.Draw(t, "reason"), Inbound: text.Draw(t, "inbound")}}},
			Readiness:  admin.Readiness{Reasons: []string{text.Draw(t, "reason")}},
			Registry:   admin.Registry{State: text.Draw(t, "state"), LastError: text.Draw(t, "error"), LatencyMS: number.Draw(t, "latency")},
			Routing:    admin.Routing{Picks: map[string]uint64{text.Draw(t, "pick"): 1}},
			LoadsError: text.Draw(t, "loads"),
			Counts:     admin.Counts{Regions: map[string]int{text.Draw(t, "region"): 1}},
		}
		for range rapid.IntRange(0, 3).Draw(t, "instances") {
			s.Instances = append(s.Instances, admin.Instance{
				Service: text.Draw(t, "service"), ID: text.Draw(t, "id"), Region: text.Draw(t, "region"), Address: text.Draw(t, "address"),
				State: registry.State(text.Draw(t, "state")), AgeS: number.Draw(t, "age"),
				Load: &registry.Load{CPU: number.Draw(t, "cpu"), CallsPerSecond: number.Draw(t, "rate"), P99: number.Draw(t, "p99")},
			})
		}
		out := render(t, s, admin.RenderOptions{Width: rapid.IntRange(-1, 200).Draw(t, "width")})
		if i := strings.IndexFunc(out, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }); i >= 0 {
			t.Errorf("a control character at %d: %q", i, out)
		}
		if rows := strings.Count(out[strings.LastIndex(out, "\n\n")+2:], "\n"); len(s.Instances) > 0 && rows != len(s.Instances)+1 {
			t.Errorf("%d lines of table for %d instances:\n%s", rows, len(s.Instances), out)
		}
	})
}

type counting struct {
	bytes.Buffer
	writes int
}

func (c *counting) Write(p []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(p)
}

func TestScreen(t *testing.T) {
	var out counting
	s := admin.NewScreen(&out)
	frame := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.Bytes()
	}
	for _, c := range []struct {
		lines, height int
		want          string
	}{
		{2, 24, "\x1b[2J\x1b[Hline 0\x1b[K\nline 1\x1b[K\n\x1b[J"},
		{1, 24, "\x1b[Hline 0\x1b[K\n\x1b[J"},
		{2, 3, "\x1b[Hline 0\x1b[K\nline 1\x1b[K\n\x1b[J"},
		{3, 3, "\x1b[Hline 0\x1b[K\n…\x1b[K\n\x1b[J"},
		{3, 0, "\x1b[Hline 0\x1b[K\nline 1\x1b[K\nline 2\x1b[K\n\x1b[J"},
	} {
		out.Reset()
		out.writes = 0
		if err := s.Draw(frame(c.lines), c.height); err != nil {
			t.Fatal(err)
		}
		if out.String() != c.want || out.writes != 1 {
			t.Errorf("%d lines of %d: %q in %d writes, want %q in one", c.lines, c.height, out.String(), out.writes, c.want)
		}
	}
}

// What /ready says of an app is not said a second time in other words.
func TestOneFaultIsWarnedOfOnce(t *testing.T) {
	s := admin.Status{
		Self:      admin.Self{Apps: []admin.App{{Name: "app", Service: "battle", Registration: admin.Withdrawn, Reason: "it refuses connections"}}},
		Readiness: admin.Readiness{Ready: true, Degraded: true, Reasons: []string{"app app is not registered: it refuses connections"}},
	}
	var b strings.Builder
	if err := admin.RenderStatus(&b, s, admin.RenderOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "! "); n != 1 {
		t.Errorf("%d warnings:\n%s", n, b.String())
	}
}
