package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// The paths of the control socket. Each takes a query, by, which is an Asker.
const (
	PathWithdraw = "/withdraw"
	PathRestore  = "/restore"
)

// Asker is who asks on the control socket. A withdrawal by one is not taken back by the other.
type Asker string

// The askers.
const (
	// ByOperator is a person, or what acts for one.
	ByOperator Asker = "operator"
	// ByStop is the program that supervisord stops before the app.
	ByStop Asker = "stop"
)

// ControlConfig is what a Control is made of. Listener and both functions are required.
type ControlConfig struct {
	// Listener is a unix socket whose file says who may ask. Close closes it.
	Listener net.Listener
	// Withdraw takes the apps out of the registry and returns once peers have had time to learn of it. The error says what the
	// registry has not confirmed.
	Withdraw func(context.Context, Asker) error
	// Restore takes a withdrawal by the same asker back.
	Restore func(context.Context, Asker) error
	// Logger may be nil.
	Logger *slog.Logger
}

// Control answers, over HTTP on a unix socket, who asks for something that changes the sidecar. Both of its paths take POST.
type Control struct {
	*listening
	cfg ControlConfig
}

// Outcome is the body of each answer of a Control.
type Outcome struct {
	// Done tells whether all was done that was asked for.
	Done bool `json:"done"`
	// Error is what was not, and why.
	Error string `json:"error,omitempty"`
}

// NewControl makes a Control; it starts nothing.
func NewControl(cfg ControlConfig) (*Control, error) {
	if cfg.Listener == nil || cfg.Withdraw == nil || cfg.Restore == nil {
		return nil, errors.New("admin: Listener, Withdraw and Restore must all be set")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Control{cfg: cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+PathWithdraw, c.answer("the apps were withdrawn", cfg.Withdraw))
	mux.HandleFunc("POST "+PathRestore, c.answer("a withdrawal was taken back", cfg.Restore))
	c.listening = newListening(cfg.Listener, mux, cfg.Logger)
	return c, nil
}

// answer does what was asked for: a withdrawal even if who asked does not wait for it.
func (c *Control) answer(what string, do func(context.Context, Asker) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by := Asker(r.URL.Query().Get("by"))
		if by != ByOperator && by != ByStop {
			writeText(w, http.StatusBadRequest, fmt.Sprintf("by is %q: say %s or %s\n", by, ByOperator, ByStop))
			return
		}
		// What is waited for may take longer than the server gives an answer.
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			c.cfg.Logger.Debug("no longer write deadline on the control socket", "error", err)
		}
		outcome, code := Outcome{Done: true}, http.StatusOK
		ctx := r.Context()
		if r.URL.Path == PathWithdraw { // which is not to be left half done
			ctx = context.WithoutCancel(ctx)
		}
		if err := do(ctx, by); err != nil {
			outcome, code = Outcome{Error: err.Error()}, http.StatusServiceUnavailable
			c.cfg.Logger.Warn("what was asked for on the control socket was not done wholly", "path", r.URL.Path, "by", by, "error", err)
		} else {
			level := slog.LevelInfo
			if r.URL.Path == PathRestore && by == ByStop {
				level = slog.LevelDebug // a program that begins to wait asks for it, in case
			}
			c.cfg.Logger.Log(r.Context(), level, what, "by", by)
		}
		var b bytes.Buffer
		_ = json.NewEncoder(&b).Encode(outcome) // two plain members: it cannot fail
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(code)
		_, _ = w.Write(b.Bytes()) // who went away does not care
	}
}

// maxOutcomeBytes bounds what is read of an answer.
const maxOutcomeBytes = 64 << 10

// AskControl asks the sidecar whose control socket is the file at path for PathWithdraw or PathRestore, and returns when it is done.
// Ctx bounds all of it. The error says what is wrong and what to do.
func AskControl(ctx context.Context, path, what string, by Asker) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://flyproxy"+what+"?by="+string(by), nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return controlError(path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxOutcomeBytes))
	if err != nil {
		return fmt.Errorf("read the answer on %s: %w", path, err)
	}
	var outcome Outcome
	if err := json.Unmarshal(body, &outcome); err != nil {
		return fmt.Errorf("what answers on %s (%s) is no control socket of flyproxy: set admin.socket, or --socket, to the sidecar's", path, resp.Status)
	}
	if !outcome.Done {
		return fmt.Errorf("the sidecar says: %s", strings.TrimSpace(outcome.Error))
	}
	return nil
}

func controlError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no control socket at %s: is the sidecar running, and with the same admin.socket? %w", path, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody answers on the control socket %s: the sidecar that made it is gone: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the control socket %s is not for this user: run it as the user that the sidecar runs as: %w", path, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer on the control socket %s in time: %w", path, err)
	}
	return fmt.Errorf("ask on the control socket %s: %w", path, err)
}

// ControlTimeout is enough for any answer of a sidecar that waits for at most settle once the registry has confirmed.
func ControlTimeout(settle time.Duration) time.Duration { return 2*WithdrawTimeout + settle }

// WithdrawTimeout is how long a withdrawal waits for the registry to confirm it. Past it the lease ends the registration.
const WithdrawTimeout = time.Second
