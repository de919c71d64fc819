package flyconfig

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lines knows on which line each key of a TOML document stands.
type lines map[string]int

// newLines reads a document as far as it is TOML.
func newLines(data []byte) lines {
	l := make(lines)
	items := make(map[string]int) // how many of each [[list]] have been seen
	prefix := ""
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		key, line := l.key(&p, e)
		switch e.Kind {
		case unstable.Table:
			prefix = l.within(key, items)
			l[prefix] = line
		case unstable.ArrayTable:
			at := l.within(key, items)
			prefix = fmt.Sprintf("%s[%d]", at, items[at])
			items[at]++
			l[prefix] = line
		case unstable.KeyValue:
			path := key
			if prefix != "" {
				path = prefix + "." + key
			}
			l[path] = line
			l.inline(&p, e.Value(), path)
		}
	}
	return l
}

// key gives the dotted key of an expression and its line.
func (lines) key(p *unstable.Parser, e *unstable.Node) (key string, line int) {
	var parts []string
	for it := e.Key(); it.Next(); {
		parts = append(parts, string(it.Node().Data))
		if line == 0 {
			line = p.Shape(it.Node().Raw).Start.Line
		}
	}
	return strings.Join(parts, "."), line
}

// inline notes the keys of an inline table.
func (l lines) inline(p *unstable.Parser, v *unstable.Node, path string) {
	if v.Kind != unstable.InlineTable {
		return
	}
	for it := v.Children(); it.Next(); {
		key, line := l.key(p, it.Node())
		l[path+"."+key] = line
		l.inline(p, it.Node().Value(), path+"."+key)
	}
}

// within puts the index of the latest item behind each list that a header's key leads through: services.ports is a list of
// the latest service.
func (lines) within(key string, items map[string]int) string {
	path := ""
	parts := strings.Split(key, ".")
	for i, part := range parts {
		if path != "" {
			path += "."
		}
		path += part
		if n := items[path]; n > 0 && i < len(parts)-1 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
	}
	return path
}

// of is the line of a key, else that of the nearest table around it; 0 when there is none.
func (l lines) of(key string) int {
	for {
		if n, ok := l[key]; ok {
			return n
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut < 0 {
			return 0
		}
		key = key[:cut]
	}
}
