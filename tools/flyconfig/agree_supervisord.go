package flyconfig

import (
	"errors"
	"os"
	"time"
)

// supervisordConf is where the supervisord.conf of a deployment is, beside its fly.toml.
const supervisordConf = "supervisord.conf"

// supervised is what the flyproxy that supervisord starts is asked to do. Where the file is not there, as for an image that is built
// elsewhere, it is taken to be a sidecar.
func (r *report) supervised(key, file string) Invocation {
	serves := Invocation{Command: "serve"}
	text, err := os.ReadFile(file)
	if err != nil {
		return serves
	}
	programs, err := Programs(text)
	if err != nil {
		return serves // said by supervisordTime
	}
	found := false
	for _, p := range programs {
		line, err := words(p.Command)
		if err != nil || !IsFlyproxy(line) {
			continue
		}
		inv, err := ParseCommand(line)
		var wrong *CommandError
		switch {
		case errors.As(err, &wrong):
			r.fault(key, wrong.Fix, "%s, [program:%s]: %s", file, p.Name, wrong.Problem)
			found = true // and meant, perhaps
		case inv.Serves():
			serves, found = inv, true
		}
	}
	if !found {
		r.fault(key, "give it a program with command=flyproxy serve", "%s starts no flyproxy that accepts calls", file)
	}
	return serves
}

// supervisordTime gives the time that the programs of a file may take to stop; none where the file is not there.
func (r *report) supervisordTime(key, file string) (takes time.Duration, whose string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, ""
	}
	takes, err = StopTime(text)
	if err != nil {
		r.fault(key, "correct "+file, "%v", err)
	}
	return takes, "what " + file + " gives its programs to stop"
}
