package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/config"
)

const introduction = `# Configuration

Every key of flyproxy's configuration. This page is generated: the keys come from the structs of ` + "`pkg/config`" + `, the longer words
from the comments in [configs/flyproxy.yaml](../configs/flyproxy.yaml), which shows every key in its place. ` + "`make generate`" + ` writes it anew.

Values come from four layers, and a later one wins:

1. the defaults below;
2. a YAML file: the one that ` + "`--config`" + ` names, else ` + "`FLYPROXY_CONFIG`, `./flyproxy.yaml`, `/etc/flyproxy/flyproxy.yaml`" + `;
3. [names that other programs use too](#names-that-work-as-they-are), such as ` + "`REDIS_URL`" + `;
4. the environment: ` + "`FLYPROXY_`" + ` and the key in capitals, its parts joined by underscores.

A list of text is separated by commas in a variable; a list of objects is written there as YAML or JSON. An empty value counts as not
set. A duration has a unit (` + "`500ms`, `5s`, `2m`" + `). A size is a number of bytes, or has a unit (` + "`64KiB`, `1MiB`, `1GiB`" + `). An unknown key, or an
unknown variable that begins with ` + "`FLYPROXY_`" + `, is a fault.

` + "`flyproxy config check`" + ` lists all faults at once, ` + "`flyproxy config print`" + ` shows what is in force and where it comes from, and
` + "`flyproxy config keys`" + ` lists the keys.
`

// page is docs/configuration.md. Words are the sample's comments.
func page(keys []config.Key, words map[string]string) string {
	var b strings.Builder
	b.WriteString(introduction)
	names(&b, keys, words)
	var order []string
	sections := make(map[string][]config.Key)
	for _, k := range keys {
		name, _, below := strings.Cut(k.Path, ".")
		name = strings.TrimSuffix(name, "[]")
		if !below && !k.List {
			name = "" // a key of the top level
		}
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		sections[name] = append(sections[name], k)
	}
	for _, name := range order {
		title := "Top level"
		if name != "" {
			title = name
		}
		fmt.Fprintf(&b, "\n## %s\n", title)
		if text := words[name]; name != "" && text != "" {
			fmt.Fprintf(&b, "\n%s\n", markdown(text, ""))
		}
		section(&b, sections[name], words)
	}
	return b.String()
}

func section(b *strings.Builder, keys []config.Key, words map[string]string) {
	b.WriteString("\n| key | variable | default | values | what |\n|---|---|---|---|---|\n")
	for _, k := range keys {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", code(k.Path), code(k.Env), defaultOf(k), values(k), cell(k.Usage))
	}
	var said []string
	say := func(path string) {
		if words[path] == "" || slices.Contains(said, path) {
			return
		}
		if len(said) == 0 {
			b.WriteString("\n")
		}
		said = append(said, path)
		fmt.Fprintf(b, "- %s: %s\n", code(path), markdown(words[path], "  "))
	}
	for _, k := range keys {
		parts := strings.Split(k.Path, ".")
		if len(parts) == 1 && !k.List {
			say(k.Path)
		}
		for i := 2; i <= len(parts); i++ { // the groups around it, and itself; what is above the table is not said again
			say(strings.Join(parts[:i], "."))
		}
	}
}

func defaultOf(k config.Key) string {
	switch {
	case k.Default != "" && k.Auto != "":
		return code(k.Default) + "; " + cell(k.Auto)
	case k.Default != "":
		return code(k.Default)
	case k.Auto != "":
		return cell(k.Auto)
	case k.Needed:
		return "must be set"
	}
	return ""
}

func values(k config.Key) string {
	var parts []string
	for _, v := range k.OneOf {
		parts = append(parts, code(v))
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = k.Kind
	}
	if len(k.Aliases) > 0 {
		var also []string
		for _, a := range k.Aliases {
			also = append(also, code(a))
		}
		text += "; also " + strings.Join(also, ", ")
	}
	switch {
	case k.Min != "" && k.Max != "":
		text += fmt.Sprintf(", %s to %s", code(k.Min), code(k.Max))
	case k.Min != "":
		text += ", at least " + code(k.Min)
	case k.Max != "":
		text += ", at most " + code(k.Max)
	}
	if k.Secret {
		text += "; secret"
	}
	return text
}

var (
	variable = regexp.MustCompile(`\b(?:FLY|GRPC|REDIS)_[A-Z_]+[A-Z]\b`)
	indented = regexp.MustCompile(`^ {2,}(\S.*?)(?: {2,}(.*))?$`)
)

// names lists the variables that are not flyproxy's own: those that set a key, and those that a default comes from.
func names(b *strings.Builder, keys []config.Key, words map[string]string) {
	sets, gives := make(map[string][]string), make(map[string][]string)
	var order []string
	note := func(in map[string][]string, name, path string) {
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		if !slices.Contains(in[name], path) {
			in[name] = append(in[name], path)
		}
	}
	for _, k := range keys {
		for _, name := range k.Shared {
			note(sets, name, k.Path)
		}
		for _, name := range variable.FindAllString(k.Auto+" "+k.Usage+" "+words[k.Path], -1) {
			if len(sets[name]) == 0 && !strings.HasPrefix(name, "REDIS_") {
				note(gives, name, k.Path)
			}
		}
	}
	slices.Sort(order)
	b.WriteString("\n## Names that work as they are\n\n| variable | what it does |\n|---|---|\n")
	for _, name := range order {
		var parts []string
		for _, path := range sets[name] {
			parts = append(parts, "sets "+code(path)+"; gives way to "+code("FLYPROXY_"+strings.ToUpper(strings.ReplaceAll(path, ".", "_"))))
		}
		if len(gives[name]) > 0 {
			var paths []string
			for _, path := range gives[name] {
				paths = append(paths, code(path))
			}
			parts = append(parts, "is used by "+strings.Join(paths, ", "))
		}
		fmt.Fprintf(b, "| %s | %s |\n", code(name), strings.Join(parts, "; "))
	}
	b.WriteString("\n`FLY_*` are set by Fly and are defaults: the file and every variable of flyproxy's own beat them. `GRPC_PORT` and `GRPC_BIND_ADDRESS` describe the app,\n" +
		"never flyproxy's own listener.\n")
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + cell(s) + "`"
}

// cell keeps a text in its column.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(s) }

// markdown makes paragraphs of a comment: lines that are set in are the items of a list, and go on below.
func markdown(text, indent string) string {
	var b strings.Builder
	inList := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		m := indented.FindStringSubmatch(line)
		switch {
		case m != nil && m[2] != "":
			b.WriteString("\n" + indent + "- `" + m[1] + "`: " + prose(m[2]))
			inList = true
		case m != nil && inList:
			b.WriteString(" " + prose(m[1]))
		case inList:
			b.WriteString("\n\n" + indent + prose(strings.TrimSpace(line)))
			inList = false
		case b.Len() == 0:
			b.WriteString(prose(line))
		default:
			b.WriteString("\n" + indent + prose(strings.TrimSpace(line)))
		}
	}
	return b.String()
}

// prose keeps what looks like HTML as it is.
func prose(s string) string { return strings.ReplaceAll(s, "<", "&lt;") }
