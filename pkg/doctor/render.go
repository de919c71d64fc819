package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// RenderOptions say how a report is shown.
type RenderOptions struct {
	// Width is the number of columns that there are; 0 means no limit.
	Width int
	// Color allows ANSI colours (ECMA-48 §8.3.117).
	Color bool
}

// levelWidth is that of the longest level.
const levelWidth = len("warning")

// Render shows a report to people: the findings by check, with the ID of each that is not OK, and a last line that sums up. What
// came from elsewhere cannot steer the terminal: other than printable characters are replaced.
func Render(w io.Writer, r *Report, o RenderOptions) error {
	p := printer{o: o}
	p.line("1", "", "flyproxy doctor "+r.Version)
	for _, check := range Checks() {
		p.check(check, r.Findings)
	}
	p.summary(r)
	_, err := io.WriteString(w, p.b.String())
	return err
}

// check writes the findings of one check. What several in a row are about is written once, above them.
func (p *printer) check(name string, all []Finding) {
	var ours []Finding
	for i := range all {
		if all[i].Check == name {
			ours = append(ours, all[i])
		}
	}
	if len(ours) == 0 {
		return
	}
	p.b.WriteByte('\n')
	p.line("1", "", name)
	for i, f := range ours {
		subject := f.Subject
		same := func(other int) bool {
			return subject != "" && other >= 0 && other < len(ours) && ours[other].Subject == subject
		}
		indent := "  "
		if same(i-1) || same(i+1) {
			if !same(i - 1) {
				for _, l := range wrap(visible(f.Subject), p.o.Width-2) {
					p.b.WriteString("  " + l + "\n")
				}
			}
			f.Subject, indent = "", "    "
		}
		p.finding(indent, &f)
	}
}

type printer struct {
	b strings.Builder
	o RenderOptions
}

// line writes one line as it is.
func (p *printer) line(colour, indent, text string) {
	p.b.WriteString(indent + p.paint(colour, visible(text)) + "\n")
}

// finding writes the level, then subject and what was found, then the ID and what to do, one below the other.
func (p *printer) finding(indent string, f *Finding) {
	colour := map[Level]string{OK: "32", Note: "36", Warning: "33", Error: "31"}[f.Level]
	head := indent + p.paint(colour, f.Level.String()) + strings.Repeat(" ", levelWidth-len(f.Level.String())+2)
	indent += strings.Repeat(" ", levelWidth+2)
	text := f.Found
	if f.Subject != "" {
		text = f.Subject + ": " + f.Found
	}
	for i, l := range wrap(visible(text), p.o.Width-len(indent)) {
		if i > 0 {
			head = indent
		}
		p.b.WriteString(head + l + "\n")
	}
	if f.Do != "" {
		for i, l := range wrap(visible(f.Do), p.o.Width-len(indent)-3) {
			mark := "   "
			if i == 0 {
				mark = "-> "
			}
			p.b.WriteString(indent + p.paint("1", mark+l) + "\n")
		}
	}
	if f.Level >= Warning {
		p.line("2", indent, "["+f.ID+"]")
	}
}

func (p *printer) summary(r *Report) {
	var parts []string
	for _, l := range []Level{Error, Warning, Note} {
		switch n := r.count(l); {
		case n == 1:
			parts = append(parts, "1 "+l.String())
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", n, l))
		}
	}
	parts = append(parts, fmt.Sprintf("%d ok", r.count(OK)))
	text := fmt.Sprintf("%s; %.1f s", strings.Join(parts, ", "), float64(r.TookMS)/1000)
	p.b.WriteByte('\n')
	p.line("1", "", text)
	if r.Worst >= Warning {
		for _, l := range wrap("What the words in brackets mean stands in docs/troubleshooting.md.", p.o.Width) {
			p.line("", "", l)
		}
	}
}

func (p *printer) paint(colour, s string) string {
	if !p.o.Color || colour == "" || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// visible replaces all that is not printable, above all escape sequences.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case r == '\n' || r == '\t':
			return ' '
		}
		return '?'
	}, s)
}

// wrap breaks text between words; a word that is wider than most stays whole. Most below 20 means no limit.
func wrap(text string, most int) []string {
	if most < 20 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > most {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
