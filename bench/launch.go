package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// loopback is where everything listens.
const loopback = "127.0.0.1"

// startLimit is how long a proxy may take until it passes its first call.
const startLimit = 15 * time.Second

// running is a subject that takes calls.
type running struct {
	*subject
	proxy *process // nil for no proxy
	// targets are what the client dials.
	targets []string
}

// address is a peer's, in the parts that some configurations want.
type address struct{ Host, Port string }

// settings are what the templates are filled with.
type settings struct {
	Host            string
	Port, AdminPort int
	Peers           []string
	Dir, Engine     string
}

// PeerAddrs are the peers in parts.
func (s settings) PeerAddrs() ([]address, error) {
	var all []address
	for _, p := range s.Peers {
		host, port, err := net.SplitHostPort(p)
		if err != nil {
			return nil, err
		}
		all = append(all, address{host, port})
	}
	return all, nil
}

// refusal is a proxy's own word that it does not run so. It is left out with a note; any other failure to start is an error.
type refusal struct{ words string }

func (r refusal) Error() string { return r.words }

// exitConfig is the exit code with which flyproxy refuses a configuration (EX_CONFIG of sysexits.h).
const exitConfig = 78

// launch starts a subject in front of peers and waits until a call passes. Its files lie in a new folder in dir.
func launch(ctx context.Context, s *subject, peers []string, dir string) (*running, error) {
	if s.config == "" {
		return &running{subject: s, targets: peers}, nil
	}
	dir, err := os.MkdirTemp(dir, s.id+"-")
	if err != nil {
		return nil, err
	}
	set := settings{Host: loopback, Peers: peers, Dir: dir, Engine: s.engine}
	if set.Port, err = freePort(); err != nil {
		return nil, err
	}
	if set.AdminPort, err = freePort(); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, s.config)
	if err := render(s.config, config, set); err != nil {
		return nil, err
	}
	proxy, err := startProcess(s.id, dir, append([]string{s.program}, s.argv(config, dir)...))
	if err != nil {
		return nil, err
	}
	r := &running{subject: s, proxy: proxy, targets: []string{net.JoinHostPort(loopback, strconv.Itoa(set.Port))}}
	if err := r.await(ctx); err != nil {
		r.stop()
		if s.engine != "" && proxy.exitCode() == exitConfig {
			return nil, refusal{fmt.Sprintf("this build refuses `engine: %s`", s.engine)}
		}
		return nil, fmt.Errorf("%s does not pass calls: %w; it printed:\n%s", s.title, err, proxy.output())
	}
	return r, nil
}

// await returns once a call has passed.
func (r *running) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := r.once(ctx)
		if err == nil {
			return nil
		}
		if r.proxy.ended() {
			return fmt.Errorf("it ended with exit code %d", r.proxy.exitCode())
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("not within %v: %w", startLimit, err)
		}
	}
}

// once makes a call on a connection of its own: one that has failed would not be tried again for a second.
func (r *running) once(ctx context.Context) error {
	clients, err := dial(1, r.targets)
	if err != nil {
		return err
	}
	defer clients.close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return (&unary{cc: clients[0], request: payload(100)}).call(ctx)
}

func (r *running) stop() {
	if r.proxy != nil {
		r.proxy.stop()
	}
}

// render fills a template into a file.
func render(name, file string, set settings) error {
	t, err := template.ParseFS(configs, "configs/"+name)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := t.Execute(&text, set); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text.String()), 0o600)
}

// freePort gives a port that was free a moment ago.
func freePort() (int, error) {
	lis, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, err
	}
	port := lis.Addr().(*net.TCPAddr).Port
	return port, lis.Close()
}

// startPeer runs this program as a peer and gives its address.
func startPeer(ctx context.Context, dir string, n int) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p, err := startProcess(fmt.Sprintf("peer %d", n), dir, []string{self, peerArg})
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		// It prints its address and nothing else.
		if out := p.output(); strings.HasPrefix(out, loopback+":") {
			return p, out, nil
		}
		if err := pause(ctx, time.Millisecond); err != nil || p.ended() {
			p.stop()
			return nil, "", fmt.Errorf("%s does not start: %w", p.name, errors.Join(err, errors.New(p.output())))
		}
	}
}
