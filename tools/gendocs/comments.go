package main

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readComments gives the comment above each key of the sample, by the key's path; an item of a list is name[]. Keys that are
// commented out count too.
func readComments(sample string) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(uncomment(sample)), &doc); err != nil {
		return nil, fmt.Errorf("read %s with every key uncommented: %w", samplePath, err)
	}
	all := make(map[string]string)
	collect(doc.Content[0], "", all)
	return all, nil
}

// commentedKey is "# name: value" or "# - name: value", and below such a key indented items and comments. Prose never looks like
// that; pkg/config has a test of it.
var commentedKey = regexp.MustCompile(`^(\s*)# ( *(?:- )?[a-z_]+:(?: .*)?| +- .*| +# .*)$`)

func uncomment(sample string) string {
	var b strings.Builder
	for line := range strings.Lines(sample) {
		b.WriteString(commentedKey.ReplaceAllString(strings.TrimSuffix(line, "\n"), "$1$2") + "\n")
	}
	return b.String()
}

func collect(n *yaml.Node, prefix string, all map[string]string) {
	// The comment above a list's first item is the item's, and so is that above its first key.
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		comment := key.HeadComment
		// The first comment of the file belongs to the file; only what follows the last empty line is the key's.
		if cut := strings.LastIndex(comment, "\n\n"); cut >= 0 {
			comment = comment[cut+2:]
		}
		all[path] = plain(comment)
		switch {
		case value.Kind == yaml.MappingNode:
			collect(value, path+".", all)
		case value.Kind == yaml.SequenceNode && len(value.Content) > 0 && value.Content[0].Kind == yaml.MappingNode:
			collect(value.Content[0], path+"[].", all)
		}
	}
}

// plain takes the comment signs away.
func plain(comment string) string {
	var lines []string
	for line := range strings.Lines(comment) {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(strings.TrimRight(line, "\n"), "#"), " "))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
