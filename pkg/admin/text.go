package admin

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The ANSI colours in use (ECMA-48 §8.3.117).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	yellow = "33"
)

func (r *renderer) paint(colour, s string) string {
	if !r.opts.Color || colour == "" || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// visible replaces all that is not printable, above all escape sequences.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

func width(s string) int { return utf8.RuneCountInString(s) }

// shorten takes from the middle: the ends of ids and addresses tell them apart.
func shorten(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	if most < 3 {
		return string(runes[:max(most, 0)])
	}
	left := (most - 1) / 2
	return string(runes[:left]) + "…" + string(runes[len(runes)-(most-1-left):])
}

// shortenAddress takes the head of an IPv6 address, which is the same all over a private network; the head of a name is not.
func shortenAddress(s string, most int) string {
	if runes := []rune(s); s[:min(len(s), 1)] == "[" && len(runes) > most && most > 0 {
		return "…" + string(runes[len(runes)-most+1:])
	}
	return shorten(s, most)
}

// wrap breaks text between words; a word that is wider than most stays whole. Most below 20 means no limit.
func wrap(text string, most int) []string {
	if most < 20 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && width(line)+1+width(word) > most {
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

// shortAge gives seconds in at most four characters up to 99 days: 7s, 12m, 3h, 4d. Below an hour it is cut off, not rounded.
func shortAge(s float64) string {
	switch {
	case s < 60:
		return strconv.Itoa(int(max(s, 0))) + "s"
	case s < 3600:
		return strconv.Itoa(int(s/60)) + "m"
	case s < 2*86400:
		return strconv.Itoa(int(s/3600)) + "h"
	}
	return strconv.Itoa(int(s/86400)) + "d"
}

// shortLatency gives milliseconds with two or three significant digits.
func shortLatency(ms float64) string {
	switch {
	case ms < 0.9995:
		return fmt.Sprintf("%.0fµs", ms*1e3)
	case ms < 9.95:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0fms", ms)
	case ms < 99_950:
		return fmt.Sprintf("%.1fs", ms/1e3)
	}
	return shortAge(ms / 1e3)
}

// shortRate gives calls per second in at most five characters.
func shortRate(perSecond float64) string {
	switch {
	case perSecond < 0.05:
		return "0"
	case perSecond < 99.95:
		return fmt.Sprintf("%.1f", perSecond)
	case perSecond < 9999.5:
		return fmt.Sprintf("%.0f", perSecond)
	}
	return fmt.Sprintf("%.0fk", perSecond/1e3)
}
