// Package redistest starts real Redis servers for tests: one alone, a Cluster, or a primary with its replica and Sentinels.
//
// Each server is a process of its own on a free loopback port, keeps its files in the test's temporary directory, and ends with
// the test. Signals go to processes that this package started, by their id, and to no others.
package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startLimit bounds how long anything may take to come up. It is long because machines that run tests are often busy.
const startLimit = 30 * time.Second

// Config says how a server is to be. The zero Config is a server without password, TLS or persistence.
type Config struct {
	// Password is asked of the default user.
	Password string
	// TLS makes the server accept TLS only. Its certificate is for the name "redis.test" and for 127.0.0.1; [Server.CAFile] is what
	// to trust.
	TLS bool
	// Persist keeps the data across [Server.Restart], in an append-only file that is synced with every write.
	Persist bool
	// Args are further arguments, as in redis.conf: "--maxmemory", "10mb".
	Args []string
}

// Server is one Redis process. Its methods fail the test where they fail, except Do. They are to be called from one goroutine,
// except Addr and Do.
type Server struct {
	t      testing.TB
	cfg    Config
	dir    string
	port   int
	caFile string
	tls    *tls.Config
	conf   string // when set, a file to start from, as Sentinels need
	mode   string // further flag that stands last: --sentinel

	mu      sync.Mutex // guards the fields below
	process *process
	client  *goredis.Client
}

// Start starts a server. Where redis-server is not installed the test is skipped, or fails if CI or REQUIRE_ALL_TESTS demands
// that nothing is.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	need(t)
	s := &Server{t: t, cfg: cfg, dir: t.TempDir()}
	if cfg.TLS {
		s.tls, s.caFile = certificates(t, s.dir)
	}
	s.launch(freePort)
	return s
}

// need skips the test where redis-server is missing, or fails it, as [Start] does.
func need(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	const missing = "redis-server is not in PATH; on Debian: apt-get install redis-server"
	if os.Getenv("CI") != "" || os.Getenv("REQUIRE_ALL_TESTS") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// launch starts the process on a port that choose gives. Another process may take a port between the choice and the start, so it
// tries a few.
func (s *Server) launch(choose func(testing.TB) int) {
	s.t.Helper()
	var err error
	for range 5 {
		s.port = choose(s.t)
		if err = s.up(); err == nil {
			s.t.Cleanup(s.end)
			return
		}
	}
	s.t.Fatalf("start redis-server: %v", err)
}

func (s *Server) args() []string {
	if s.conf != "" {
		return []string{s.conf, s.mode}
	}
	port := strconv.Itoa(s.port)
	args := []string{"--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no", "--loglevel", "notice", "--save", ""}
	if s.cfg.TLS {
		args = append(args, "--port", "0", "--tls-port", port, "--tls-auth-clients", "no", "--tls-ca-cert-file", s.caFile,
			"--tls-cert-file", filepath.Join(s.dir, "server.pem"), "--tls-key-file", filepath.Join(s.dir, "server.key"))
	} else {
		args = append(args, "--port", port)
	}
	if s.cfg.Persist {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	} else {
		args = append(args, "--appendonly", "no")
	}
	if s.cfg.Password != "" {
		args = append(args, "--requirepass", s.cfg.Password, "--masterauth", s.cfg.Password)
	}
	return append(args, s.cfg.Args...)
}

// up starts the process and waits until it answers.
func (s *Server) up() error {
	p, err := begin(s.args())
	if err != nil {
		return err
	}
	options := &goredis.Options{
		Addr: s.Addr(), Password: s.cfg.Password, TLSConfig: s.tls, Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, PoolSize: 64, PipelinePoolSize: -1, ContextTimeoutEnabled: true,
		DialTimeout: 2 * time.Second, ReadTimeout: 10 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	goredis.SetLogger(silent{}) // go-redis has one logger for the process; the refused connections until a server is up are no news
	client := goredis.NewClient(options)
	deadline := time.Now().Add(startLimit)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := client.Ping(ctx).Err()
		cancel()
		if err == nil {
			break
		}
		if p.ended() || time.Now().After(deadline) {
			_ = client.Close()
			p.kill()
			return fmt.Errorf("%w; it wrote:\n%s", err, p.output())
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process, s.client = p, client
	return nil
}

// end is the test's cleanup. A stopped process can be killed as it is.
func (s *Server) end() {
	s.mu.Lock()
	p, client := s.process, s.client
	s.mu.Unlock()
	_ = client.Close()
	p.kill()
	if s.t.Failed() {
		s.t.Logf("redis-server on %s wrote:\n%s", s.Addr(), p.output())
	}
}

// Addr is the server's address, host:port. It stays the same across a restart.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Port is the server's port.
func (s *Server) Port() int { return s.port }

// CAFile is the PEM file of the authority that signed the server's certificate; empty without TLS.
func (s *Server) CAFile() string { return s.caFile }

// Pid is the process id of the server.
func (s *Server) Pid() int { return s.current().cmd.Process.Pid }

// Pause stops the process with SIGSTOP: its connections stay open and nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume continues a paused process.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.current().cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("send %v to redis-server: %v", sig, err)
	}
}

// Kill ends the process at once, as SIGKILL does. It returns when the process is gone and its port is free.
func (s *Server) Kill() { s.current().kill() }

// Restart starts the process anew on its port, after killing it if it runs. Data is lost unless the server persists.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.mu.Lock()
	_ = s.client.Close()
	s.mu.Unlock()
	if err := s.up(); err != nil {
		s.t.Fatalf("restart redis-server on %s: %v", s.Addr(), err)
	}
}

// Do sends one command, as redis-cli would, and gives its reply as go-redis does: strings, int64, nil, and []any of these.
func (s *Server) Do(ctx context.Context, args ...any) (any, error) {
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	reply, err := client.Do(ctx, args...).Result()
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	return reply, err
}

// Must is Do that fails the test on an error.
func (s *Server) Must(args ...any) any {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	reply, err := s.Do(ctx, args...)
	if err != nil {
		s.t.Fatalf("redis on %s: %v: %v", s.Addr(), args, err)
	}
	return reply
}

// Text is Must for a command whose reply is a string, such as INFO; nil is "".
func (s *Server) Text(args ...any) string {
	s.t.Helper()
	switch v := s.Must(args...).(type) {
	case string:
		return v
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// process is a child that one goroutine waits for.
type process struct {
	cmd  *exec.Cmd
	out  *tail
	gone chan struct{} // closed when the process has ended and its goroutine with it
}

func begin(args []string) (*process, error) {
	p := &process{cmd: exec.Command("redis-server", args...), out: &tail{}, gone: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	_ = p.cmd.Wait()
	close(p.gone)
}

func (p *process) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only where the process has ended already
	<-p.gone
}

func (p *process) output() string { return p.out.String() }

// tail keeps the last part of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

var _ io.Writer = (*tail)(nil)

func (w *tail) Write(b []byte) (int, error) {
	const most = 64 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf.Len()+len(b) > most {
		w.buf.Reset()
	}
	return w.buf.Write(b)
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// freePort gives a port on which nothing listens now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// clusterPort gives a port that is free together with the one 10,000 above it, which cluster nodes use among themselves. It lies
// below what Linux gives to outgoing connections.
func clusterPort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 12000 + rand.IntN(10000)
		if free(port) && free(port+10000) {
			return port
		}
	}
	t.Fatal("no free pair of ports for a cluster node")
	return 0
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// await polls until cond holds and fails the test when that takes too long; cond says what it waits for.
func await(t testing.TB, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v: %v", startLimit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
