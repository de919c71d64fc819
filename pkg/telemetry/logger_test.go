package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func TestLoggerFormat(t *testing.T) {
	for _, c := range []struct {
		name            string
		format          string
		onFly, terminal bool
		json            bool
	}{
		{"auto, terminal", telemetry.FormatAuto, false, true, false},
		{"auto, pipe", telemetry.FormatAuto, false, false, true},
		{"auto, on Fly", telemetry.FormatAuto, true, false, true},
		{"auto, on Fly, on its console", telemetry.FormatAuto, true, true, true},
		{"json on a terminal", telemetry.FormatJSON, false, true, true},
		{"text on Fly", telemetry.FormatText, true, false, false},
		{"unknown is auto", "yaml", false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			log, _ := telemetry.NewLogger(&b, c.format, slog.LevelInfo, c.onFly, c.terminal)
			log.Info("hello", "wait", 1500*time.Millisecond)
			if got := json.Valid(b.Bytes()); got != c.json {
				t.Fatalf("JSON: %v, want %v: %s", got, c.json, b.String())
			}
			if c.json && !strings.Contains(b.String(), `"wait":"1.5s"`) {
				t.Errorf("a duration is not readable: %s", b.String())
			}
		})
	}
}

func TestTextLines(t *testing.T) {
	var b bytes.Buffer
	log, _ := telemetry.NewLogger(&b, telemetry.FormatText, slog.LevelDebug, false, true)
	log.Info("plain")
	log.Warn("attributes", "level", "mine", "msg", "mine too", "text", "two words", "err", errors.New("it broke"))
	log.With("app", "api").WithGroup("g").With("a", 1).Error("derived", "b", 2*time.Second)
	log.Debug("one\nline \x1b[31m only")

	short := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3} `)
	if n := len(short.FindAllString(b.String(), -1)); n != 4 {
		t.Errorf("%d lines begin with a short time, want 4:\n%s", n, b.String())
	}
	want := "INFO  plain\n" +
		"WARN  attributes level=mine msg=\"mine too\" text=\"two words\" err=\"it broke\"\n" +
		"ERROR derived app=api g.a=1 g.b=2s\n" +
		"DEBUG \"one\\nline \\x1b[31m only\"\n"
	if got := short.ReplaceAllString(b.String(), ""); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTextToFileHasTheDate(t *testing.T) {
	var b bytes.Buffer
	log, _ := telemetry.NewLogger(&b, telemetry.FormatText, slog.LevelInfo, false, false)
	log.Info("hello")
	stamp, _, _ := strings.Cut(b.String(), " ")
	if at, err := time.Parse(time.RFC3339, stamp); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("time %q: %v", stamp, err)
	}
}

func TestLevelChangesWhileRunning(t *testing.T) {
	for _, format := range []string{telemetry.FormatText, telemetry.FormatJSON} {
		var b bytes.Buffer
		log, level := telemetry.NewLogger(&b, format, slog.LevelWarn, false, false)
		child := log.With("k", "v")
		child.Info("too low")
		if b.Len() != 0 {
			t.Errorf("%s: logged below its level: %s", format, b.String())
		}
		level.Set(slog.LevelDebug)
		child.Debug("now it counts")
		if !strings.Contains(b.String(), "now it counts") {
			t.Errorf("%s: not logged after the level was lowered", format)
		}
	}
}

// lines fails a Write that is not one whole line.
type lines struct {
	t *testing.T
	n int
}

func (l *lines) Write(p []byte) (int, error) {
	if bytes.Count(p, []byte("\n")) != 1 || p[len(p)-1] != '\n' {
		l.t.Errorf("not one line: %q", p)
	}
	l.n++
	return len(p), nil
}

func TestTextLinesStayWhole(t *testing.T) {
	out := &lines{t: t}
	log, _ := telemetry.NewLogger(out, telemetry.FormatText, slog.LevelInfo, false, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			child := log.With("k", "v")
			for range 100 {
				child.Info("m", "n", 1)
			}
		})
	}
	wg.Wait()
	if out.n != 800 {
		t.Errorf("%d lines, want 800", out.n)
	}
}

func TestParseLevel(t *testing.T) {
	for s, want := range map[string]slog.Level{
		"debug": slog.LevelDebug, "INFO": slog.LevelInfo, "warn": slog.LevelWarn, "Warning": slog.LevelWarn, "error": slog.LevelError,
	} {
		if got, err := telemetry.ParseLevel(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if _, err := telemetry.ParseLevel("loud"); err == nil || !strings.Contains(err.Error(), "debug, info, warn, error") {
		t.Errorf("loud: %v", err)
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if telemetry.IsTerminal(f) {
		t.Error("a file is taken for a terminal")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if telemetry.IsTerminal(w) {
		t.Error("a pipe is taken for a terminal")
	}
}
