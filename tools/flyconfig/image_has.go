package flyconfig

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// plainBases are images of an operating system or a language's runtime, which have neither flyproxy nor supervisord.
var plainBases = regexp.MustCompile(`^(docker\.io/)?(library/)?(debian|ubuntu|alpine|busybox|golang|node|python|ruby|rust|php|erlang|elixir)(:|@|$)|^gcr\.io/distroless/`)

// plainRun are commands of a RUN that put nothing into an image but what they name.
var plainRun = []string{
	"apt-get", "apt", "apk", "rm", "useradd", "adduser", "groupadd", "addgroup", "mkdir", "chmod", "chown", "ln", "set", "echo",
	"update-ca-certificates", "true",
}

// program tells whether the image has a program that a command line begins with.
func (i *image) program(name string) verdict {
	switch {
	case path.IsAbs(name):
		return i.file(name)
	case strings.Contains(name, "/"):
		return unknown
	}
	best := absent
	for _, dir := range i.paths {
		switch i.file(dir + "/" + name) {
		case present:
			return present
		case unknown:
			best = unknown
		}
	}
	return best
}

// file tells whether the image has a file at an absolute path.
func (i *image) file(name string) verdict {
	best := absent
	if i.opaque || i.base != "scratch" && (!plainBases.MatchString(i.base) || !ours(name)) {
		best = unknown
	}
	for _, s := range i.steps {
		switch s.puts(name) {
		case present:
			return present
		case unknown:
			best = unknown
		}
	}
	return best
}

// ours tells whether a plain base cannot have a file.
func ours(name string) bool {
	base := path.Base(name)
	return base == "flyproxy" || base == "supervisord" || path.Ext(base) == ".conf" && path.Dir(name) == "/etc" || strings.Contains(name, "supervisor")
}

// puts tells whether a step puts a file to an absolute path.
func (s *step) puts(name string) verdict {
	base := path.Base(name)
	if s.run != "" {
		switch {
		case base == "supervisord" && strings.Contains(s.run, "supervisor"), strings.Contains(s.run, name):
			return present
		case strings.Contains(s.run, base), base == "supervisord.conf" && strings.Contains(s.run, "supervisor"), !isPlain(s.run):
			return unknown // the package brings one: Debian's in /etc/supervisor, Alpine's in /etc
		}
		return absent
	}
	if s.to == name {
		return present
	}
	to := strings.TrimSuffix(s.to, "/")
	if !strings.HasPrefix(name, to+"/") {
		return absent
	}
	if path.Dir(name) == path.Clean("/"+to) && slices.ContainsFunc(s.sources, func(src string) bool { return path.Base(src) == base }) {
		return present
	}
	if slices.ContainsFunc(s.sources, func(src string) bool { return !s.isFile(src) }) {
		return unknown // a directory, which may have it
	}
	return absent
}

// isFile tells whether a source is a file for sure: what a compiler writes, or what its name says.
func (s *step) isFile(src string) bool {
	if strings.HasSuffix(src, "/") || strings.ContainsAny(src, "*?[") {
		return false
	}
	if slices.Contains([]string{".conf", ".crt", ".pem", ".yaml", ".yml", ".json", ".toml"}, path.Ext(src)) {
		return true
	}
	words := strings.Fields(s.from)
	for i := range words[:max(0, len(words)-1)] {
		if words[i] == "-o" && words[i+1] == src {
			return true
		}
	}
	return false
}

// isPlain tells whether all commands of a RUN are known to put nothing into an image but what they name.
func isPlain(run string) bool {
	if strings.ContainsAny(run, "$<|`[") {
		return false
	}
	for command := range strings.SplitSeq(strings.ReplaceAll(run, ";", "&&"), "&&") {
		words := strings.Fields(command)
		if len(words) == 0 || !slices.Contains(plainRun, words[0]) {
			return false
		}
	}
	return true
}
