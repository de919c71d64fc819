package flyconfig

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A verdict is what is known of whether an image has something.
type verdict int

const (
	unknown verdict = iota
	present
	absent
)

// An image is a Dockerfile's stage with those that it is made from, read as far as that goes without building it. What it is made from
// by a name of its own, and what a script does, is not known.
type image struct {
	target string // empty for the last stage, where that has no name
	// base is the image that the first of its stages is made from.
	base  string
	paths []string // $PATH
	steps []step
	// opaque: there is something that may put anything anywhere.
	opaque bool
}

// A step puts something into an image.
type step struct {
	run string // of a RUN; else a COPY or an ADD:
	// from is where the sources are files for sure: the texts of stages that compile them.
	from    string
	sources []string
	to      string
}

// built gives a Dockerfile's images by the names of their stages, and the one that f builds; nil where there is none to be
// read, such as for an image that is built elsewhere.
func built(f *File) (all map[string]*image, target *image) {
	b := f.Build
	if b == nil {
		b = &Build{} // Fly looks for a Dockerfile then
	}
	if b.Compose != nil || b.Image != "" || b.Builder != "" || len(b.Buildpacks) > 0 || b.Builtin != "" || strings.Contains(b.Dockerfile, "://") {
		return nil, nil
	}
	name := b.Dockerfile
	if name == "" {
		name = "Dockerfile"
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(f.path), name))
	if err != nil {
		return nil, nil // said by Load
	}
	all = images(string(text))
	return all, all[b.Target+b.TargetOld]
}

// images reads a Dockerfile's stages. The last stage is there as "" too.
func images(dockerfile string) map[string]*image {
	all := make(map[string]*image)
	texts := make(map[string]string)
	var in *image
	workdir := "/"
	for _, line := range instructions(dockerfile) {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if word = strings.ToUpper(word); word == "FROM" {
			in, workdir = from(rest, all), "/"
			all[in.target], all[""] = in, in
			continue
		}
		if in == nil {
			continue // ARG
		}
		texts[in.target] += line + "\n"
		switch word {
		case "WORKDIR":
			workdir = absolute(workdir, rest)
		case "RUN":
			in.steps = append(in.steps, step{run: rest})
		case "COPY", "ADD":
			in.copies(word, rest, workdir, texts)
		case "ENV":
			in.env(rest)
		}
	}
	return all
}

// instructions are a Dockerfile's, without comments, each on one line.
func instructions(dockerfile string) (all []string) {
	var open strings.Builder
	for line := range strings.Lines(dockerfile) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		more := strings.HasSuffix(line, "\\")
		open.WriteString(strings.TrimSuffix(line, "\\") + " ")
		if !more {
			all = append(all, strings.TrimSpace(open.String()))
			open.Reset()
		}
	}
	return all
}

// from begins an image with what follows FROM.
func from(rest string, all map[string]*image) *image {
	in := &image{paths: []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}}
	parts := slices.DeleteFunc(strings.Fields(rest), func(p string) bool { return strings.HasPrefix(p, "--") })
	if len(parts) == 0 {
		in.opaque = true
		return in
	}
	if in.base = parts[0]; in.base != "" && all[in.base] != nil {
		parent := *all[in.base]
		parent.steps, parent.paths = slices.Clone(parent.steps), slices.Clone(parent.paths)
		in = &parent
	}
	in.target = ""
	if n := len(parts); n >= 3 && strings.EqualFold(parts[n-2], "AS") {
		in.target = parts[n-1]
	}
	return in
}

func absolute(workdir, name string) string {
	dir := strings.HasSuffix(name, "/") || name == "."
	if !path.IsAbs(name) {
		name = path.Join(workdir, name)
	}
	if name = path.Clean(name); dir && name != "/" {
		name += "/"
	}
	return name
}

func (i *image) copies(word, rest, workdir string, texts map[string]string) {
	s := step{}
	for strings.HasPrefix(rest, "--") {
		flag, after, _ := strings.Cut(rest, " ")
		if stage, ok := strings.CutPrefix(flag, "--from="); ok {
			s.from = texts[stage]
		}
		rest = strings.TrimSpace(after)
	}
	parts := strings.Fields(rest)
	if strings.HasPrefix(rest, "[") && json.Unmarshal([]byte(rest), &parts) != nil {
		parts = nil
	}
	if len(parts) < 2 || strings.ContainsAny(rest, "$<") {
		i.opaque = true
		return
	}
	s.sources, s.to = parts[:len(parts)-1], absolute(workdir, parts[len(parts)-1])
	if word == "ADD" {
		s.from = "" // archives are unpacked
	}
	if len(s.sources) > 1 && !strings.HasSuffix(s.to, "/") {
		s.to += "/"
	}
	i.steps = append(i.steps, s)
}

var envPath = regexp.MustCompile(`(?:^|\s)PATH[= ]\s*"?([^\s"]+)`)

func (i *image) env(rest string) {
	if m := envPath.FindStringSubmatch(rest); m != nil {
		for dir := range strings.SplitSeq(m[1], ":") {
			switch {
			case path.IsAbs(dir) && !strings.Contains(dir, "$"):
				i.paths = append(i.paths, path.Clean(dir))
			case dir != "$PATH" && dir != "${PATH}":
				i.opaque = true
			}
		}
	}
}
