package flyconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
)

// ending is what a program needs beside the times that are configured, until it has ended.
const ending = time.Second

// A stopping is a supervisord.conf as what ends a Machine: the withdrawal first, then the app, flyproxy last.
type stopping struct {
	top, conf *report // of fly.toml and of supervisord.conf
	p         *place
	// file: flyproxy reads a configuration file, so that what no variable says is not known.
	file bool

	withdraw, flyproxy *Program
	inv                Invocation // flyproxy's
	apps               []*Program
}

// supervisordStops checks the supervisord.conf in dir against flyproxy's configuration. The faults are of that file; those of a variable of
// fly.toml go to r.
func (r *report) supervisordStops(line []string, p *place, dir string) []Fault {
	name := filepath.Join(dir, supervisordConf)
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	programs, err := Programs(text)
	if err != nil {
		return nil // said by supervisordTime
	}
	s := &stopping{top: r, conf: &report{file: name, line: settingLines(text).of}, p: p, file: p.env["FLYPROXY_CONFIG"] != nil}
	s.staysInFront(line, text)
	for i := range programs {
		s.add(&programs[i])
	}
	s.signals()
	if !slices.ContainsFunc(settings(text), func(s setting) bool { return strings.HasPrefix(s.section, "group:") }) { // which have an order of their own
		s.order()
	}
	s.times()
	return s.conf.sorted()
}

// staysInFront faults a supervisord that leaves the foreground: the Machine would end with what it has started.
func (s *stopping) staysInFront(line []string, text []byte) {
	if slices.Contains(line, "-n") || slices.Contains(line, "--nodaemon") {
		return
	}
	for _, entry := range settings(text) {
		if entry.section == "supervisord" && entry.key == "nodaemon" && slices.Contains([]string{"true", "yes", "on", "1"}, strings.ToLower(entry.value)) {
			return
		}
	}
	s.conf.fault("supervisord.nodaemon", "write nodaemon=true", "supervisord goes into the background, and a Machine ends with the command of its group")
}

// add takes a program for what its command says.
func (s *stopping) add(p *Program) {
	line, err := words(p.Command)
	if err != nil {
		return
	}
	if !IsFlyproxy(line) {
		if p.Name == "app" {
			s.apps = append(s.apps, p)
		}
		return
	}
	inv, err := ParseCommand(line)
	switch {
	case err != nil: // said by supervised
	case inv.Serves():
		s.flyproxy, s.inv = p, inv
		s.file = s.file || inv.Config != "" || p.environment["FLYPROXY_CONFIG"] != ""
	case inv.Command == "withdraw":
		s.withdraw = p
	case inv.Command == "wait":
		s.apps = append(s.apps, p)
	}
}

func (s *stopping) signals() {
	for _, p := range []*Program{s.withdraw, s.flyproxy} {
		if p != nil && !slices.Contains([]string{"TERM", "INT", "15", "2"}, p.Signal) {
			s.conf.fault("program:"+p.Name+".stopsignal", "write TERM", "flyproxy does not end in good order on %s", p.Signal)
		}
	}
	for _, p := range s.apps {
		if p.Signal == "KILL" || p.Signal == "9" {
			s.conf.fault("program:"+p.Name+".stopsignal", "write TERM, or what the app ends on in good order", "KILL cuts off the calls that the app is answering")
		}
	}
}

// order checks who is stopped before whom: supervisord begins with the highest priority.
func (s *stopping) order() {
	if s.withdraw != nil {
		later := slices.Clone(s.apps)
		if s.flyproxy != nil {
			later = append(later, s.flyproxy)
		}
		if len(later) > 0 {
			p := slices.MaxFunc(later, func(a, b *Program) int { return a.Priority - b.Priority })
			if s.withdraw.Priority <= p.Priority {
				s.conf.fault("program:"+s.withdraw.Name+".priority", fmt.Sprintf("write more than %d", p.Priority),
					"the highest is stopped first, and %d is not above the %d of %s: peers would still call what is stopped", s.withdraw.Priority, p.Priority, p.Name)
			}
		}
	}
	for _, p := range s.apps {
		if s.flyproxy != nil && s.flyproxy.Priority >= p.Priority {
			s.conf.fault("program:"+s.flyproxy.Name+".priority", fmt.Sprintf("write less than %d", p.Priority),
				"the lowest is stopped last, and %d is not below the %d of %s: its calls would be cut off", s.flyproxy.Priority, p.Priority, p.Name)
		}
	}
}

// times checks that flyproxy's own times fit into stopwaitsecs, past which supervisord kills.
func (s *stopping) times() {
	cfg := s.p.cfg
	if s.withdraw != nil {
		s.fits(s.withdraw, []string{"FLYPROXY_DRAIN_SETTLE"}, []time.Duration{cfg.Drain.Settle}, "drain.settle", admin.WithdrawTimeout, "the registry")
	}
	switch {
	case s.flyproxy == nil:
	case s.inv.Command == "run":
		s.fits(s.flyproxy, []string{"FLYPROXY_RUN_STOP_TIMEOUT", "FLYPROXY_DRAIN_TIMEOUT", "FLYPROXY_DRAIN_SETTLE"},
			[]time.Duration{cfg.Run.StopTimeout, cfg.Drain.Timeout, cfg.Drain.Settle}, "run.stop_timeout, drain.timeout and drain.settle", ending, "its own end")
	default:
		s.fits(s.flyproxy, []string{"FLYPROXY_DRAIN_TIMEOUT"}, []time.Duration{cfg.Drain.Timeout}, "drain.timeout", ending, "its own end")
	}
}

// fits checks one program: that the times of variables, whose values in fly.toml or by default are given, and more for what else there is,
// fit into its stopwaitsecs.
func (s *stopping) fits(p *Program, variables []string, values []time.Duration, what string, more time.Duration, whatFor string) {
	need, inConf := more, false
	for i, name := range variables {
		d := values[i]
		own, set := p.environment[name]
		if parsed, err := time.ParseDuration(own); err == nil {
			d, inConf = parsed, true
		} else if _, inFly := s.p.env[name]; set || !inFly && s.file {
			return // not known here
		}
		need += d
	}
	if need <= p.StopWait {
		return
	}
	problem := fmt.Sprintf("%s of %v, and %v for %s, do not fit into the stopwaitsecs of %v", what, need-more, more, whatFor, p.StopWait)
	if key := s.p.key(variables...); key != s.p.at && !inConf {
		fix := "raise stopwaitsecs there and kill_timeout here"
		if most := p.StopWait - more; len(variables) == 1 && most > 0 {
			fix = fmt.Sprintf("write at most %v, or %s", most, fix)
		}
		s.top.fault(key, fix,
			"%s in [program:%s] of %s", problem, p.Name, s.conf.file)
		return
	}
	s.conf.fault("program:"+p.Name+".stopwaitsecs", fmt.Sprintf("write at least %d", (need+time.Second-1)/time.Second), "%s", problem)
}
