package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// implicitFiles are tried in this order when no file is named.
func implicitFiles() []string { return []string{"flyproxy.yaml", "/etc/flyproxy/flyproxy.yaml"} }

// readFile finds, reads and checks the file. It gives the file's name, empty when there is none, and the values that it sets.
func (l *loader) readFile(flagged string) (string, map[string]any) {
	name, by := flagged, "--config"
	if name == "" {
		name, by = l.env["FLYPROXY_CONFIG"], "FLYPROXY_CONFIG"
	}
	candidates := implicitFiles()
	if name != "" {
		candidates = []string{name}
	}
	for _, candidate := range candidates {
		data, err := l.read(candidate)
		switch {
		case err == nil:
			return candidate, l.parseFile(candidate, data)
		case name != "":
			l.blind = true
			l.fault(Fault{Source: by, Value: name, Problem: "cannot read the file: " + reason(err), Fix: "name a file that is there"})
		case !errors.Is(err, fs.ErrNotExist):
			l.blind = true
			l.fault(Fault{
				Source: candidate, Problem: "cannot read the file: " + reason(err),
				Fix: "make it readable, or name another with --config",
			})
			return candidate, map[string]any{}
		}
	}
	return "", map[string]any{}
}

// reason is err without the operation and the path, which the fault names already.
func reason(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}

func (l *loader) parseFile(name string, data []byte) map[string]any {
	in := &yamlReader{loader: l, level: fromFile, source: func(line int) string { return fmt.Sprintf("%s:%d", name, line) }}
	top := in.document(data, "")
	if top == nil {
		return map[string]any{}
	}
	if top.Kind != yaml.MappingNode {
		l.blind = true
		l.fault(Fault{
			Source: in.at(top), Problem: "the file is " + nodeKind(top) + ", not keys with values",
			Fix: "begin with a key such as listen:",
		})
		return map[string]any{}
	}
	return in.mapping(top, l.root, "")
}

// yamlReader walks YAML text, of the file or of an environment variable, along the schema.
type yamlReader struct {
	*loader
	level  level
	source func(line int) string
}

func (y *yamlReader) at(n *yaml.Node) string { return y.source(n.Line) }

// document parses one document and gives its top node; nil when it is empty or broken.
func (y *yamlReader) document(data []byte, key string) *yaml.Node {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := d.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			y.syntax(err, data, key)
		}
		return nil
	}
	switch err := d.Decode(&second); {
	case err == nil:
		y.blind = true
		y.fault(Fault{
			Key: key, Source: y.at(&second), Problem: "a second YAML document",
			Fix: "remove the --- line: one document is read",
		})
	case !errors.Is(err, io.EOF):
		y.syntax(err, data, key)
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return nil
	}
	return doc.Content[0]
}

// syntax reports what the parser could not read. Its words may quote the text only where that cannot be part of a secret.
func (y *yamlReader) syntax(err error, data []byte, key string) {
	y.blind = true
	line, problem := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(problem); m != nil {
		line, _ = strconv.Atoi(m[1])
		problem = strings.TrimPrefix(problem, m[0])
	}
	fix := "check the indentation and the quotes around there"
	switch {
	case strings.Contains(problem, "unknown anchor"):
		// The anchor's name may be a password that begins with a star.
		problem, fix = "a value begins with *, which YAML takes for an alias", "put it in quotes"
		line = aliasLine(data, line)
	case tabIndented(data, line):
		problem, fix = "a tab in the indentation, which YAML does not allow", "indent with spaces"
	case tabIndented(data, line+1): // the parser counts from the token before
		line++
		problem, fix = "a tab in the indentation, which YAML does not allow", "indent with spaces"
	}
	y.fault(Fault{Key: key, Source: y.source(line), Problem: problem, Fix: fix})
}

func tabIndented(data []byte, line int) bool {
	lines := bytes.Split(data, []byte("\n"))
	if line < 1 || line > len(lines) {
		return false
	}
	text := lines[line-1]
	indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
	return bytes.ContainsRune(indent, '\t')
}

// aliasLine finds the first line whose value begins with a star; the parser names none for it.
func aliasLine(data []byte, otherwise int) int {
	star := regexp.MustCompile(`(^|[:\-\[,{]\s+|\[|,)\*`)
	for i, text := range strings.Split(string(data), "\n") {
		if star.MatchString(strings.TrimSpace(text)) {
			return i + 1
		}
	}
	return otherwise
}

// mapping reads the keys of a group.
func (y *yamlReader) mapping(n *yaml.Node, f *field, path string) map[string]any {
	out := make(map[string]any)
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			y.fault(Fault{
				Key: path, Source: y.at(k), Problem: "not a plain key",
				Fix: "write out the keys: aliases and merges are not read",
			})
			continue
		}
		key := join(path, k.Value)
		if line, twice := seen[k.Value]; twice {
			y.refuse(key, y.at(k), "", fmt.Sprintf("the same key stands in line %d", line), "keep one of them")
			continue
		}
		seen[k.Value] = k.Line
		child := f.child(k.Value)
		if child == nil {
			y.refuse(key, y.at(k), "", "unknown key", suggestKey(y.root, f, k.Value))
			continue
		}
		if isNull(v) {
			continue
		}
		if value, ok := y.value(v, child, key); ok {
			out[child.name] = value
		}
	}
	return out
}

// value reads the value of one key; not ok means that it was refused.
func (y *yamlReader) value(n *yaml.Node, f *field, path string) (any, bool) {
	switch {
	case n.Kind == yaml.AliasNode:
		y.refuse(path, y.at(n), "", "a YAML alias", "write out the value: aliases are not read")
	case f.kind == group:
		if n.Kind == yaml.MappingNode {
			return y.mapping(n, f, path), true
		}
		y.refuse(path, y.at(n), "", "holds keys, not "+nodeKind(n), "write keys below it: "+names(f))
	case f.kind == items:
		if n.Kind == yaml.SequenceNode {
			return y.items(n, f, path), true
		}
		y.refuse(path, y.at(n), "", "a list is wanted, not "+nodeKind(n),
			"write items below it, each beginning with - and having the keys "+names(f))
	case f.kind == texts && n.Kind == yaml.SequenceNode:
		return y.texts(n, f, path)
	case n.Kind != yaml.ScalarNode:
		wanted := "one value"
		if f.kind == texts {
			wanted = "a list of values"
		}
		y.refuse(path, y.at(n), "", wanted+" is wanted, not "+nodeKind(n), "")
	case n.Value == "": // counts as not set, as in the environment
	default:
		value, b := f.parse(n.Value)
		if b == nil {
			y.origins[path] = origin{y.level, y.at(n)}
			return value, true
		}
		y.refuse(path, y.at(n), show(f, n.Value), b.problem, b.fix)
	}
	return nil, false
}

func (y *yamlReader) texts(n *yaml.Node, f *field, path string) (any, bool) {
	values, good := []string{}, true
	for i, item := range n.Content {
		if item.Kind != yaml.ScalarNode || isNull(item) || item.Value == "" {
			y.refuse(path, y.at(item), "", fmt.Sprintf("item %d is %s, not a value", i+1, nodeKind(item)),
				"write one value after each -")
			good = false
			continue
		}
		if b := checkForm(f.form, item.Value); b != nil {
			y.refuse(path, y.at(item), show(f, item.Value), b.problem, b.fix)
			good = false
			continue
		}
		values = append(values, item.Value)
	}
	if !good {
		return nil, false
	}
	y.origins[path] = origin{y.level, y.at(n)}
	return values, true
}

// items reads a list of objects. What an item leaves out takes the item's default.
func (y *yamlReader) items(n *yaml.Node, f *field, path string) []any {
	for known := range y.origins {
		if strings.HasPrefix(known, path+"[") {
			delete(y.origins, known) // a list replaces the whole list of a lower layer
		}
	}
	out := []any{}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item.Kind != yaml.MappingNode {
			y.refuse(at, y.at(item), "", "holds keys, not "+nodeKind(item), "write the keys "+names(f))
			continue
		}
		values := y.mapping(item, f, at)
		y.itemDefaults(f, at, values, y.at(item))
		out = append(out, values)
	}
	y.origins[path] = origin{y.level, y.at(n)}
	return out
}

// itemDefaults fills in what an item left out.
func (l *loader) itemDefaults(f *field, path string, values map[string]any, source string) {
	for _, c := range f.fields {
		at := join(path, c.name)
		_, there := values[c.name]
		switch {
		case c.kind == group:
			sub, _ := values[c.name].(map[string]any)
			if sub == nil {
				sub = make(map[string]any)
			}
			l.itemDefaults(c, at, sub, source)
			values[c.name] = sub
		case there || l.refused[at]:
		case c.need:
			l.refuse(at, source, "", "missing", "add "+c.name+": "+c.usage)
		case c.hasDefault:
			values[c.name], _ = c.parse(c.def)
			l.origins[at] = origin{fromDefault, "default"}
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func names(f *field) string {
	all := make([]string, len(f.fields))
	for i, c := range f.fields {
		all[i] = c.name
	}
	return strings.Join(all, ", ")
}

func nodeKind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map of keys"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case isNull(n), n.Value == "":
		return "empty"
	}
	return "a single value"
}
