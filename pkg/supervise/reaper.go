package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// The errors of Start, for exit codes as shells have them.
var (
	// ErrNotFound says that there is no such program (127).
	ErrNotFound = errors.New("command not found")
	// ErrNotExecutable says that there is one but it cannot be executed (126).
	ErrNotExecutable = errors.New("command cannot be executed")
)

// Command is what to start.
type Command struct {
	// Path is the program's file, as [Look] finds it.
	Path string
	// Args are all arguments; the first one is the name that the program is called by.
	Args []string
	// Env is the whole environment, in the form of os.Environ.
	Env []string
}

// Look finds name as a shell would: as a path if it has a slash, else in the folders of PATH. The error wraps [ErrNotFound] or
// [ErrNotExecutable] and says what to do.
func Look(name string) (string, error) {
	file, err := exec.LookPath(name)
	switch {
	case err == nil:
		return file, nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EISDIR):
		return "", fmt.Errorf("%w: %s: no permission to execute it (is it a program? chmod +x?)", ErrNotExecutable, name)
	case strings.Contains(name, "/"):
		return "", fmt.Errorf("%w: there is no program %s", ErrNotFound, name)
	}
	return "", fmt.Errorf("%w: %s is in no folder of PATH: write the whole path of the app's program", ErrNotFound, name)
}

// Exit is how a process ended.
type Exit struct {
	// Code is its exit code, or 128 and the signal's number as shells have it.
	Code int
	// Signal is the signal that ended it, or 0.
	Signal syscall.Signal
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return "signal " + e.Signal.String()
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// Process is one that a Reaper has started. Its methods may be called concurrently.
type Process struct {
	reaper *Reaper
	pid    int
	done   chan struct{} // closed once exit is set
	exit   Exit

	terminal bool // it was handed the terminal; guarded by the reaper's mu
}

// Pid is its process id.
func (p *Process) Pid() int { return p.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how it ended. It may be asked for once Done is closed.
func (p *Process) Exit() Exit { return p.exit }

// Signal sends the process a signal, unless it has ended.
func (p *Process) Signal(s os.Signal) { p.reaper.signal(p, s.(syscall.Signal)) } // there are no others on Unix

// SignalGroup sends all processes of its process group a signal, also when the process itself has ended.
func (p *Process) SignalGroup(s os.Signal) { _ = syscall.Kill(-p.pid, s.(syscall.Signal)) } // it fails where nobody is left

// GroupAlive tells whether a process of its group is left. As long as one is, the group's id is not given to another; so once the process
// itself has ended, ask before each SignalGroup, and never again when the answer was no.
func (p *Process) GroupAlive() bool { return syscall.Kill(-p.pid, 0) == nil }

// Reaper is the parent of processes. All methods may be called concurrently. There can be only one in a process.
type Reaper struct {
	log      *slog.Logger
	starts   chan start
	ended    chan os.Signal // SIGCHLD
	stop     chan struct{}
	finished chan struct{}

	// mu guards children. It is held over each fork and each wait, so that no process ends before it is known, and over each
	// signal, so that none goes to a process id that is another's by then.
	mu       sync.Mutex
	children map[int]*Process
}

// NewReaper begins to wait for children, and on Linux for their orphans too, PID 1 or not. Close ends that.
func NewReaper(log *slog.Logger) *Reaper {
	r := &Reaper{
		log: log, starts: make(chan start), ended: make(chan os.Signal, 1), stop: make(chan struct{}), finished: make(chan struct{}),
		children: make(map[int]*Process),
	}
	if err := adoptOrphans(); err != nil {
		log.Debug("orphans go to PID 1", "error", err)
	}
	signal.Notify(r.ended, syscall.SIGCHLD)
	go r.run()
	return r
}

// Close stops waiting for children. Those that run go on.
func (r *Reaper) Close() {
	signal.Stop(r.ended)
	close(r.stop)
	<-r.finished
}

// start asks run to start a program.
type start struct {
	command Command
	started chan<- started // capacity 1
}

type started struct {
	process *Process
	err     error
}

// Start starts a program with our own standard input, output and error, in a process group of its own: what is sent to our group, as
// a terminal does at Ctrl-C, reaches it by us only. On Linux it gets SIGTERM if this process dies without having stopped it, unless it
// has changed its user meanwhile (prctl(2), PR_SET_PDEATHSIG). The error wraps [ErrNotFound] or [ErrNotExecutable] where that is the
// reason. After Close it fails.
func (r *Reaper) Start(c Command) (*Process, error) {
	answer := make(chan started, 1)
	select {
	case r.starts <- start{c, answer}:
		s := <-answer
		return s.process, s.err
	case <-r.stop:
		return nil, fmt.Errorf("start %s: %w", c.Path, os.ErrClosed)
	}
}

func (r *Reaper) fork(c Command) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{Env: c.Env, Files: []uintptr{0, 1, 2}, Sys: attributes()})
	if err != nil {
		return nil, StartError(c.Path, err)
	}
	p := &Process{reaper: r, pid: pid, done: make(chan struct{})}
	r.children[pid] = p
	return p, nil
}

// StartError says why execve failed for the program at path (execve(2), ERRORS). It wraps [ErrNotFound] or [ErrNotExecutable] where that
// is the reason.
func StartError(path string, err error) error {
	_, statErr := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOENT) && statErr == nil:
		return fmt.Errorf("%w: %s: it names an interpreter (its first line, or the dynamic loader) that is not in this image", ErrNotFound, path)
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: %s", ErrNotFound, path)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: %s: neither a program for this processor nor a script with #! in its first line", ErrNotExecutable, path)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%w: %s: %w", ErrNotExecutable, path, err)
	}
	return fmt.Errorf("start %s: %w", path, err)
}

// run forks and waits on one thread: the signal that a child gets at its parent's death is sent at the death of the thread that
// forked it (prctl(2), PR_SET_PDEATHSIG), and threads of Go may end.
func (r *Reaper) run() {
	defer close(r.finished)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case s := <-r.starts:
			p, err := r.fork(s.command)
			s.started <- started{p, err}
		case <-r.ended:
			for r.reap() {
			}
		case <-r.stop:
			return
		}
	}
}

// reap waits for one child that has ended, and tells whether there was one. One SIGCHLD may stand for several.
func (r *Reaper) reap() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WUNTRACED, nil)
	if errors.Is(err, syscall.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	p := r.children[pid]
	if status.Stopped() {
		r.stopped(p, status.StopSignal())
		return true
	}
	if p == nil {
		r.log.Debug("an orphan has ended", "pid", pid)
		return true
	}
	delete(r.children, pid)
	if p.terminal {
		takeTerminal()
	}
	p.exit = exitOf(status)
	close(p.done)
	return true
}

// stopped hands the terminal to a child that was stopped because it reads from it, or changes how it works, in the background. Until
// then we keep it, so that Ctrl-C is an orderly stop; from then on it goes to the child. Where the child is stopped from there (Ctrl-Z),
// we stop with it, as the shell expects of its job, and go on with it.
func (r *Reaper) stopped(p *Process, by syscall.Signal) {
	switch {
	case p == nil:
	case by == syscall.SIGTTIN, by == syscall.SIGTTOU:
		if err := giveTerminal(p.pid); err != nil {
			r.log.Error("the app was stopped because it wants the terminal, which is not ours to give: start flyproxy in the foreground, or "+
				"with its standard input from elsewhere (</dev/null)", "signal", by.String(), "error", err)
			return
		}
		p.terminal = true
		_ = syscall.Kill(-p.pid, syscall.SIGCONT)
		r.log.Info("the app wants the terminal and has it now: what is typed there, Ctrl-C too, goes to the app")
	case p.terminal && by == syscall.SIGTSTP:
		takeTerminal()
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP) // returns when somebody has us go on
		if giveTerminal(p.pid) != nil {
			p.terminal = false // in the background now; it will ask again
		}
		_ = syscall.Kill(-p.pid, syscall.SIGCONT)
	}
}

func exitOf(s syscall.WaitStatus) Exit {
	if s.Signaled() {
		return Exit{Code: 128 + int(s.Signal()), Signal: s.Signal()}
	}
	return Exit{Code: s.ExitStatus()}
}

// signal sends s to p as long as p was not waited for: its id is its own until then.
func (r *Reaper) signal(p *Process, s syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[p.pid] == p {
		_ = syscall.Kill(p.pid, s) // it fails only for one that has ended and is not waited for yet
	}
}
