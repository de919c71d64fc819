package supervise_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flyproxy/flyproxy/pkg/supervise"
)

// onTerminal makes this test's program, run anew, the foreground job of a pseudo-terminal, where it supervises a script.
const onTerminal = "SUPERVISE_TEST_SCRIPT"

func TestMain(m *testing.M) {
	script, ok := os.LookupEnv(onTerminal)
	if !ok {
		os.Exit(m.Run())
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	r := supervise.NewReaper(log)
	nothing := func(context.Context) error { return nil }
	exit, err := supervise.New(supervise.Config{
		Reaper: r, Command: shell(os.TempDir(), script), StopTimeout: patience, Withdraw: nothing, Restore: nothing, Logger: log,
	}).Run(context.Background(), nil)
	if err != nil {
		log.Error("run", "error", err)
		os.Exit(99)
	}
	// The terminal must be ours again: a read from the background would stop us.
	line := make([]byte, 100)
	n, err := os.Stdin.Read(line)
	log.Info("afterwards", "line", string(line[:n]), "error", err)
	os.Exit(exit.Code)
}

// An app that reads from the terminal would be stopped for ever in a process group of the background.
func TestAppThatReadsFromTheTerminalHasIt(t *testing.T) {
	master, slave := terminal(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), onTerminal+`=echo ready; read line; echo "got:$line"; exit 7`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	var screen logs
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&screen, master) // until the last one closes the terminal
	}()
	await(t, "the app reads", func() bool { return strings.Contains(screen.String(), "has it now") })
	// Ctrl-Z stops the app, and we stop with it, as the shell expects of its job.
	if _, err := master.WriteString("\x1a"); err != nil {
		t.Fatal(err)
	}
	await(t, "we are stopped", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "the app has its line", func() bool { return strings.Contains(screen.String(), "got:hello") })
	await(t, "it has ended", func() bool { return strings.Contains(screen.String(), "the app has ended") })
	if _, err := master.WriteString("again\n"); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d, %v\n%s", code, err, screen.String())
	}
	<-read
	if !strings.Contains(screen.String(), `line="again\n"`) {
		t.Errorf("the terminal was not taken back:\n%s", screen.String())
	}
}

// terminal is a new pseudo-terminal (pty(7)).
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var failed error
	err = raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed != nil {
			return
		}
		var n int
		n, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		name = "/dev/pts/" + strconv.Itoa(n)
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
