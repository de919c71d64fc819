package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that we started and that we end.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
	err   error // of Wait; set before done is closed

	// mu guards log, the last of what it printed.
	mu  sync.Mutex
	log []byte
}

// maxLog is how much of a process' output is kept for error messages, in bytes.
const maxLog = 16 << 10

// Write takes what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, b...)
	if extra := len(p.log) - maxLog; extra > 0 {
		p.log = append(p.log[:0], p.log[extra:]...)
	}
	return len(b), nil
}

// output gives the last lines that the process printed.
func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.TrimSpace(string(p.log))
}

// startProcess runs argv in dir with a minimal environment. Its standard input stays open until stop, or until we die.
func startProcess(name, dir string, argv []string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = ownGroup()
	// Descendants may hold the output open; they do not hold up Wait for longer than this.
	p.cmd.WaitDelay = time.Second
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// stop asks the process to end, ends it and its group after 3 s if it does not, and returns when it is gone.
func (p *process) stop() {
	_ = p.stdin.Close()
	if !p.ended() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	patience := time.NewTimer(3 * time.Second)
	defer patience.Stop()
	select {
	case <-p.done:
	case <-patience.C:
		killGroup(p.cmd.Process.Pid)
		<-p.done
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// exitCode is that of a process that has ended by itself, else -1.
func (p *process) exitCode() int {
	if !p.ended() {
		return -1
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return exit.ExitCode()
	}
	return 0
}
