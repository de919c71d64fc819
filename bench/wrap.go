package main

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// lineWidth is how wide the page's prose is, in characters.
const lineWidth = 130

// paragraph writes text in lines that each begin with prefix, and an empty line.
func paragraph(b *bytes.Buffer, prefix, text string) {
	wrap(b, prefix, prefix, text)
	b.WriteByte('\n')
}

// listItem writes text as an item of a list.
func listItem(b *bytes.Buffer, text string) { wrap(b, "- ", "  ", text) }

func wrap(b *bytes.Buffer, first, next, text string) {
	line := first
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > lineWidth {
			b.WriteString(line + "\n")
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	b.WriteString(line + "\n")
}
