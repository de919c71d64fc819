package standin

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// setSecrets keeps what `fly secrets import` and `fly secrets set NAME=-` would read from standard input.
func (p *Platform) setSecrets(args []string, stdin string) error {
	if !slices.Contains(args, "--stage") {
		return errors.New("the Machines would be restarted before the deploy")
	}
	read := make(map[string]string)
	if args[1] == "set" {
		name, ok := strings.CutSuffix(args[len(args)-1], "=-")
		if !ok {
			return fmt.Errorf("a secret on the command line: %q", args)
		}
		read[name] = strings.TrimSpace(stdin) // helpers.ReadStdin
	} else {
		var err error
		if read, err = importSecrets(stdin); err != nil {
			return err
		}
	}
	if p.Secrets == nil {
		p.Secrets = make(map[string]string)
	}
	for name, value := range read {
		p.Secrets[name] = value
	}
	return nil
}

// importSecrets reads NAME=VALUE lines by the rules of flyctl's internal/command/secrets/parser.go: lines end in \n or \r\n; # begins
// a comment where an even number of double quotes stands before it; """ opens a value of several lines, whose end is a line
// that ends in """; otherwise one pair of quotes around the value is dropped. Lines of 64 KiB or more end the reading silently.
func importSecrets(text string) (map[string]string, error) {
	const triple = `"""`
	all := make(map[string]string)
	lines := bufio.NewScanner(strings.NewReader(text))
	open, value := "", ""
	for lines.Scan() {
		line := lines.Text()
		if open != "" {
			if rest, last := strings.CutSuffix(line, triple); last {
				all[open] = value + rest
				open = ""
			} else {
				value += line + "\n"
			}
			continue
		}
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		name, v, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("secrets must be provided as NAME=VALUE pairs (%s is invalid)", line)
		}
		name, v = strings.TrimSpace(name), strings.TrimLeft(v, " ")
		if before, _, comment := strings.Cut(v, "#"); comment && strings.Count(before, `"`)%2 == 0 {
			v = strings.TrimRight(before, " ")
		}
		within := func(quote string) (string, bool) {
			if len(v) < 2*len(quote) || !strings.HasPrefix(v, quote) || !strings.HasSuffix(v, quote) {
				return "", false
			}
			return v[len(quote) : len(v)-len(quote)], true
		}
		switch inner, whole := within(triple); {
		case whole:
			all[name] = inner
		case strings.HasPrefix(v, triple):
			open, value = name, strings.TrimPrefix(v, triple)+"\n"
		default:
			if inner, ok := within(`"`); ok {
				v = inner
			} else if inner, ok := within(`'`); ok {
				v = inner
			}
			all[name] = v
		}
	}
	return all, nil
}
