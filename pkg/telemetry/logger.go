package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// The values of log.format.
const (
	FormatAuto = "auto" // JSON on Fly and wherever the output is no terminal, else text
	FormatJSON = "json" // one JSON object a line
	FormatText = "text" // lines for people
)

// LogFormats are the names that a format may have.
func LogFormats() []string { return []string{FormatAuto, FormatJSON, FormatText} }

// ParseLevel reads debug, info, warn or error, in any case.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown log level %q: it is one of debug, info, warn, error", s)
}

// NewLogger makes the logger of a process and the variable that changes its level while it runs. An unknown format counts as
// [FormatAuto]. Each line is one Write to w, and lines are never interleaved.
func NewLogger(w io.Writer, format string, level slog.Level, onFly, isTerminal bool) (*slog.Logger, *slog.LevelVar) {
	v := new(slog.LevelVar)
	v.Set(level)
	if format == FormatJSON || (format != FormatText && (onFly || !isTerminal)) {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: v, ReplaceAttr: readableDuration})), v
	}
	layout := "2006-01-02T15:04:05.000Z07:00"
	if isTerminal {
		layout = "15:04:05.000"
	}
	return slog.New(newTextHandler(w, v, layout)), v
}

// IsTerminal tells whether f is a character device, which a terminal is and a pipe or a file is not. (The null device is one too,
// but nobody reads there.)
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// readableDuration writes 1.5s where JSON would have the number of nanoseconds.
func readableDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// textHandler writes "time LEVEL message key=value …". The attributes are slog.TextHandler's work: it writes them into a
// buffer, behind a level and a message that are always the same and are cut off again.
type textHandler struct {
	inner  slog.Handler
	out    *textOutput
	layout string
}

// textOutput is shared by all handlers that WithAttrs and WithGroup derive from one.
type textOutput struct {
	w io.Writer

	// mu guards the fields below and is held over the Write, so that lines stay whole.
	mu    sync.Mutex
	attrs bytes.Buffer
	line  bytes.Buffer
}

// emptyRecord is how slog.TextHandler begins a record of level INFO with no time and no message.
const emptyRecord = `level=INFO msg=""`

func newTextHandler(w io.Writer, level slog.Leveler, layout string) *textHandler {
	out := &textOutput{w: w}
	return &textHandler{inner: slog.NewTextHandler(&out.attrs, &slog.HandlerOptions{Level: level}), out: out, layout: layout}
}

func (h *textHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &textHandler{inner: h.inner.WithAttrs(attrs), out: h.out, layout: h.layout}
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	return &textHandler{inner: h.inner.WithGroup(name), out: h.out, layout: h.layout}
}

func (h *textHandler) Handle(ctx context.Context, r slog.Record) error {
	bare := slog.NewRecord(time.Time{}, slog.LevelInfo, "", 0)
	r.Attrs(func(a slog.Attr) bool {
		bare.AddAttrs(a)
		return true
	})

	o := h.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attrs.Reset()
	if err := h.inner.Handle(ctx, bare); err != nil {
		return err
	}
	o.line.Reset()
	if !r.Time.IsZero() {
		o.line.WriteString(r.Time.Format(h.layout))
		o.line.WriteByte(' ')
	}
	fmt.Fprintf(&o.line, "%-5s %s", r.Level, printable(r.Message))
	o.line.Write(bytes.TrimPrefix(o.attrs.Bytes(), []byte(emptyRecord)))
	_, err := o.w.Write(o.line.Bytes())
	return err
}

// printable quotes a message that could break the line or steer the terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
