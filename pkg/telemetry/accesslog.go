package telemetry

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Call is one call that ended, for the [AccessLog].
type Call struct {
	// Service is flyproxy's, Method the full gRPC method as the client sent it.
	Service, Method string
	// Code is the gRPC status that the client got.
	Code uint32
	// Peer and Region name the instance that was sent the call last; they are empty when none was.
	Peer, Region string
	// Latency is from the client's headers to the end of the call.
	Latency time.Duration
	// Attempts is how many peers were tried.
	Attempts int
}

// AccessLogConfig says which calls have a line.
type AccessLogConfig struct {
	// Slow is from when on a call counts as slow; 0 means that none does.
	Slow time.Duration
	// Failed is whether calls that end with another status than OK have a line.
	Failed bool
	// PerSecond bounds the lines in each second (1 at the least).
	PerSecond int
	Logger    *slog.Logger
}

// AccessLog writes a line for each call that was slow or failed, up to so many a second: those are the ones that somebody looks for,
// and when everything fails at once the first few tell as much as all of them. All methods may be called concurrently.
type AccessLog struct {
	cfg AccessLogConfig

	// mu guards the fields below. Nothing is called while it is held.
	mu         sync.Mutex
	second     time.Time // when the second began that lines counts in
	lines      int
	suppressed int // since the last line
}

// NewAccessLog makes an AccessLog.
func NewAccessLog(cfg AccessLogConfig) *AccessLog {
	cfg.PerSecond = max(cfg.PerSecond, 1)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &AccessLog{cfg: cfg}
}

// CallEnded writes the line of a call, if it is to have one. It neither locks nor allocates for a call that is neither slow nor failed.
// The call's strings are not kept.
func (l *AccessLog) CallEnded(c Call) {
	msg := ""
	switch {
	case c.Code != 0 && l.cfg.Failed:
		msg = "call failed"
	case l.cfg.Slow > 0 && c.Latency >= l.cfg.Slow:
		msg = "slow call"
	default:
		return
	}
	if !l.cfg.Logger.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	if suppressed, ok := l.allow(time.Now()); ok {
		l.write(msg, c, suppressed)
	}
}

// allow tells whether there may be a line now, and how many were left out since the last one.
func (l *AccessLog) allow(now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.second) >= time.Second {
		l.second, l.lines = now, 0
	}
	if l.lines >= l.cfg.PerSecond {
		l.suppressed++
		return 0, false
	}
	l.lines++
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

func (l *AccessLog) write(msg string, c Call, suppressed int) {
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs,
		slog.String("service", c.Service), slog.String("method", short(c.Method)), slog.String("code", CodeName(c.Code)),
		slog.String("peer", c.Peer), slog.String("region", c.Region), slog.Duration("latency", c.Latency),
		slog.Int("attempts", c.Attempts))
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	l.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, msg, attrs...)
}

// Flush says how many lines were left out since the last one, if any were. It is for the end, after which no line will say it.
func (l *AccessLog) Flush() {
	l.mu.Lock()
	suppressed := l.suppressed
	l.suppressed = 0
	l.mu.Unlock()
	if suppressed > 0 {
		l.cfg.Logger.Info("more calls were slow or failed than the log has lines for", "suppressed", suppressed)
	}
}

// short bounds what a client may write into a line.
func short(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
