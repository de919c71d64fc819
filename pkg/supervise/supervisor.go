package supervise

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"
)

// Restart says when an app that has ended by itself is started again.
type Restart string

// The restart policies, as Docker and Fly name them.
const (
	RestartNever     Restart = "never"
	RestartOnFailure Restart = "on-failure" // any end but exit code 0
	RestartAlways    Restart = "always"
)

// Config sets a [Supervisor] up. Reaper, Command, Withdraw and Restore are required.
type Config struct {
	Reaper  *Reaper
	Command Command
	Restart Restart // "" means RestartNever
	// BackoffBase is the wait before the first restart; it is doubled up to BackoffMax, and begins anew once the app ran for longer
	// than that. 0 means one second, and thirty.
	BackoffBase, BackoffMax time.Duration
	// StopTimeout is how long the app has to end after its signal.
	StopTimeout time.Duration
	// Withdraw makes others send the app no more calls, and returns once they had time to learn of it. It comes before the app is told
	// to stop, and when it has ended and is to be started again. Restore comes after it was started again: what was known of its health
	// is void.
	Withdraw func(context.Context) error
	Restore  func(context.Context) error
	Logger   *slog.Logger
}

// Supervisor runs one app.
type Supervisor struct {
	cfg Config
	log *slog.Logger
	// wait is the next one before a restart.
	wait time.Duration
}

// New makes a Supervisor; it starts nothing.
func New(cfg Config) *Supervisor {
	if cfg.Restart == "" {
		cfg.Restart = RestartNever
	}
	if cfg.BackoffBase <= 0 {
		cfg.BackoffBase = time.Second
	}
	if cfg.BackoffMax < cfg.BackoffBase {
		cfg.BackoffMax = max(30*time.Second, cfg.BackoffBase)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Supervisor{cfg: cfg, log: cfg.Logger, wait: cfg.BackoffBase}
}

// Run starts the app and returns how it ended: by itself and not to be started again, or stopped. It fails only if the app could not be
// started the first time, with an error that wraps [ErrNotFound] or [ErrNotExecutable] where that is why.
//
// Signals are what others send to this process, in order. SIGTERM and SIGINT stop the app in good order: it is withdrawn, gets the
// signal, has StopTimeout to end, and is killed then. Another one of them a second later or more kills it at once; one that comes
// sooner is taken for the same wish. All others are passed on. When ctx ends, the app is stopped as by SIGTERM. What is left of the
// app's process group when its first process has ended is stopped likewise: a shell ends on a signal before what it has started.
func (s *Supervisor) Run(ctx context.Context, signals <-chan os.Signal) (Exit, error) {
	for first := true; ; first = false {
		began := time.Now()
		p, err := s.cfg.Reaper.Start(s.cfg.Command)
		if err != nil && first {
			return Exit{}, err
		}
		exit, stopped := failedStart(err), false
		if err != nil {
			s.log.Error("the app could not be started again", "error", err)
		} else {
			s.log.Info("the app was started", "pid", p.Pid(), "program", s.cfg.Command.Path, "arguments", len(s.cfg.Command.Args)-1)
			s.log.Debug("the app's command line", "arguments", s.cfg.Command.Args)
			if !first {
				s.restore(ctx)
			}
			exit, stopped = s.follow(ctx, p, signals)
		}
		ran := time.Since(began)
		if stopped || !s.again(exit) {
			s.ended(exit, ran, stopped)
			return exit, nil
		}
		if !s.pause(ctx, exit, ran, signals) {
			return exit, nil
		}
	}
}

// failedStart is the exit code of an app that could not be started, as a shell has it.
func failedStart(err error) Exit {
	switch {
	case errors.Is(err, ErrNotFound):
		return Exit{Code: 127}
	case err != nil:
		return Exit{Code: 126}
	}
	return Exit{}
}

// again tells whether the app is to be started again after such an end.
func (s *Supervisor) again(e Exit) bool {
	return s.cfg.Restart == RestartAlways || s.cfg.Restart == RestartOnFailure && e.Code != 0
}

// follow passes signals on until the app has ended, or stops it. Stopped tells whether somebody asked for that.
func (s *Supervisor) follow(ctx context.Context, p *Process, signals <-chan os.Signal) (exit Exit, stopped bool) {
	for {
		select {
		case <-p.Done():
			if p.GroupAlive() {
				stopped = s.stop(ctx, p, nil, signals)
			}
			return p.Exit(), stopped
		case <-ctx.Done():
			stopped = s.stop(ctx, p, syscall.SIGTERM, signals)
			return p.Exit(), stopped
		case sig := <-signals:
			if stops(sig) {
				stopped = s.stop(ctx, p, sig, signals)
				return p.Exit(), stopped
			}
			p.Signal(sig)
		}
	}
}

// pause withdraws an app that has ended and waits before it is started again. It is false when it is not to be started any more.
func (s *Supervisor) pause(ctx context.Context, exit Exit, ran time.Duration, signals <-chan os.Signal) bool {
	if ran > s.cfg.BackoffMax {
		s.wait = s.cfg.BackoffBase
	}
	s.log.Warn("the app has ended: it is started again", "how", exit.String(), "after", ran.Round(time.Millisecond), "next_in", s.wait,
		"restart", s.cfg.Restart)
	w := s.withdraw()
	defer w.end()
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	s.wait = min(2*s.wait, s.cfg.BackoffMax)
	for withdrawn, waited := w.done, timer.C; withdrawn != nil || waited != nil; {
		select {
		case <-withdrawn:
			withdrawn = nil
		case <-waited:
			waited = nil
		case <-ctx.Done():
			return false
		case sig := <-signals:
			if stops(sig) {
				s.log.Info("told to end while the app is not running", "signal", sig.String())
				return false
			}
		}
	}
	return true
}

// ended says that the app has ended for good.
func (s *Supervisor) ended(e Exit, ran time.Duration, stopped bool) {
	level := slog.LevelInfo
	if !stopped && e.Code != 0 {
		level = slog.LevelError
	}
	s.log.Log(context.Background(), level, "the app has ended", "how", e.String(), "after", ran.Round(time.Millisecond))
}

func (s *Supervisor) restore(ctx context.Context) {
	if err := s.cfg.Restore(ctx); err != nil {
		s.log.Warn("the app was started again but stays withdrawn", "error", err)
	}
}

// withdrawal is a Withdraw under way.
type withdrawal struct {
	done   chan struct{}
	cancel context.CancelFunc
}

func (s *Supervisor) withdraw() *withdrawal {
	ctx, cancel := context.WithCancel(context.Background())
	w := &withdrawal{done: make(chan struct{}), cancel: cancel}
	go s.runWithdraw(ctx, w)
	return w
}

func (s *Supervisor) runWithdraw(ctx context.Context, w *withdrawal) {
	defer close(w.done)
	if err := s.cfg.Withdraw(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("the app was not withdrawn in time", "error", err)
	}
}

// end does not wait for it any more, but for its goroutine.
func (w *withdrawal) end() {
	w.cancel()
	<-w.done
}
